//! Which endpoints real traffic gets to, where a Service says more than its selector.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::harness::ServiceSpec;

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, tcp_and_udp, web};

/// Both families and protocols, balanced at `connect` and by packet, from a pod to these endpoints.
#[track_caller]
fn await_all(cluster: &Cluster, service: &ServiceSpec, client: &'static str, pods: &[&str]) {
    for v6 in [false, true] {
        for traffic in tcp_and_udp(service.ip(v6), 80) {
            for from in [Covered(client), Uncovered(client)] {
                cluster.await_spread(from, traffic.clone(), pods);
            }
        }
    }
}

#[test]
fn endpoints_of_the_clients_node_or_those_hinted_at_are_preferred() {
    let service = web()
        .spec("trafficDistribution", "PreferSameNode")
        .endpoints(&["a1", "b1"]);
    let cluster = Cluster::start(&[&service]);
    await_all(&cluster, &service, "pod-a", &["a1"]);
    await_all(&cluster, &service, "pod-b", &["b1"]);
    // The controller knows better: each node gets the other's endpoint.
    let hinted = |endpoint: &mut Value| {
        let other = if endpoint["nodeName"] == "node1" {
            "node2"
        } else {
            "node1"
        };
        endpoint["hints"] = json!({"forNodes": [{"name": other}]});
    };
    cluster
        .lab
        .manifests()
        .edit(&service.file(), |documents| {
            for slice in &mut documents[1..] {
                let endpoints = slice["endpoints"].as_array_mut().unwrap();
                endpoints.iter_mut().for_each(hinted);
            }
        })
        .unwrap();
    await_all(&cluster, &service, "pod-a", &["b1"]);
    await_all(&cluster, &service, "pod-b", &["a1"]);
}

#[test]
fn endpoints_that_are_not_ready_are_reached_where_they_are_published() {
    let service = web().not_ready("b1");
    let cluster = Cluster::start(&[&service]);
    for traffic in tcp_and_udp(service.ip(false), 80) {
        cluster.expect_refused(Covered("pod-a"), traffic);
    }
    let published = service.spec("publishNotReadyAddresses", true);
    cluster.lab.apply(&published).unwrap();
    await_all(&cluster, &published, "pod-a", &["b1"]);
}

#[test]
fn connections_go_by_the_weights_of_the_endpoints() {
    let service = web()
        .annotation("fairlead.io/weights", "node/node1=3,node/node2=1")
        .endpoints(&["a1", "b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        for traffic in tcp_and_udp(service.ip(v6), 80) {
            for from in [Covered("pod-a"), Uncovered("pod-a")] {
                let report = cluster.run(from, &traffic.clone().count(400).every_milliseconds(0));
                assert!(report.is_clean(), "{from:?}: {report:?}");
                // 300 of 400; five standard deviations are 43.
                let of_a1 = report.backends["a1"];
                assert!((257..=343).contains(&of_a1), "{from:?}: {report:?}");
            }
        }
    }
    // Zero is for an endpoint that is to get no more.
    let service = service.annotation("fairlead.io/weights", "node/node1=0");
    cluster.lab.apply(&service).unwrap();
    await_all(&cluster, &service, "pod-a", &["b1"]);
}

#[test]
fn hashing_the_source_or_the_destination_settles_the_endpoint() {
    for scheduler in ["sh", "dh"] {
        let service = web()
            .annotation("kube-router.io/service.scheduler", scheduler)
            .endpoints(&["a1", "a2", "b1"]);
        let cluster = Cluster::start(&[&service]);
        for v6 in [false, true] {
            // TCP and UDP are two ports of the Service, each with a choice of its own.
            for traffic in tcp_and_udp(service.ip(v6), 80) {
                let mut of_all = BTreeSet::new();
                for client in ["pod-a", "pod-b", "pod-c", "node1", "node2"] {
                    let report = cluster.run(Covered(client), &traffic.clone().count(10));
                    assert!(report.is_clean(), "{scheduler} {client}: {report:?}");
                    assert_eq!(report.backends.len(), 1, "{scheduler} {client}: {report:?}");
                    of_all.extend(report.backends.into_keys());
                }
                // By the destination alone, clients do not matter.
                if scheduler == "dh" {
                    assert_eq!(of_all.len(), 1, "{of_all:?}");
                }
            }
        }
    }
}
