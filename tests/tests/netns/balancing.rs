//! ClusterIPs: who reaches whom, and as whom.

use tests::harness::{AgentOptions, ServiceSpec, Traffic};

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
        let node = cluster.lab.address("node1", v6).to_string();
        let to_service = Traffic::udp_fresh(service.ip(v6), 80);
        let to_node = Traffic::connect(cluster.lab.address("node1", v6), 30080);
        for (from, traffic) in [(Covered("pod-a"), to_service), (Covered("client"), to_node)] {
            let report = cluster.expect_spread(from, traffic, &["a1", "b1"]);
            assert_eq!(
                report.seen_as.into_iter().collect::<Vec<_>>(),
                std::slice::from_ref(&node),
                "{from:?}"
            );
        }
    }
}
