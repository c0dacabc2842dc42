//! Which endpoints real traffic gets to, where a Service or an endpoint's place says more than its selector.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::harness::{AgentOptions, Lab, ServiceSpec};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, tcp_and_udp, web};

/// Zone of each node.
const ZONES: [(&str, &str); 3] = [("node1", "a"), ("node2", "a"), ("node3", "b")];

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

/// Two nodes in zone `a` and one in zone `b`.
#[track_caller]
fn zoned(service: &ServiceSpec) -> Cluster {
    let cluster = Cluster::of_three_nodes(AgentOptions::default(), &[]);
    let mut nodes = cluster.lab.node_documents();
    for node in &mut nodes {
        let zone = zone_of(&node["metadata"]["name"]);
        node["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": zone});
    }
    cluster.lab.manifests().write("nodes.yaml", &nodes).unwrap();
    apply_in_zones(&cluster.lab, service, |_, _| ());
    cluster.with_agents(&ZONES.map(|(node, _)| node))
}

fn zone_of(node: &Value) -> &'static str {
    let (_, zone) = ZONES.into_iter().find(|(name, _)| node == name).unwrap();
    zone
}

/// Applies a Service whose endpoints are in the zones of their nodes; `change` gets each with its zone.
#[track_caller]
fn apply_in_zones(lab: &Lab, service: &ServiceSpec, change: impl Fn(&str, &mut Value)) {
    let mut documents = lab.documents(service).unwrap();
    for slice in &mut documents[1..] {
        for endpoint in slice["endpoints"].as_array_mut().unwrap() {
            let zone = zone_of(&endpoint["nodeName"]);
            endpoint["zone"] = zone.into();
            change(zone, endpoint);
        }
    }
    lab.manifests().write(&service.file(), &documents).unwrap();
}

#[test]
fn clients_of_a_zone_reach_its_endpoints_alone_while_one_of_them_is_ready() {
    let service = web().spec("trafficDistribution", "PreferSameZone");
    let whole = service.clone().endpoints(&["a1", "b1", "c1"]);
    let cluster = zoned(&whole);
    for (client, pods) in [
        ("pod-a", &["a1", "b1"][..]),
        ("pod-b", &["a1", "b1"]),
        ("pod-d", &["c1"]),
    ] {
        await_all(&cluster, &whole, client, pods);
    }
    // Who comes from outside is where it comes in.
    for v6 in [false, true] {
        for (node, pods) in [("node1", &["a1", "b1"][..]), ("node3", &["c1"])] {
            for traffic in tcp_and_udp(cluster.lab.address(node, v6), 30080) {
                cluster.expect_spread(Covered("client"), traffic, pods);
            }
        }
    }
    // One that terminates is no reason to stay in the zone.
    let [without, with] = [
        service.clone().endpoints(&["a1", "b1"]).not_ready("c1"),
        service.clone().endpoints(&["a1", "b1"]).terminating("c1"),
    ];
    for service in [&without, &with] {
        apply_in_zones(&cluster.lab, &whole, |_, _| ());
        await_all(&cluster, &whole, "pod-d", &["c1"]);
        apply_in_zones(&cluster.lab, service, |_, _| ());
        await_all(&cluster, service, "pod-d", &["a1", "b1"]);
    }
    let elsewhere = service.endpoints(&["c1"]).not_ready("a1").not_ready("b1");
    apply_in_zones(&cluster.lab, &elsewhere, |_, _| ());
    await_all(&cluster, &elsewhere, "pod-a", &["c1"]);
}

#[test]
fn clients_of_a_node_without_endpoints_reach_those_of_its_zone_and_then_all() {
    let service = web().spec("trafficDistribution", "PreferSameNode");
    let whole = service.clone().endpoints(&["a1", "b1", "c1"]);
    let cluster = zoned(&whole);
    for (client, pod) in [("pod-a", "a1"), ("pod-b", "b1"), ("pod-d", "c1")] {
        await_all(&cluster, &whole, client, &[pod]);
    }
    let of_zone = service.clone().endpoints(&["b1", "c1"]).not_ready("a1");
    apply_in_zones(&cluster.lab, &of_zone, |_, _| ());
    await_all(&cluster, &of_zone, "pod-a", &["b1"]);
    let of_other = service.endpoints(&["c1"]).not_ready("a1").not_ready("b1");
    apply_in_zones(&cluster.lab, &of_other, |_, _| ());
    await_all(&cluster, &of_other, "pod-a", &["c1"]);
}

#[test]
fn hints_of_zones_say_who_reaches_which_endpoints_unless_one_has_none() {
    let service = web().endpoints(&["a1", "b1", "c1"]);
    let cluster = zoned(&service);
    await_all(&cluster, &service, "pod-a", &["a1", "b1", "c1"]);
    // The controller gives node2's endpoint to the other zone.
    let hint = |zone: &str, endpoint: &mut Value| {
        let zone = if endpoint["nodeName"] == "node2" {
            "b"
        } else {
            zone
        };
        endpoint["hints"] = json!({"forZones": [{"name": zone}]});
    };
    apply_in_zones(&cluster.lab, &service, hint);
    for (client, pods) in [
        ("pod-a", &["a1"][..]),
        ("pod-b", &["a1"]),
        ("pod-d", &["b1", "c1"]),
    ] {
        await_all(&cluster, &service, client, pods);
    }
    apply_in_zones(&cluster.lab, &service, |zone, endpoint| {
        if zone == "a" {
            hint(zone, endpoint);
        }
    });
    for client in ["pod-a", "pod-d"] {
        await_all(&cluster, &service, client, &["a1", "b1", "c1"]);
    }
}
