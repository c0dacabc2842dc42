//! Full maps.

use serde_json::json;
use tests::harness::{Agent, AgentOptions, ServiceSpec, Traffic, eventually};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{expect_clean, tcp_and_udp};

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
    let (code, body) = cluster.agent("node1").get("/readyz").unwrap();
    assert_eq!(code, 200, "a tenant holds up no rollout: {body}");
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
    eventually("nothing is amiss once the surplus is gone", || {
        let status = cluster.agent("node1").status()?;
        let amiss = [&status["apply"]["failures"], &status["problems"]];
        let is_clean = amiss
            .iter()
            .all(|list| list.as_array().is_none_or(Vec::is_empty));
        anyhow::ensure!(is_clean, "{status}");
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

/// A Service of the tenant who asks for too much, on two ports of both families.
fn greedy(number: u8) -> ServiceSpec {
    let spec = ServiceSpec::new(&format!("greedy{number:02}"), number).namespace("greedy");
    spec.tcp(80, 8080).tcp(81, 8080).endpoints(&["a1", "b1"])
}

/// Those who are told that there is no room for something of theirs.
fn told(agent: &Agent) -> anyhow::Result<Vec<String>> {
    let status = agent.status()?;
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let objects = problems
        .iter()
        .filter(|problem| problem.to_string().contains("no room"));
    Ok(objects.map(ToString::to_string).collect())
}

#[test]
fn who_fills_a_table_takes_nothing_away_and_waits_where_all_begin_anew() {
    let web = ServiceSpec::new("web", 1).tcp(80, 8080);
    let before = web.clone().endpoints(&["a1", "b1"]);
    let much: Vec<_> = (10..16).map(greedy).collect();
    // Of 16 ports, the others take all but two.
    let options = AgentOptions::flags(&["--max-services", "16"]);
    let mut cluster = Cluster::start_with(options, &[&before]);
    let witness = cluster.flow(
        Covered("pod-a"),
        &Traffic::connect(web.ip(false), 80).every_milliseconds(2),
    );
    for service in &much {
        cluster.lab.apply(service).unwrap();
    }
    let late = ServiceSpec::new("late", 2).tcp(80, 8080);
    let late = late.endpoints(&["a1", "b1"]);
    eventually("somebody has no room", || {
        Ok((!told(cluster.agent("node1"))?.is_empty()).then_some(()))
    })
    .unwrap();
    cluster.lab.apply(&late).unwrap();
    eventually("who comes later is told", || {
        let told = told(cluster.agent("node1"))?.concat();
        Ok(told.contains("lab/late").then_some(()))
    })
    .unwrap();
    let expect = |cluster: &Cluster, service: &ServiceSpec, pods: &[&str]| {
        for v6 in [false, true] {
            for from in [Covered("pod-a"), Uncovered("pod-a")] {
                cluster.await_spread(from, Traffic::connect(service.ip(v6), 80), pods);
            }
        }
    };
    cluster
        .lab
        .apply(&web.clone().endpoints(&["a1", "a2"]))
        .unwrap();
    expect(&cluster, &web, &["a1", "a2"]);
    // A new node has no tables yet; the greedy one's name is before the others'.
    cluster.agent("node1").process().kill().unwrap();
    let cleaned = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.error);
    cluster.restart("node1");
    expect(&cluster, &web, &["a1", "a2"]);
    expect(&cluster, &late, &["a1", "b1"]);
    let told = told(cluster.agent("node1")).unwrap();
    assert!(!told.is_empty());
    for problem in told {
        assert!(problem.contains("greedy"), "{problem}");
    }
    drop(witness);
}

#[test]
fn endpoints_are_followed_in_a_full_table_as_many_as_fit() {
    let web = ServiceSpec::new("web", 1).tcp(80, 8080);
    let other = ServiceSpec::new("other", 2)
        .namespace("greedy")
        .tcp(80, 8080);
    let other = other.endpoints(&["a1", "a2", "b1"]);
    // In both families: no room for another.
    let options = AgentOptions::flags(&["--max-backends", "8"]);
    let services = [&web.clone().endpoints(&["a1"]), &other];
    let mut cluster = Cluster::start_with(options, &services);
    let expect = |cluster: &Cluster, pods: &[&str]| {
        for v6 in [false, true] {
            for from in [Covered("pod-a"), Uncovered("pod-b")] {
                cluster.await_spread(from, Traffic::connect(web.ip(v6), 80), pods);
            }
        }
    };
    cluster.lab.apply(&web.clone().endpoints(&["b1"])).unwrap();
    expect(&cluster, &["b1"]);
    assert!(told(cluster.agent("node1")).unwrap().is_empty());
    // One that leaves, and two that come.
    let two = web.clone().endpoints(&["a1", "a2"]);
    cluster.lab.apply(&two).unwrap();
    eventually("one that there is no room for is told", || {
        let told = told(cluster.agent("node1"))?.concat();
        Ok((told.contains("lab/web") && told.contains("1 of its endpoints")).then_some(()))
    })
    .unwrap();
    let report = cluster.run(
        Covered("pod-a"),
        &Traffic::connect(web.ip(false), 80).count(20),
    );
    let spread: Vec<_> = report.backends.keys().map(String::as_str).collect();
    assert!(spread == ["a1"] || spread == ["a2"], "{spread:?}");
    // Room is taken as it comes.
    cluster.lab.manifests().remove(&other.file()).unwrap();
    expect(&cluster, &["a1", "a2"]);
}

#[test]
fn a_tenants_source_ranges_leave_room_for_others() {
    let balanced = |namespace: &str, number: u8, ranges: u8| {
        let others = (1..ranges).map(|n| format!("172.29.{n}.0/24"));
        let ranges: Vec<String> = others.chain(["10.244.0.0/16".to_owned()]).collect();
        ServiceSpec::new(&format!("{namespace}{number}"), number)
            .namespace(namespace)
            .tcp(80, 8080)
            .udp(80, 8080)
            .endpoints(&["a1", "b1"])
            .load_balancer(&[[203, 0, 113, number].into()])
            .spec("loadBalancerSourceRanges", json!(ranges))
    };
    // Room for 64 ranges: two ports have each of theirs.
    let options = AgentOptions::flags(&["--max-services", "16"]);
    let both = [balanced("greedy", 1, 25), balanced("modest", 2, 10)];
    let cluster = Cluster::without_agents(options, &both.iter().collect::<Vec<_>>());
    let mut cluster = cluster.with_agents(&["node1", "node2"]);
    for _ in 0..2 {
        for traffic in tcp_and_udp([203, 0, 113, 2].into(), 80) {
            cluster.await_spread(Covered("pod-a"), traffic, &["a1", "b1"]);
        }
        let told = told(cluster.agent("node1")).unwrap();
        assert!(!told.is_empty());
        for problem in told {
            assert!(
                problem.contains("greedy/greedy1") && problem.contains("SOURCES"),
                "{problem}"
            );
        }
        // More of it changes nothing for others.
        cluster.lab.apply(&balanced("greedy", 1, 250)).unwrap();
        eventually("the agent has looked at it", || {
            let status = cluster.agent("node1").status()?.to_string();
            Ok(status.contains("250 more").then_some(()))
        })
        .unwrap();
    }
}
