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
