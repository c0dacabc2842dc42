//! `internalTrafficPolicy` and `externalTrafficPolicy`, by real traffic.

use std::collections::BTreeSet;

use tests::harness::{AgentOptions, ServiceSpec, Traffic};
use tests::traffic::Report;

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, From, tcp_and_udp, web};
use crate::options::{balanced, expect_dropped, external};

#[test]
fn external_policy_local_keeps_the_clients_address_and_drops_where_no_endpoint_is() {
    let service = balanced()
        .spec("externalTrafficPolicy", "Local")
        .endpoints(&["a1", "a2"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let client = cluster.lab.address("client", v6).to_string();
        for traffic in tcp_and_udp(cluster.lab.address("node1", v6), 30080) {
            let report = cluster.expect_spread(Covered("client"), traffic, &["a1", "a2"]);
            assert_eq!(report.seen_as, BTreeSet::from([client.clone()]));
        }
        for traffic in tcp_and_udp(cluster.lab.address("node2", v6), 30080) {
            expect_dropped(&cluster, Covered("client"), &traffic);
        }
        // Clients in the cluster have no way in of their own: they reach every endpoint.
        for to in [
            cluster.lab.address("node2", v6),
            cluster.lab.address("node1", v6),
        ] {
            for traffic in tcp_and_udp(to, 30080) {
                cluster.expect_spread(Covered("pod-b"), traffic, &["a1", "a2"]);
            }
        }
        for traffic in tcp_and_udp(external(v6), 80) {
            cluster.expect_spread(Uncovered("pod-b"), traffic, &["a1", "a2"]);
        }
    }
}

#[test]
fn clients_of_the_cluster_cidr_reach_every_endpoint_by_another_nodes_port() {
    let service = balanced()
        .spec("externalTrafficPolicy", "Local")
        .endpoints(&["a1", "a2"]);
    let flags = ["--cluster-cidr", "10.244.0.0/16,fd00:244::/32"];
    let cluster = Cluster::start_with(AgentOptions::flags(&flags), &[&service]);
    for v6 in [false, true] {
        for traffic in tcp_and_udp(cluster.lab.address("node2", v6), 30080) {
            cluster.expect_spread(Covered("pod-a"), traffic.clone(), &["a1", "a2"]);
            expect_dropped(&cluster, Covered("client"), &traffic);
        }
    }
}

#[test]
fn internal_policy_local_keeps_to_the_clients_node() {
    let service = web()
        .spec("internalTrafficPolicy", "Local")
        .endpoints(&["a1", "a2"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for traffic in tcp_and_udp(service.ip(v6), 80) {
            for from in [Covered("pod-a"), Uncovered("pod-a"), Covered("node1")] {
                cluster.expect_spread(from, traffic.clone(), &["a1", "a2"]);
            }
            expect_dropped(&cluster, Covered("pod-b"), &traffic);
            expect_dropped(&cluster, Uncovered("pod-b"), &traffic);
        }
    }
}

/// Waits until nothing is answered; dropped then, not refused.
#[track_caller]
fn await_dropped(cluster: &Cluster, from: From, traffic: &Traffic) {
    let probe = traffic.clone().count(1).timeout_milliseconds(300);
    let is_dropped = |report: &Report| report.errors.get("timeout") == Some(&1);
    probe
        .until("it is dropped", &cluster.place(from), is_dropped)
        .unwrap();
    expect_dropped(cluster, from, traffic);
}

/// What `node1` may have of endpoints, the pod that answers there, and `b1`, ready on `node2`, all the time.
fn states(service: &ServiceSpec) -> [(ServiceSpec, Option<&'static str>); 5] {
    let others = service.clone().endpoints(&["b1"]);
    [
        (others.clone().terminating("a1"), Some("a1")),
        (others.clone(), None),
        (others.clone().terminating("a1").not_ready("a2"), Some("a1")),
        (others.clone().not_ready("a1"), None),
        // It gets nothing new once there is one that is ready.
        (
            service.clone().endpoints(&["a2", "b1"]).terminating("a1"),
            Some("a2"),
        ),
    ]
}

#[test]
fn external_policy_local_uses_an_endpoint_that_terminates_where_no_other_is() {
    let service = balanced().spec("externalTrafficPolicy", "Local");
    let cluster = Cluster::start(&[]);
    for (service, answers) in states(&service) {
        cluster.lab.apply(&service).unwrap();
        for v6 in [false, true] {
            let client = cluster.lab.address("client", v6).to_string();
            for (node, answers) in [("node1", answers), ("node2", Some("b1"))] {
                for traffic in tcp_and_udp(cluster.lab.address(node, v6), 30080) {
                    let Some(pod) = answers else {
                        await_dropped(&cluster, Covered("client"), &traffic);
                        continue;
                    };
                    cluster.await_spread(Covered("client"), traffic.clone(), &[pod]);
                    let report = cluster.expect_spread(Covered("client"), traffic, &[pod]);
                    assert_eq!(report.seen_as, BTreeSet::from([client.clone()]));
                }
            }
        }
    }
}

#[test]
fn internal_policy_local_uses_an_endpoint_that_terminates_where_no_other_is() {
    let service = web().spec("internalTrafficPolicy", "Local");
    let cluster = Cluster::start(&[]);
    for (service, answers) in states(&service) {
        cluster.lab.apply(&service).unwrap();
        for v6 in [false, true] {
            for traffic in tcp_and_udp(service.ip(v6), 80) {
                for from in [Covered("pod-a"), Uncovered("pod-a"), Covered("node1")] {
                    match answers {
                        Some(pod) => cluster.await_spread(from, traffic.clone(), &[pod]),
                        None => await_dropped(&cluster, from, &traffic),
                    }
                }
                cluster.await_spread(Uncovered("pod-b"), traffic, &["b1"]);
            }
        }
    }
}
