//! From the agent to another proxy whose connections were taken over before.

use std::net::SocketAddr;
use std::time::Duration;

use agent::sys::conntrack::{self, Flow, Tuple};
use rustix::net::sockopt::set_socket_linger;
use tests::harness::other_proxy;
use tests::harness::{Agent, Place, Traffic};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{expect_clean, tcp_and_udp, web};
use crate::conntrack::{ask_tcp, connected};
use crate::takeover::load;

const NODES: [&str; 2] = ["node1", "node2"];

/// Takes the agent of a node away, beside another proxy's rules.
#[track_caller]
fn hand_back(cluster: &mut Cluster, node: &str) {
    load(cluster, node);
    drop(cluster.agents.remove(node));
    let answer = Agent::cleanup(&cluster.lab, node, &[]).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

#[test]
fn a_connection_that_begins_during_the_way_back_is_not_reset() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let node1 = cluster.lab.address("node1", v6);
        for (from, to, port) in [
            (Uncovered("pod-a"), service.ip(v6), 80),
            (Covered("client"), node1, 30080),
        ] {
            let traffic = tcp_and_udp(to, port);
            let fast = traffic.map(|traffic| traffic.workers(4).every_milliseconds(2));
            flows.extend(fast.map(|traffic| cluster.flow(from, &traffic)));
        }
    }
    hand_back(&mut cluster, "node1");
    for flow in flows {
        expect_clean(flow);
    }
}

/// Flows of connection tracking on a node that come from an address and port.
#[track_caller]
fn known(node: &Place, source: SocketAddr) -> Vec<Flow> {
    let flows = node.namespace.run(|| Ok(conntrack::dump()?)).unwrap();
    let of_source = |flow: &Flow| flow.original.source == source;
    flows.into_iter().filter(of_source).collect()
}

#[test]
fn what_the_kernel_knows_of_ended_connections_is_in_nobodys_way() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::without_agents(Default::default(), &[&service]);
    for node in NODES {
        load(&cluster, node);
    }
    let pod = cluster.place(Uncovered("pod-a"));
    let frontend = SocketAddr::new(service.ip(false), 80);
    let from = |port| SocketAddr::new(cluster.lab.address("pod-a", false), port);
    let sources: Vec<_> = (5000..5016).map(from).collect();
    let open = |sources: &[SocketAddr]| {
        let open = |source: &SocketAddr| connected(&pod, *source, frontend).unwrap();
        sources.iter().map(open).collect::<Vec<_>>()
    };
    // They are the kernel's, then the agent's, and end while they are.
    let first = open(&sources);
    let mut cluster = cluster.with_agents(&NODES);
    for node in NODES {
        other_proxy::unload(cluster.lab.place(node)).unwrap();
    }
    for connection in &first {
        ask_tcp(connection);
    }
    cluster
        .lab
        .apply(&service.clone().endpoints(&["b1"]))
        .unwrap();
    cluster.await_spread(
        Uncovered("pod-a"),
        Traffic::connect(service.ip(false), 80),
        &["b1"],
    );
    for connection in first {
        // Ended by a reset, so that no TIME_WAIT keeps the port.
        set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
    }
    // The same ports again, for half of them; all go to another backend than some went to before.
    let (reused, ended) = sources.split_at(8);
    let second = open(reused);
    for connection in &second {
        assert!(ask_tcp(connection).starts_with("b1 "));
    }
    for node in NODES {
        hand_back(&mut cluster, node);
    }
    for connection in &second {
        assert!(ask_tcp(connection).starts_with("b1 "));
    }
    let node = cluster.lab.place("node1");
    /// Of the agent's: RFC 5382 REQ-5.
    const LONGEST: Duration = Duration::from_secs(7440);
    for source in reused {
        let flows = known(node, *source);
        assert_eq!(flows.len(), 1, "{flows:?}");
        let of_backend = cluster.lab.address("b1", false);
        assert_eq!(flows[0].reply.source.ip(), of_backend, "{flows:?}");
    }
    for source in ended {
        let flows = known(node, *source);
        let stale = |flow: &&Flow| flow.original.protocol == Tuple::TCP && flow.timeout > LONGEST;
        assert_eq!(flows.iter().find(stale), None);
    }
}
