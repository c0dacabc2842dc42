//! An agent that dies, and one that starts.

use std::time::Duration;

use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier};
use tests::harness::{Agent, Traffic};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, expect_clean, tcp_and_udp, web};

#[test]
fn kill_9_under_load_loses_no_connection_and_refuses_no_new_one() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let node1 = cluster.lab.address("node1", v6);
        for (from, to, port) in [
            (Covered("pod-a"), service.ip(v6), 80),
            (Uncovered("pod-c"), service.ip(v6), 80),
            (Covered("node1"), service.ip(v6), 80),
            (Covered("client"), node1, 30080),
        ] {
            for traffic in [
                Traffic::hold(to, port).workers(3),
                Traffic::udp(to, port).workers(2),
                Traffic::connect(to, port).every_milliseconds(5),
            ] {
                flows.push(cluster.flow(from, &traffic));
            }
        }
    }
    for _ in 0..2 {
        cluster.agent("node1").process().kill().unwrap();
        let new = cluster.run(
            Covered("pod-a"),
            &Traffic::connect(service.ip(false), 80)
                .count(100)
                .every_milliseconds(2),
        );
        assert!(new.is_clean(), "{new:?}");
        cluster.restart("node1");
        let new = cluster.run(
            Uncovered("pod-c"),
            &Traffic::connect(service.ip(true), 80).count(20),
        );
        assert!(new.is_clean(), "{new:?}");
    }
    for flow in flows {
        expect_clean(flow);
    }
}

#[test]
fn a_restart_with_an_unchanged_cluster_writes_nothing() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let first = cluster.agent("node1").status().unwrap();
    assert_ne!(
        first["apply"]["operations_total"].as_u64(),
        Some(0),
        "{first}"
    );
    cluster.agent("node1").process().kill().unwrap();
    cluster.restart("node1");
    let again = cluster.agent("node1").status().unwrap();
    assert_eq!(
        again["apply"]["operations_total"].as_u64(),
        Some(0),
        "{again}"
    );
    for traffic in tcp_and_udp(service.ip(true), 80) {
        cluster.expect_spread(Uncovered("pod-a"), traffic, &["a1", "a2", "b1"]);
    }
}

/// Ids of the programs at the uplink of a node.
#[track_caller]
fn programs(cluster: &Cluster, node: &str) -> Vec<u32> {
    let query = || {
        let directions = [TcAttachType::Ingress, TcAttachType::Egress];
        let programs = directions.map(|direction| SchedClassifier::query_tcx("eth0", direction));
        let mut ids = Vec::new();
        for of_direction in programs {
            ids.extend(of_direction?.1.iter().map(ProgramInfo::id));
        }
        Ok(ids)
    };
    cluster.lab.place(node).namespace.run(query).unwrap()
}

#[test]
fn a_restart_of_the_same_build_keeps_its_programs() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let before = programs(&cluster, "node1");
    assert_eq!(before.len(), 2);
    cluster.agent("node1").process().kill().unwrap();
    cluster.restart("node1");
    assert_eq!(programs(&cluster, "node1"), before);
    // Programs whose tables are gone are of no use.
    let pins = cluster.lab.bpf_root("node1").join("maps");
    cluster.agent("node1").process().kill().unwrap();
    std::fs::remove_file(pins.join("FRAGMENTS_V3")).unwrap();
    cluster.restart("node1");
    assert_ne!(programs(&cluster, "node1"), before);
    for traffic in tcp_and_udp(service.ip(false), 80) {
        cluster.expect_spread(Uncovered("pod-a"), traffic, &["a1", "b1"]);
    }
}

#[test]
fn what_changed_while_no_agent_ran_is_in_force_after_its_start() {
    let service = web().endpoints(&["a1"]);
    let mut cluster = Cluster::start(&[&service]);
    let held = cluster.flow(Uncovered("pod-c"), &Traffic::hold(service.ip(false), 80));
    cluster.agent("node1").process().kill().unwrap();
    cluster
        .lab
        .apply(&service.clone().endpoints(&["b1"]))
        .unwrap();
    cluster.expect_spread(
        Covered("pod-a"),
        Traffic::connect(service.ip(false), 80),
        &["a1"],
    );
    cluster.restart("node1");
    for traffic in tcp_and_udp(service.ip(false), 80) {
        cluster.expect_spread(Uncovered("pod-a"), traffic, &["b1"]);
    }
    expect_clean(held);
}

#[test]
fn an_orderly_exit_leaves_the_dataplane_in_place() {
    let service = web().endpoints(&["a1"]);
    let mut cluster = Cluster::start(&[&service]);
    let held = cluster.flow(
        Covered("client"),
        &Traffic::hold(cluster.lab.address("node1", true), 30080),
    );
    let process = cluster.agent("node1").process();
    process.terminate().unwrap();
    let status = process.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", cluster.agent("node1").log());
    for traffic in tcp_and_udp(service.ip(true), 80) {
        cluster.expect_spread(Covered("pod-a"), traffic, &["a1"]);
    }
    expect_clean(held);
}

#[test]
fn a_second_agent_on_the_node_is_refused_and_disturbs_nothing() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    let witness = cluster.flow(
        Covered("pod-a"),
        &Traffic::connect(service.ip(false), 80).every_milliseconds(2),
    );
    let second = Agent::command(&cluster.lab, "node1", &cluster.options)
        .unwrap()
        .output()
        .unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(
        last.contains("another agent") || last.contains("already"),
        "{error}"
    );
    assert!(cluster.agents["node1"].status().is_ok());
    expect_clean(witness);
}
