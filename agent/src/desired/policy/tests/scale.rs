//! Sizes and times of large clusters.

use std::time::Instant;

use model::Kind;
use serde_json::{Value, json};

use super::{Manifest, applied, cluster, node};
use crate::desired::policy::PolicyTables;

const NAMESPACES: usize = 100;

fn pod(number: usize, local: bool, labels: Value) -> Manifest {
    let address = format!(
        "10.{}.{}.{}",
        1 + number / 60_000,
        number / 250 % 250,
        1 + number % 250
    );
    let manifest = json!({
        "metadata": {"namespace": format!("ns{}", number % NAMESPACES), "name": format!("pod{number}"), "labels": labels},
        "spec": {"nodeName": if local { "node1" } else { "node2" },
            "containers": [{"ports": [{"name": "http", "containerPort": 8000 + number % 3}]}]},
        "status": {"phase": "Running", "podIP": address},
    });
    (Kind::Pod, manifest)
}

fn pods(count: usize, local: usize) -> impl Iterator<Item = Manifest> {
    (0..count).map(move |number| {
        let app = format!("app{}", number / NAMESPACES % 10);
        let labels = json!({"app": app, "pod": format!("unique{number}")});
        pod(number, number % (count / local) == 0, labels)
    })
}

fn policies(count: usize) -> impl Iterator<Item = Manifest> {
    (0..count).map(|number| {
        let app = |of: usize| json!({"matchLabels": {"app": format!("app{}", of % 10)}});
        let round = number / NAMESPACES;
        let manifest = json!({
            "metadata": {"namespace": format!("ns{}", number % NAMESPACES), "name": format!("policy{number}")},
            "spec": {
                "podSelector": app(round),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": app(round + 1)}], "ports": [{"port": "http"}, {"port": 9090}]},
                    {"from": [{"namespaceSelector": {"matchLabels": {"team": format!("t{}", number % 7)}},
                        "podSelector": app(round + 2)}], "ports": [{"port": 80, "endPort": 90}]},
                ],
                "egress": [
                    {"to": [{"podSelector": {}}]},
                    {"to": [{"ipBlock": {"cidr": format!("192.0.{}.0/24", number % 200),
                        "except": [format!("192.0.{}.128/25", number % 200)]}}], "ports": [{"port": 443}]},
                ],
            },
        });
        (Kind::NetworkPolicy, manifest)
    })
}

fn namespaces() -> impl Iterator<Item = Manifest> {
    (0..NAMESPACES).map(|number| {
        let labels = json!({"team": format!("t{}", number % 7)});
        let manifest = json!({"metadata": {"name": format!("ns{number}"), "labels": labels}});
        (Kind::Namespace, manifest)
    })
}

#[test]
fn labels_that_no_selector_names_split_nothing() {
    let all: Vec<Manifest> = namespaces()
        .chain(pods(10_000, 100))
        .chain(policies(10))
        .collect();
    let cluster = cluster(&all);
    let size = PolicyTables::compile(&cluster, &node(&cluster)).size();
    assert!(size.classes < 100 && size.prefixes < 10_000, "{size:?}");
}

/// One pod of the node, and 100 peers of each of which a rule of its own says these ports.
#[track_caller]
fn of_a_hundred_classes(ports: &Value) -> usize {
    let one = json!({"n": "none"});
    let mut all = vec![pod(0, true, one)];
    let numbers = 0..100;
    all.extend(
        numbers
            .clone()
            .map(|n| pod(n + 1, false, json!({"n": n.to_string()}))),
    );
    let rules: Vec<Value> = numbers
        .map(|n| {
            let peer = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"n": n.to_string()}}});
            json!({"from": [peer], "ports": ports})
        })
        .collect();
    let policy = json!({"metadata": {"namespace": "ns0", "name": "p"},
        "spec": {"podSelector": {}, "ingress": rules}});
    all.push((Kind::NetworkPolicy, policy));
    let cluster = cluster(&all);
    let size = PolicyTables::compile(&cluster, &node(&cluster)).size();
    assert_eq!((size.classes, size.sets), (100, 1), "{size:?}");
    assert_eq!(size.entries, size.largest_set);
    size.entries
}

#[test]
fn sets_are_no_larger_than_is_said() {
    let single: Vec<Value> = (0..10).map(|n| json!({"port": 80 + 2 * n})).collect();
    // And one for anybody.
    assert_eq!(of_a_hundred_classes(&json!(single)), 1200 + 1);
    // Fewer than half of all ports, so that they are what differs.
    let ranges: Vec<Value> = (0..10)
        .map(|n| json!({"port": 2048 * n + 1, "endPort": 2048 * n + 2046}))
        .collect();
    let found = of_a_hundred_classes(&json!(ranges));
    assert!((10_000..=30_200).contains(&found), "{found}");
}

#[test]
fn classes_are_no_more_than_pods_nor_than_labels_tell_apart() {
    let labels = |bits: usize| -> Value {
        let set = (0..5).filter(|bit| bits >> bit & 1 == 1);
        set.map(|bit| (format!("l{bit}"), json!("1")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let rules: Vec<Value> = (0..5)
        .map(|bit| json!({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {format!("l{bit}"): "1"}}}]}))
        .collect();
    let policy = json!({"metadata": {"namespace": "ns0", "name": "p"},
        "spec": {"podSelector": {}, "ingress": rules}});
    // Whom no selector means is anybody.
    for (pods, expected) in [(10, 9), (32, 31), (320, 31)] {
        let mut all: Vec<Manifest> = (0..pods).map(|n| pod(n, n == 0, labels(n % 32))).collect();
        all.push((Kind::NetworkPolicy, policy.clone()));
        let cluster = cluster(&all);
        let size = PolicyTables::compile(&cluster, &node(&cluster)).size();
        assert_eq!(size.classes, expected, "{pods} pods: {size:?}");
    }
}

#[test]
#[ignore = "measures; run it alone, in release"]
fn cold_and_one_pod_more() {
    for local in [100, 10_000] {
        let all: Vec<Manifest> = namespaces()
            .chain(pods(10_000, local))
            .chain(policies(1000))
            .collect();
        let mut cluster = cluster(&all);
        let node = node(&cluster);
        let begin = Instant::now();
        let mut tables = PolicyTables::compile(&cluster, &node);
        eprintln!(
            "{local} pods of the node: cold {:?}, {:?}",
            begin.elapsed(),
            tables.size()
        );
        let mut times = Vec::new();
        for number in 20_000..20_100 {
            // Every other one is of the node; one in ten has a class or set of its own.
            let app = if number % 10 == 0 { "none" } else { "app3" };
            let added = pod(number, number % 2 == 0, json!({"app": app}));
            cluster.apply(applied(&added));
            let changes = cluster.take_changes();
            let begin = Instant::now();
            tables = tables.follow(&cluster, &changes, &node);
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        eprintln!(
            "one pod more: median {:?}, longest {:?}",
            times[50], times[99]
        );
        let mut times = Vec::new();
        for manifest in policies(1020).skip(1000) {
            cluster.apply(applied(&manifest));
            let changes = cluster.take_changes();
            let begin = Instant::now();
            tables = tables.follow(&cluster, &changes, &node);
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        eprintln!(
            "one policy more: median {:?}, longest {:?}",
            times[10], times[19]
        );
    }
}
