//! ClusterIPs: who reaches whom, and as whom.

use std::collections::BTreeSet;

use tests::harness::{AgentOptions, ServiceSpec, Traffic};
use tests::traffic::Report;

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, From, tcp_and_udp, web};

/// Every kind of client of the cluster.
const CLIENTS: [From; 5] = [
    Covered("pod-a"),
    Covered("pod-b"),
    Covered("node1"),
    Uncovered("pod-a"),
    Uncovered("node2"),
];

#[test]
fn every_client_is_spread_over_all_endpoints() {
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for from in CLIENTS {
            for traffic in tcp_and_udp(service.ip(v6), 80) {
                cluster.expect_spread(from, traffic, &["a1", "a2", "b1"]);
            }
        }
    }
}

#[test]
fn backends_see_the_pod_that_connects() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for (from, name) in [
            (Covered("pod-a"), "pod-a"),
            (Uncovered("pod-b"), "pod-b"),
            (Covered("node1"), "node1"),
        ] {
            for traffic in tcp_and_udp(service.ip(v6), 80) {
                let report = cluster.expect_spread(from, traffic, &["a1", "b1"]);
                let own = cluster.lab.address(name, v6).to_string();
                assert_eq!(
                    report.seen_as.into_iter().collect::<Vec<_>>(),
                    [own],
                    "{from:?}"
                );
            }
        }
    }
}

#[test]
fn each_port_goes_to_its_own_target_port() {
    let service = ServiceSpec::new("api", 11)
        .tcp(80, 8080)
        .tcp(443, 9090)
        .udp(53, 9090)
        .endpoints(&["a1", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let ip = service.ip(v6);
        for traffic in [
            Traffic::connect(ip, 80),
            Traffic::connect(ip, 443),
            Traffic::udp_fresh(ip, 53),
        ] {
            cluster.expect_spread(Covered("pod-a"), traffic.clone(), &["a1", "b1"]);
            cluster.expect_spread(Uncovered("pod-b"), traffic, &["a1", "b1"]);
        }
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for traffic in tcp_and_udp(service.ip(v6), 80) {
            for from in [Covered("a1"), Uncovered("a1")] {
                let report = cluster.expect_spread(from, traffic.clone(), &["a1"]);
                let seen_as: Vec<_> = report.seen_as.into_iter().collect();
                assert_eq!(seen_as, [service.ip(v6).to_string()], "{from:?}");
            }
        }
    }
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let none = web();
    let not_ready = ServiceSpec::new("slow", 11)
        .both_on_nodes(80, 8080, 30081)
        .not_ready("a1");
    let cluster = Cluster::start(&[&none, &not_ready]);
    for v6 in [false, true] {
        for service in [&none, &not_ready] {
            for from in CLIENTS {
                for traffic in tcp_and_udp(service.ip(v6), 80) {
                    cluster.expect_refused(from, traffic);
                }
            }
        }
        for traffic in tcp_and_udp(cluster.lab.address("node1", v6), 30080) {
            cluster.expect_refused(Covered("client"), traffic);
        }
    }
}

#[test]
fn masquerade_all_shows_backends_the_node() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::start_with(AgentOptions::flags(&["--masquerade-all"]), &[&service]);
    for v6 in [false, true] {
        let node1 = cluster.lab.address("node1", v6);
        for (from, to, port, node) in [
            (Covered("pod-a"), service.ip(v6), 80, "node1"),
            (Uncovered("pod-a"), service.ip(v6), 80, "node1"),
            (Covered("pod-b"), service.ip(v6), 80, "node2"),
            (Covered("node1"), service.ip(v6), 80, "node1"),
            (Covered("client"), node1, 30080, "node1"),
        ] {
            for traffic in tcp_and_udp(to, port) {
                let report = cluster.expect_spread(from, traffic, &["a1", "b1"]);
                expect_seen(&cluster, &report, node, v6);
            }
        }
    }
}

/// From outside a cluster IP is reached where somebody routes it to a node.
#[test]
fn cluster_cidr_shows_backends_the_node_in_place_of_clients_outside_of_it() {
    let service = web().endpoints(&["a1"]);
    // The second node's pods are not in it.
    let range = ["--cluster-cidr", "10.244.1.0/24,fd00:244:1::/64"];
    for (flags, as_whom) in [(&[][..], "client"), (&range, "node1")] {
        let cluster = Cluster::start_with(AgentOptions::flags(flags), &[&service]);
        for v6 in [false, true] {
            let ip = service.ip(v6);
            cluster.lab.route_to(ip, "node1").unwrap();
            let node1 = cluster.lab.address("node1", v6);
            for (from, to, port, as_whom) in [
                (Covered("client"), ip, 80, as_whom),
                (Covered("pod-a"), ip, 80, "pod-a"),
                (Uncovered("pod-a"), ip, 80, "pod-a"),
                (Covered("pod-b"), ip, 80, "pod-b"),
                (Uncovered("pod-b"), ip, 80, "pod-b"),
                // A node port is no cluster IP.
                (Covered("client"), node1, 30080, "client"),
            ] {
                for traffic in tcp_and_udp(to, port) {
                    let report = cluster.expect_spread(from, traffic, &["a1"]);
                    expect_seen(&cluster, &report, as_whom, v6);
                }
            }
        }
    }
}

/// Backends have seen one client and no other.
#[track_caller]
fn expect_seen(cluster: &Cluster, report: &Report, name: &str, v6: bool) {
    let address = cluster.lab.address(name, v6).to_string();
    assert_eq!(report.seen_as, BTreeSet::from([address]));
}
