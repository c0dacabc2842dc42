//! Traffic while something fails.

use std::time::Instant;

use anyhow::{Result, ensure};
use tests::harness::{Agent, Flow, Traffic, eventually};

use crate::facts::Facts;
use crate::shop::{Shop, microseconds, service};

/// Short connections that have to be made while no agent runs, so that the outage is a real one.
const CONNECTIONS_WITHOUT_AGENT: u64 = 200;

/// Malformed objects: a port out of range, a spec that is none.
const MALFORMED: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: broken
  namespace: shop
spec:
  clusterIP: 10.96.0.99
  ports:
    - port: 99999
---
apiVersion: v1
kind: Service
metadata:
  name: confused
  namespace: shop
spec: [this, is, not, a, spec]
";

/// Not even YAML.
const UNREADABLE: &str = "kind: Service\n  metadata: {{{\n";

pub(crate) fn kill_and_restart(facts: &mut Facts, shop: &mut Shop) {
    facts.section("kill -9 of the agent on node1 under load, then its restart");
    let mut flows = Vec::new();
    if !facts.check(
        "start long connections, UDP flows and short connections",
        || {
            flows = start_load(shop)?;
            Ok(format!(
                "{} clients on pods, nodes and outside",
                flows.len()
            ))
        },
    ) {
        return;
    }
    facts.check("connections that begin while no agent runs", || {
        if let Some(agent) = shop.agents.get_mut("node1") {
            agent.process().kill()?;
        }
        let traffic = Traffic::connect(service(10, false), 80)
            .count(CONNECTIONS_WITHOUT_AGENT)
            .every_milliseconds(2);
        let report = shop.run("shopper", &traffic)?;
        ensure!(
            report.is_clean(),
            "{:?} of {}",
            report.errors,
            report.attempts
        );
        Ok(format!(
            "{} of {} answered",
            report.answered, report.attempts
        ))
    });
    facts.check("the agent starts again and is ready", || {
        let begun = Instant::now();
        let agent = shop.start("node1")?;
        shop.agents.insert("node1".to_owned(), agent);
        Ok(format!("{} ms", begun.elapsed().as_millis()))
    });
    facts.check("it finds the kernel as it left it", || {
        no_operations(shop.agent("node1")?)
    });
    for (tried, flow) in flows {
        facts.check(tried, || {
            let report = flow.stop()?;
            ensure!(
                report.is_clean(),
                "{} connections lost, {:?} of {} exchanges",
                report.lost_connections,
                report.errors,
                report.attempts
            );
            let slowest = microseconds(report.latency.slowest_microseconds);
            Ok(format!(
                "0 of {} failed; slowest {slowest}",
                report.attempts
            ))
        });
    }
}

fn start_load(shop: &Shop) -> Result<Vec<(&'static str, Flow)>> {
    let node1 = |v6| shop.lab.address("node1", v6);
    let client = shop.lab.place("client");
    let shopper = shop.lab.place("shopper");
    let load = [
        (
            "long TCP connections of a pod",
            shopper.clone(),
            Traffic::hold(service(10, false), 80).workers(8),
        ),
        (
            "long TCP connections balanced packet by packet",
            shop.uncovered(),
            Traffic::hold(service(10, true), 80).workers(8),
        ),
        (
            "long TCP connections through NodePort, IPv4",
            client.clone(),
            Traffic::hold(node1(false), 30080).workers(8),
        ),
        (
            "long TCP connections through NodePort, IPv6",
            client.clone(),
            Traffic::hold(node1(true), 30080).workers(8),
        ),
        (
            "UDP flows of a pod",
            shopper.clone(),
            Traffic::udp(service(13, false), 53).workers(4),
        ),
        (
            "UDP flows through NodePort",
            client.clone(),
            Traffic::udp(node1(true), 30053).workers(4),
        ),
        (
            "short TCP connections of a pod",
            shopper.clone(),
            Traffic::connect(service(10, true), 80).every_milliseconds(3),
        ),
        (
            "short TCP connections through NodePort",
            client.clone(),
            Traffic::connect(node1(false), 30080).every_milliseconds(3),
        ),
    ];
    load.into_iter()
        .map(|(tried, place, traffic)| Ok((tried, Flow::start(&place, &traffic)?)))
        .collect()
}

/// A restart with an unchanged cluster writes nothing.
pub(crate) fn no_operations(agent: &Agent) -> Result<String> {
    let status = agent.status()?;
    let operations = status["apply"]["operations_total"].as_u64();
    ensure!(
        operations == Some(0),
        "map operations since its start: {operations:?}"
    );
    Ok("0 map operations since its start".to_owned())
}

pub(crate) fn malformed_manifest(facts: &mut Facts, shop: &Shop) {
    facts.section("A malformed manifest harms nothing else");
    let cases = [
        (
            "malformed objects",
            MALFORMED,
            &["shop/broken", "99999", "shop/confused"][..],
        ),
        ("a file that is not YAML", UNREADABLE, &["broken.yaml"]),
    ];
    for (tried, text, named) in cases {
        facts.check(&format!("web, beside {tried}"), || {
            let traffic = Traffic::connect(service(10, false), 80).every_milliseconds(2);
            let flow = Flow::start(shop.lab.place("shopper"), &traffic)?;
            shop.lab.manifests().write_text("broken.yaml", text)?;
            await_status(shop, |status| {
                named.iter().all(|word| status.contains(word))
            })?;
            let report = flow.stop()?;
            ensure!(
                report.is_clean(),
                "{:?} of {}",
                report.errors,
                report.attempts
            );
            Ok(format!(
                "0 of {} connections failed; status names {}",
                report.attempts,
                named.join(", ")
            ))
        });
        facts.check("the status is clean once it is gone", || {
            shop.lab.manifests().remove("broken.yaml")?;
            await_status(shop, |status| {
                !named.iter().any(|word| status.contains(word))
            })?;
            Ok("no problem left in status".to_owned())
        });
    }
}

fn await_status(shop: &Shop, wanted: impl Fn(&str) -> bool) -> Result<()> {
    eventually("the status follows", || {
        let status = shop.agent("node1")?.status()?;
        // The measured times of a whole status may have any digits.
        let named = format!("{} {}", status["problems"], status["sources"]);
        ensure!(wanted(&named), "{named}");
        Ok(Some(()))
    })
}
