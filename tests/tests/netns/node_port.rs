//! NodePorts: from outside, and from where the cluster itself uses them.

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, tcp_and_udp, web};

#[test]
fn an_outside_client_reaches_all_endpoints_through_any_node() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for node in ["node1", "node2"] {
            for traffic in tcp_and_udp(cluster.lab.address(node, v6), 30080) {
                cluster.expect_spread(Covered("client"), traffic, &["a1", "a2", "b1"]);
            }
        }
    }
}

#[test]
fn the_client_keeps_its_address_where_the_backend_is_on_the_node_asked() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let client = cluster.lab.address("client", v6).to_string();
        let node2 = cluster.lab.address("node2", v6).to_string();
        for (node, expected) in [("node1", &client), ("node2", &node2)] {
            for traffic in tcp_and_udp(cluster.lab.address(node, v6), 30080) {
                let report = cluster.expect_spread(Covered("client"), traffic, &["a1"]);
                assert_eq!(
                    report.seen_as.iter().collect::<Vec<_>>(),
                    [expected],
                    "through {node}"
                );
            }
        }
    }
}

#[test]
fn pods_and_nodes_reach_node_ports_of_every_node() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for node in ["node1", "node2"] {
            for from in [Covered("pod-a"), Uncovered("pod-a"), Covered("node1")] {
                for traffic in tcp_and_udp(cluster.lab.address(node, v6), 30080) {
                    cluster.expect_spread(from, traffic, &["a1", "b1"]);
                }
            }
        }
    }
}

#[test]
fn a_port_that_is_no_node_port_stays_with_the_node() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for traffic in tcp_and_udp(cluster.lab.address("node1", v6), 30081) {
            cluster.expect_refused(Covered("client"), traffic);
        }
    }
}
