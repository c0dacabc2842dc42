//! Full maps.

use tests::harness::{Agent, AgentOptions, ServiceSpec, Traffic, eventually};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::expect_clean;

#[test]
fn a_full_map_keeps_what_works_and_shows_it() {
    // Two frontends for each Service: IPv4 and IPv6.
    let services: Vec<_> = (1..=2)
        .map(|n| {
            ServiceSpec::new(&format!("s{n}"), n)
                .tcp(80, 8080)
                .endpoints(&["a1", "b1"])
        })
        .collect();
    let options = AgentOptions::flags(&["--max-services", "4"]);
    let mut cluster = Cluster::start_with(options, &services.iter().collect::<Vec<_>>());
    let witness = cluster.flow(
        Covered("pod-a"),
        &Traffic::connect(services[0].ip(false), 80).every_milliseconds(2),
    );
    let surplus: Vec<_> = (3..=8)
        .map(|n| {
            ServiceSpec::new(&format!("s{n}"), n)
                .tcp(80, 8080)
                .endpoints(&["a1", "b1"])
        })
        .collect();
    for service in &surplus {
        cluster.lab.apply(service).unwrap();
    }
    eventually("the status says that a map is full", || {
        let status = cluster.agent("node1").status()?.to_string();
        anyhow::ensure!(status.contains("max-services"), "{status}");
        Ok(Some(()))
    })
    .unwrap();
    let (_, metrics) = cluster.agent("node1").get("/metrics").unwrap();
    assert!(metrics.contains("full"), "{metrics}");
    for service in &services {
        for v6 in [false, true] {
            for from in [Covered("pod-a"), Uncovered("pod-b")] {
                cluster.expect_spread(from, Traffic::connect(service.ip(v6), 80), &["a1", "b1"]);
            }
        }
    }
    for service in &surplus {
        cluster.lab.manifests().remove(&service.file()).unwrap();
    }
    eventually("the agent is ready once the surplus is gone", || {
        let (code, body) = cluster.agent("node1").get("/readyz")?;
        anyhow::ensure!(code == 200, "{body}");
        Ok(Some(()))
    })
    .unwrap();
    expect_clean(witness);
}

fn many() -> Vec<ServiceSpec> {
    let service = |n| {
        let spec = ServiceSpec::new(&format!("s{n:03}"), n);
        spec.tcp(80, 8080).tcp(81, 8080).endpoints(&["a1", "b1"])
    };
    (1..=150).map(service).collect()
}

#[test]
fn many_services_at_once_are_served_and_a_restart_writes_none_of_them() {
    let services = many();
    let services: Vec<_> = services.iter().collect();
    let mut cluster = Cluster::start(&services);
    let spread = |cluster: &Cluster| {
        for service in services.iter().step_by(30) {
            let traffic = Traffic::connect(service.ip(false), 80);
            cluster.expect_spread(Uncovered("pod-a"), traffic, &["a1", "b1"]);
        }
    };
    spread(&cluster);
    cluster.agent("node1").process().kill().unwrap();
    cluster.restart("node1");
    let status = cluster.agent("node1").status().unwrap();
    assert_eq!(status["apply"]["operations_total"], 0, "{status}");
    spread(&cluster);
}

#[test]
fn of_many_services_at_once_as_many_are_served_as_there_is_room_for() {
    let services = many();
    let options = AgentOptions::flags(&["--max-services", "400"]);
    let cluster = Cluster::without_agents(options, &services.iter().collect::<Vec<_>>());
    let agent = Agent::start(&cluster.lab, "node1", &cluster.options).unwrap();
    // One of each family for every port: 600.
    eventually("400 are served, 200 are reported", || {
        let status = agent.status()?;
        let failures = status["apply"]["failures"].as_array();
        anyhow::ensure!(failures.is_some_and(|list| list.len() == 200), "{status}");
        Ok(Some(()))
    })
    .unwrap();
}
