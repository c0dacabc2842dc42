//! Many pods at once beside an agent with policy, and plugins that are killed anywhere.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::{Dice, Flow, Place, Process, Sandbox, Traffic, eventually, ip};

use super::{NAMESPACE, Network, PORT};
use crate::routes::Families;

const PODS: usize = 40;
/// Invocations under way at once.
const PARALLEL: usize = 16;
/// A plugin that has not ended within a random time up to this is killed.
const KILLED_WITHIN_MICROSECONDS: u64 = 1_000_000;

/// How full the policy tables are. Connections end by themselves, and what a rule was called is
/// remembered for reports of a moment ago.
#[track_caller]
fn policy(network: &Network) -> Vec<(String, u64)> {
    let status = network.agents["node1"].status().unwrap();
    let rows = status["maps"].as_array().unwrap().iter();
    let tables = rows.filter_map(|row| {
        let name = row["map"].as_str()?.to_lowercase();
        let passing = ["connections", "rules"]
            .iter()
            .any(|part| name.contains(part));
        let counts = name.contains("policy") && !passing;
        counts.then(|| (name, row["used"].as_u64().unwrap()))
    });
    tables.collect()
}

#[test]
fn a_storm_beside_an_agent_with_policy_leaves_nothing_behind() {
    let mut network = Network::build(Families::Both, 1500, &["--run-firewall"]);
    let names: Vec<String> = (0..PODS).map(|n| format!("s{n}")).collect();
    let web = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
    network.enforce(&[(
        "web",
        json!({"policyTypes": ["Ingress"], "ingress": [{"from": web}]}),
    )]);
    network.start_ready("node1");
    network.lab.await_plugin("node1").unwrap();
    let before = policy(&network);
    assert!(!before.is_empty());
    let pods: Vec<_> = names.iter().map(|name| (&**name, "node1", "web")).collect();
    network.announce(&pods);

    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let dice = Dice::new(seed);
    let (cut, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let killed = |command: &str, sandbox: &Sandbox| {
        let mut plugin = network.lab.start_installed(command, sandbox).unwrap();
        thread::sleep(Duration::from_micros(dice.roll(KILLED_WITHIN_MICROSECONDS)));
        plugin.kill().unwrap();
        plugin.wait().unwrap().success()
    };
    let delete = |sandbox: &Sandbox| {
        let outcome = network.lab.invoke_plugin("DEL", sandbox).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    };
    // A fourth stays; the others are cut short, some with their namespace gone before the DEL.
    let stays = |n: usize| n.is_multiple_of(4);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(name) = names.get(n) else { break };
                    let sandbox = Sandbox::new("node1", NAMESPACE, name);
                    network.lab.create_sandbox(&sandbox).unwrap();
                    if stays(n) {
                        // On a busy machine the agent may ask for another try.
                        eventually("the pod has its network", || {
                            network
                                .lab
                                .invoke_plugin("ADD", &sandbox)?
                                .result()
                                .map(Some)
                        })
                        .unwrap();
                        continue;
                    }
                    let ended = killed("ADD", &sandbox);
                    [&cut, &whole][usize::from(ended)].fetch_add(1, Ordering::Relaxed);
                    let gone_before = dice.roll(3) == 0;
                    if gone_before {
                        network.lab.end_sandbox(&sandbox).unwrap();
                    }
                    killed("DEL", &sandbox);
                    delete(&sandbox);
                    if !gone_before {
                        network.lab.end_sandbox(&sandbox).unwrap();
                    }
                }
            });
        }
    });
    let (cut, whole) = (cut.into_inner(), whole.into_inner());
    eprintln!("{cut} additions cut short, {whole} whole");
    assert!(cut > 0, "the storm has to hit some");

    let staying: Vec<Sandbox> = (0..PODS)
        .filter(|n| stays(*n))
        .map(|n| Sandbox::new("node1", NAMESPACE, &names[n]))
        .collect();
    // For each an interface, a lease, two routes and two neighbours.
    let left = network.pods_of_plugin("node1");
    assert_eq!(left.len(), staying.len() * 6, "{left:#?}");
    // The rules are in force at those that stay: their like is let in, another pod is not.
    let [target, like] = [0, 1].map(|n| network.lab.place_of(&staying[n]));
    let mut server = target.traffic();
    server.args(["serve", "--name", "target", "--port", &PORT.to_string()]);
    let server = Process::listening("target", &mut server).unwrap();
    let address = ip(
        &target.namespace,
        &["-4", "-j", "addr", "show", "dev", "eth0"],
    )
    .unwrap();
    let address: Value = serde_json::from_str(&address).unwrap();
    let address: IpAddr = address[0]["addr_info"][0]["local"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let asks = |place: &Place| {
        let traffic = Traffic::connect(address, PORT);
        Flow::run(place, &traffic.count(2).timeout_milliseconds(500)).unwrap()
    };
    assert!(asks(&like).is_clean(), "{:?}", asks(&like));
    assert_eq!(asks(network.lab.place("a")).answered, 0);
    drop(server);

    for sandbox in &staying {
        delete(sandbox);
        network.lab.end_sandbox(sandbox).unwrap();
    }
    network.announce(&[]);
    assert_eq!(network.pods_of_plugin("node1"), Vec::<String>::new());
    eventually("policy is as before", || {
        let now = policy(&network);
        anyhow::ensure!(now == before, "{now:?}, before {before:?}");
        Ok(Some(()))
    })
    .unwrap();
    let ours = format!("{}-s", network.lab.name());
    let namespaces = ip(&network.lab.place("node1").namespace, &["netns"]).unwrap();
    let left: Vec<_> = namespaces
        .lines()
        .filter(|line| line.starts_with(&ours))
        .collect();
    assert_eq!(left, [""; 0]);
    let (code, body) = network.agents["node1"].get("/readyz").unwrap();
    assert_eq!(code, 200, "{body}");
    eventually("no interface of a pod is known any more", || {
        let devices = network.agents["node1"].status()?["devices"].to_string();
        anyhow::ensure!(!devices.contains("\"fl"), "{devices}");
        Ok(Some(()))
    })
    .unwrap();
    let log = network.agents["node1"].log();
    assert!(
        !log.contains("panicked") && !log.contains(" ERROR "),
        "{log}"
    );
}
