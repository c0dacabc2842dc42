//! Builds with other tables, one after the other on the same node, under load.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use agent::sys::map::Table;
use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, TupleV1};
use agent_abi::layout::LAYOUT_MAP;
use tests::harness::{Agent, Flow, Traffic, eventually};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{expect_clean, tcp_and_udp, web};

const NODES: [&str; 2] = ["node1", "node2"];

/// Kept connections and flows of both families, balanced per packet, and new ones all the time.
#[track_caller]
fn flows(cluster: &Cluster) -> Vec<Flow> {
    let mut flows = Vec::new();
    for v6 in [false, true] {
        for (from, to, port) in [
            (Uncovered("pod-a"), web().ip(v6), 80),
            (Uncovered("pod-b"), web().ip(v6), 80),
            (Covered("client"), cluster.lab.address("node2", v6), 30080),
        ] {
            for traffic in [Traffic::hold(to, port), Traffic::udp(to, port)] {
                let traffic = traffic.workers(4).every_milliseconds(10);
                flows.push(cluster.flow(from, &traffic));
            }
        }
    }
    flows
}

/// Ends both agents and starts another build.
#[track_caller]
fn become_build(cluster: &mut Cluster, program: Option<PathBuf>) {
    cluster.options.program = program;
    for node in NODES {
        cluster.agent(node).process().kill().unwrap();
        cluster.restart(node);
    }
}

/// Names of the maps of a node that hold connections.
fn connection_maps(cluster: &Cluster, node: &str) -> Vec<String> {
    let entries = fs::read_dir(maps(cluster, node)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("CONNECTIONS_"))
        .collect();
    names.sort();
    names
}

fn maps(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.lab.bpf_root(node).join("maps")
}

fn next_build() -> PathBuf {
    env::var_os("FAIRLEAD_AGENT_NEXT")
        .expect(
            "FAIRLEAD_AGENT_NEXT names an agent with other tables; run `cargo xtask test netns`",
        )
        .into()
}

#[test]
fn connections_survive_the_way_to_the_next_build_and_back() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let first = flows(&cluster);
    become_build(&mut cluster, Some(next_build()));
    assert_eq!(connection_maps(&cluster, "node1"), ["CONNECTIONS_V4"]);
    let second = flows(&cluster);
    become_build(&mut cluster, None);
    assert_eq!(connection_maps(&cluster, "node1"), [CONNECTIONS_MAP]);
    for flow in first.into_iter().chain(second) {
        expect_clean(flow);
    }
    for traffic in tcp_and_udp(service.ip(false), 80) {
        cluster.expect_spread(Covered("pod-a"), traffic, &["a1", "a2", "b1"]);
    }
}

/// Makes the pins of a node those of version 1, whose connections had no Service.
#[track_caller]
fn age(pins: &Path) {
    let mut connections: Table<TupleV1, ConnectionV3> =
        Table::open_lru(pins, CONNECTIONS_MAP).unwrap();
    for (key, value) in connections.entries().unwrap() {
        let old = ConnectionV3 {
            service: 0,
            ..value
        };
        connections.put(key, old).unwrap();
    }
    fs::remove_file(pins.join(LAYOUT_MAP)).unwrap();
    for entry in fs::read_dir(pins).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(base) = name.strip_suffix("_V2") {
            fs::rename(pins.join(&name), pins.join(format!("{base}_V1"))).unwrap();
        }
    }
}

#[test]
fn connections_of_version_1_are_carried_on() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let held = flows(&cluster);
    for node in NODES {
        cluster.agent(node).process().kill().unwrap();
        age(&maps(&cluster, node));
        cluster.restart(node);
        assert_eq!(connection_maps(&cluster, node), [CONNECTIONS_MAP]);
    }
    for flow in held {
        expect_clean(flow);
    }
}

#[test]
fn a_build_that_cannot_read_the_connections_there_refuses_and_disturbs_nothing() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let mut witnesses = flows(&cluster);
    witnesses.push(cluster.flow(
        Covered("pod-a"),
        &Traffic::connect(service.ip(false), 80).every_milliseconds(2),
    ));
    cluster.agent("node1").process().kill().unwrap();
    // A build of the far future, which describes its connections in no way known here.
    let pins = maps(&cluster, "node1");
    fs::hard_link(pins.join(CONNECTIONS_MAP), pins.join("CONNECTIONS_V9")).unwrap();
    let refused = Agent::command(&cluster.lab, "node1", &cluster.options)
        .unwrap()
        .output()
        .unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(
        error.contains("CONNECTIONS_V9") && error.contains("--cleanup-config"),
        "{error}"
    );
    let new = cluster.run(
        Uncovered("pod-c"),
        &Traffic::connect(service.ip(true), 80).count(50),
    );
    assert!(new.is_clean(), "{new:?}");
    for flow in witnesses {
        expect_clean(flow);
    }
}

/// A build whose programs the verifier refuses: without `CAP_PERFMON` it lets none do what these do.
#[track_caller]
fn refused(cluster: &Cluster, program: &Path) -> PathBuf {
    let agent = program.display();
    let text = format!("exec setpriv --bounding-set=-perfmon,-sys_admin {agent} \"$@\"");
    cluster.lab.script("refused", &text).unwrap()
}

#[test]
fn a_build_whose_programs_are_refused_ends_and_leaves_what_runs_alone() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let first = flows(&cluster);
    cluster.options.program = Some(refused(&cluster, &next_build()));
    cluster.agent("node1").process().kill().unwrap();
    let mut agent = Agent::start(&cluster.lab, "node1", &cluster.options).unwrap();
    let ended = eventually("the agent ends", || agent.process().ended()).unwrap();
    assert!(!ended.success(), "{ended}");
    let log = agent.log();
    assert!(log.contains("the kernel refuses the eBPF program"), "{log}");
    let second = flows(&cluster);
    become_build(&mut cluster, None);
    for flow in first.into_iter().chain(second) {
        expect_clean(flow);
    }
}
