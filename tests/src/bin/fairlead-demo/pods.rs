//! Pods made by the CNI plugin that the agents install, on nodes in two subnets.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::harness::{
    Flow, Place, Process, Sandbox, Traffic, eventually, ip, plugin_inventory, poll,
};

use crate::facts::Facts;
use crate::shop::{Shop, answered_by};

/// Namespace of the pods, as in the manifests.
const NAMESPACE: &str = "shop";
const OVERLAY: &str = "fairlead-vxlan";
/// Connections of a look at the overlay's counters.
const CONNECTIONS: u64 = 20;
/// What a connection takes at least: SYN, acknowledgement, question, end.
const PACKETS_EACH: u64 = 4;
/// Where the outside client answers.
const OUTSIDE_PORT: u16 = 9090;
/// A route that somebody removes is back within this time.
const REPAIRED: Duration = Duration::from_secs(1);

/// A pod of this scene, and what its node had before it.
struct Fresh {
    sandbox: Sandbox,
    place: Place,
    before: BTreeSet<String>,
}

/// Makes the pods of a node through the plugin; those of node1 while no agent runs there. Answers
/// whether it worked.
pub(crate) fn attach(facts: &mut Facts, shop: &Shop, node: &str) -> bool {
    facts.check(&format!("{node}: ADD of each of its pods"), || {
        // The plugin is beside the agent's files.
        shop.lab.router_flags(node)?;
        if shop.agents.contains_key(node) {
            shop.lab.await_plugin(node)?;
        }
        let mut times = shop.lab.attach_pods(node, NAMESPACE)?;
        times.sort_unstable();
        let slowest = times.last().context("no pod")?.as_millis();
        let median = times[times.len() / 2].as_millis();
        Ok(format!(
            "{} pods; median {median} ms, slowest {slowest} ms",
            times.len()
        ))
    })
}

/// Each agent knows the ways to the others' pods.
pub(crate) fn routes(facts: &mut Facts, shop: &Shop) {
    facts.check("each node: routes to the pods of the others", || {
        for name in shop.names() {
            await_routes(shop, &name)?;
        }
        ways(shop)
    });
}

/// Waits until a node has the routes of both families to both others.
fn await_routes(shop: &Shop, node: &str) -> Result<()> {
    eventually("the routes are there", || {
        let routing = shop.agent(node)?.status()?["routing"].clone();
        let whole = routing["in_kernel"] == 4 && routing["failures"] == json!([]);
        ensure!(whole, "{node}: {routing}");
        Ok(Some(()))
    })
}

/// The ways that node1 says it goes, of IPv4.
fn ways(shop: &Shop) -> Result<String> {
    let routing = shop.agent("node1")?.status()?["routing"].clone();
    let way = |network: &str, begins: &str| {
        let rows = routing["routes"].as_array().into_iter().flatten();
        let mut of_network = rows.filter(|row| row["network"] == network);
        let way = of_network.next().and_then(|row| row["way"].as_str());
        let way = way.filter(|way| way.starts_with(begins));
        way.map(str::to_owned)
            .with_context(|| format!("no way {begins:?} to {network}: {}", routing["routes"]))
    };
    let near = way("10.244.2.0/24", "direct")?;
    let far = way("10.244.3.0/24", "overlay")?;
    Ok(format!("node1: to node2 {near}; to node3 {far}"))
}

/// A fresh pod on each node: made, reaching others, and gone without a trace.
pub(crate) fn pods(facts: &mut Facts, shop: &Shop) {
    facts.section("Pods of the CNI plugin, on nodes in two subnets");
    let mut pods = Vec::new();
    for (index, node) in shop.names().iter().enumerate() {
        facts.check(&format!("{node}: ADD of a new pod"), || {
            let (pod, seen) = add(shop, node, &format!("fresh-{}", index + 1))?;
            pods.push(pod);
            Ok(seen)
        });
    }
    if let [near, _, far] = &pods[..] {
        reach(facts, shop, near, far);
    }
    facts.check("node1: the route to node3 is deleted by hand", || {
        repaired(shop)
    });
    for pod in pods {
        let tried = format!("{}: DEL of that pod", pod.sandbox.node);
        facts.check(&tried, || delete(shop, pod));
    }
}

fn add(shop: &Shop, node: &str, name: &str) -> Result<(Fresh, String)> {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"phase": "Pending"},
    });
    let manifests = shop.lab.manifests();
    manifests.write(&format!("{name}.yaml"), &[manifest])?;
    let before = on_node(shop, node)?;
    let sandbox = Sandbox::new(node, NAMESPACE, name);
    let place = shop.lab.create_sandbox(&sandbox)?;
    let begun = Instant::now();
    let result = shop.lab.invoke_plugin("ADD", &sandbox)?.result()?;
    let took = begun.elapsed();
    let addresses: Vec<_> = result["ips"]
        .as_array()
        .context("a result without addresses")?
        .iter()
        .filter_map(|ip| ip["address"].as_str())
        .collect();
    ensure!(addresses.len() == 2, "{result}");
    let seen = format!("{} in {} ms", addresses.join(", "), took.as_millis());
    let pod = Fresh {
        sandbox,
        place,
        before,
    };
    Ok((pod, seen))
}

/// Who reaches whom, by which way, and as whom.
fn reach(facts: &mut Facts, shop: &Shop, near: &Fresh, far: &Fresh) {
    for (tried, to, v6, by_overlay) in [
        (
            "to a pod of node2: without the overlay",
            "web-3",
            false,
            false,
        ),
        (
            "to a pod of node3, in the other subnet: IPv4",
            "web-4",
            false,
            true,
        ),
        (
            "to a pod of node3, in the other subnet: IPv6",
            "web-4",
            true,
            true,
        ),
    ] {
        facts.check(&format!("fresh-1 {tried}"), || {
            let earlier = sent_by_overlay(shop)?;
            let traffic = Traffic::connect(shop.lab.address(to, v6), 8080)
                .count(CONNECTIONS)
                .every_milliseconds(0);
            let report = Flow::run(&near.place, &traffic)?;
            let answered = answered_by(&report, &[to])?;
            let packets = sent_by_overlay(shop)? - earlier;
            let many = packets >= CONNECTIONS * PACKETS_EACH;
            // A neighbour's or multicast's packet may be among them.
            let few = packets < CONNECTIONS;
            ensure!(
                if by_overlay { many } else { few },
                "{answered}; {packets} packets through {OVERLAY}"
            );
            Ok(format!("{answered}; {packets} packets through {OVERLAY}"))
        });
    }
    let mut outside = None;
    for (from, pod) in [("node1", near), ("node3", far)] {
        let tried = format!("{} to the outside: seen as {from}", pod.sandbox.name);
        facts.check(&tried, || {
            if outside.is_none() {
                outside = Some(listen(shop)?);
            }
            let traffic = Traffic::connect(shop.lab.address("client", false), OUTSIDE_PORT);
            let report = Flow::run(&pod.place, &traffic.count(CONNECTIONS))?;
            answered_by(&report, &["outside"])?;
            let node = shop.lab.address(from, false).to_string();
            ensure!(
                report.seen_as.iter().eq([&node]),
                "seen as {:?}",
                report.seen_as
            );
            Ok(format!(
                "{} of {}: {node}",
                report.answered, report.attempts
            ))
        });
    }
}

/// Somebody outside who answers, and says who asked.
fn listen(shop: &Shop) -> Result<Process> {
    let mut command = shop.lab.place("client").traffic();
    command
        .args(["serve", "--name", "outside"])
        .args(["--port", &OUTSIDE_PORT.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Process::listening("outside", &mut command)
}

/// Packets that node1 gave to the overlay.
fn sent_by_overlay(shop: &Shop) -> Result<u64> {
    let node = &shop.lab.place("node1").namespace;
    let text = ip(node, &["-j", "-s", "link", "show", "dev", OVERLAY])?;
    let links: Value = serde_json::from_str(&text)?;
    let packets = links[0]["stats64"]["tx"]["packets"].as_u64();
    packets.with_context(|| format!("no counter in {text}"))
}

fn repaired(shop: &Shop) -> Result<String> {
    let node = &shop.lab.place("node1").namespace;
    let shown = || ip(node, &["route", "show", "10.244.3.0/24"]);
    let before = shown()?;
    ensure!(before.contains(OVERLAY), "the route was {before:?}");
    node.ip("route del 10.244.3.0/24\n")?;
    let begun = Instant::now();
    let back = poll(REPAIRED, || shown().ok().filter(|now| *now == before));
    let took = begun.elapsed();
    ensure!(
        back.is_some() && took < REPAIRED,
        "not back after {} ms",
        took.as_millis()
    );
    Ok(format!("back after {} ms", took.as_millis()))
}

fn delete(shop: &Shop, pod: Fresh) -> Result<String> {
    let Fresh {
        sandbox, before, ..
    } = pod;
    let with = on_node(shop, &sandbox.node)?;
    let made = with.difference(&before).count();
    let begun = Instant::now();
    let outcome = shop.lab.invoke_plugin("DEL", &sandbox)?;
    let took = begun.elapsed();
    ensure!(outcome.code == Some(0), "{outcome:?}");
    let after = on_node(shop, &sandbox.node)?;
    let left: Vec<_> = after.symmetric_difference(&before).collect();
    ensure!(made > 0 && left.is_empty(), "{made} made, left: {left:?}");
    shop.lab.end_sandbox(&sandbox)?;
    let manifests = shop.lab.manifests();
    manifests.remove(&format!("{}.yaml", sandbox.name))?;
    Ok(format!(
        "in {} ms; nothing left of {made} interfaces, routes, neighbours, leases",
        took.as_millis()
    ))
}

/// What the plugin made on a node.
fn on_node(shop: &Shop, node: &str) -> Result<BTreeSet<String>> {
    let leases = shop.lab.cni(node, "leases/fairlead/leases");
    let found = plugin_inventory(&shop.lab.place(node).namespace, &leases)?;
    Ok(found.into_iter().collect())
}
