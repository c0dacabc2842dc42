//! Clusters in which much depends on few things: two keys, two values, three namespaces, networks
//! around the addresses in use.

use model::Kind;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::Manifest;

/// Addresses of nobody in the cluster.
pub(crate) const OUTSIDE: [&str; 6] = [
    "192.0.2.1",
    "192.0.2.129",
    "198.51.100.7",
    "10.0.3.3",
    "2001:db8::1",
    "fd00:9::9",
];

const NAMESPACES: [&str; 3] = ["a", "b", "c"];

const NETWORKS: [&str; 16] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.4/30",
    "10.0.1.5/32",
    "10.0.2.0/24",
    "172.16.0.0/16",
    "172.16.0.2/32",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "fd00::/8",
    "fd00:1::/64",
    "fd00:1::5/128",
    "2001:db8::/32",
    "2000::/3",
];

fn labels() -> impl Strategy<Value = Value> {
    (0..4_usize, 0..4_usize).prop_map(|(x, y)| {
        let mut labels = Map::new();
        for (key, value) in [("x", x), ("y", y)] {
            if value > 0 {
                labels.insert(key.into(), json!(["", "1", "2", "3"][value]));
            }
        }
        Value::Object(labels)
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || select(vec!["x", "y"]);
    let values = || vec(select(vec!["1", "2"]), 1..3);
    let expression = prop_oneof![
        (key(), select(vec!["In", "NotIn"]), values()).prop_map(
            |(key, operator, values)| json!({"key": key, "operator": operator, "values": values})
        ),
        (key(), select(vec!["Exists", "DoesNotExist"]))
            .prop_map(|(key, operator)| json!({"key": key, "operator": operator})),
    ];
    prop_oneof![
        2 => Just(json!({})),
        3 => (key(), select(vec!["1", "2"])).prop_map(|(key, value)| json!({"matchLabels": {key: value}})),
        2 => vec(expression, 1..3).prop_map(|all| json!({"matchExpressions": all})),
    ]
}

fn block() -> impl Strategy<Value = Value> {
    (
        select(NETWORKS.to_vec()),
        vec(select(NETWORKS.to_vec()), 0..3),
    )
        .prop_map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}}))
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector())
            .prop_map(|(pods, there)| json!({"podSelector": pods, "namespaceSelector": there})),
        block(),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = || select(vec!["TCP", "UDP", "SCTP"]);
    prop_oneof![
        protocol().prop_map(|protocol| json!({"protocol": protocol})),
        (protocol(), select(vec![80, 81, 53, 8080]))
            .prop_map(|(protocol, port)| json!({"protocol": protocol, "port": port})),
        (protocol(), select(vec![(1, 65535), (80, 81), (81, 65534), (53, 8080)]))
            .prop_map(|(protocol, (port, end))| json!({"protocol": protocol, "port": port, "endPort": end})),
        (select(vec!["TCP", "UDP"]), select(vec!["web", "dns"]))
            .prop_map(|(protocol, name)| json!({"protocol": protocol, "port": name})),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (
        prop::option::of(vec(peer(), 0..3)),
        prop::option::of(vec(port(), 0..3)),
    );
    let rule = rule.prop_map(move |(all, ports)| {
        let mut rule = json!({});
        if let Some(all) = all {
            rule[peers] = json!(all);
        }
        if let Some(ports) = ports {
            rule["ports"] = json!(ports);
        }
        rule
    });
    prop_oneof![
        Just(Value::Null),
        vec(rule, 0..3).prop_map(|rules| json!(rules))
    ]
}

fn network_policy() -> impl Strategy<Value = Manifest> {
    let types = select(vec![
        Value::Null,
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
        json!(["Other"]),
    ]);
    let name = (select(NAMESPACES.to_vec()), 0..4_u8);
    let mode = select(vec!["enforce", "enforce", "audit"]);
    (name, mode, selector(), types, rules("from"), rules("to")).prop_map(
        |((namespace, number), mode, pods, types, ingress, egress)| {
            let manifest = json!({
                "metadata": {"namespace": namespace, "name": format!("p{number}"),
                    "annotations": {"fairlead.io/policy-mode": mode}},
                "spec": {"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress},
            });
            (Kind::NetworkPolicy, manifest)
        },
    )
}

fn subject() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|there| json!({"namespaces": there})),
        (selector(), selector()).prop_map(
            |(pods, there)| json!({"pods": {"namespaceSelector": there, "podSelector": pods}})
        ),
    ]
}

fn cluster_rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let networks = vec(select(NETWORKS.to_vec()), 1..3);
    let outside = prop_oneof![
        networks.prop_map(|networks| json!({"networks": networks})),
        selector().prop_map(|nodes| json!({"nodes": nodes})),
        Just(json!({"domainNames": ["example.org"]})),
    ];
    let peer = prop_oneof![4 => subject(), 2 => outside];
    let number = select(vec![80, 81, 53]);
    let protocol = prop_oneof![
        (select(vec!["tcp", "udp", "sctp"]), number).prop_map(
            |(protocol, number)| json!({protocol: {"destinationPort": {"number": number}}})
        ),
        select(vec!["tcp", "udp"]).prop_map(
            |protocol| json!({protocol: {"destinationPort": {"range": {"start": 53, "end": 80}}}})
        ),
        select(vec!["web", "dns"]).prop_map(|name| json!({"destinationNamedPort": name})),
    ];
    let action = select(vec!["Accept", "Deny", "Pass"]);
    let rule = (
        action,
        vec(peer, 1..3),
        prop::option::of(vec(protocol, 1..3)),
    );
    let rule = rule.prop_map(move |(action, all, protocols)| {
        json!({"action": action, peers: all, "protocols": protocols})
    });
    vec(rule, 0..3).prop_map(|rules| json!(rules))
}

fn cluster_policy() -> impl Strategy<Value = Manifest> {
    let tier = select(vec!["Admin", "Baseline"]);
    let rules = (cluster_rules("from"), cluster_rules("to"));
    (0..4_u8, tier, 0..3_u16, subject(), rules).prop_map(
        |(number, tier, priority, subject, (ingress, egress))| {
            let manifest = json!({
                "metadata": {"name": format!("c{number}")},
                "spec": {"tier": tier, "priority": priority, "subject": subject,
                    "ingress": ingress, "egress": egress},
            });
            (Kind::ClusterNetworkPolicy, manifest)
        },
    )
}

fn pod(number: u8) -> impl Strategy<Value = Manifest> {
    let place = (select(NAMESPACES.to_vec()), 1..4_u8, 0..10_u8);
    let ports = select(vec![
        json!([]),
        json!([{"name": "web", "containerPort": 80}]),
        json!([{"name": "web", "containerPort": 81}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]),
        json!([{"name": "web", "containerPort": 80}, {"name": "web", "containerPort": 8080}]),
    ]);
    let phase = select(vec!["Running", "Running", "Running", "Succeeded"]);
    (place, labels(), ports, phase, prop::bool::weighted(0.1)).prop_map(
        move |((namespace, node, shared), labels, ports, phase, host)| {
            // Now and then two claim one address.
            let address = if shared == 0 { 5 } else { 10 + number };
            let manifest = json!({
                "metadata": {"namespace": namespace, "name": format!("pod{number}"), "labels": labels,
                    "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", number / 2)},
                "spec": {"nodeName": format!("node{}", node.min(2)), "hostNetwork": host,
                    "containers": [{"ports": ports}]},
                "status": {"phase": phase, "podIPs": [
                    {"ip": format!("10.0.{node}.{address}")}, {"ip": format!("fd00:{node}::{address}")}]},
            });
            (Kind::Pod, manifest)
        },
    )
}

/// The objects of a cluster, some of them not there.
pub(crate) fn manifests() -> impl Strategy<Value = Vec<Manifest>> {
    let namespaces = vec(prop::option::weighted(0.9, labels()), 3).prop_map(|all| {
        let there = NAMESPACES.into_iter().zip(all);
        let there = there.filter_map(|(name, labels)| Some((name, labels?)));
        let manifest = |(name, labels)| {
            let manifest = json!({"metadata": {"name": name, "labels": labels}});
            (Kind::Namespace, manifest)
        };
        there.map(manifest).collect::<Vec<Manifest>>()
    });
    let nodes = vec(labels(), 2).prop_map(|all| {
        let manifest = |(number, labels)| {
            let manifest = json!({"metadata": {"name": format!("node{number}"), "labels": labels},
                "status": {"addresses": [{"type": "InternalIP", "address": format!("172.16.0.{number}")}]}});
            (Kind::Node, manifest)
        };
        (1..).zip(all).map(manifest).collect::<Vec<Manifest>>()
    });
    let pods = (0..10_u8).map(|number| prop::option::weighted(0.8, pod(number)));
    let pods = pods.collect::<Vec<_>>();
    let policies = (vec(network_policy(), 0..6), vec(cluster_policy(), 0..3));
    (namespaces, nodes, pods, policies).prop_map(|(namespaces, nodes, pods, (own, wide))| {
        let pods = pods.into_iter().flatten();
        let all = namespaces.into_iter().chain(nodes).chain(pods);
        all.chain(own).chain(wide).collect()
    })
}
