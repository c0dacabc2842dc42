//! Policies that cannot be in force in full.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::apiserver::ApiServer;
use tests::harness::{AgentOptions, eventually};

use super::{PODS, POLICIES, app, await_all, expect_all, label, start, to_pod};
use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};

pub(super) fn policy(name: &str, of: &str, ingress: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "lab"},
        "spec": {"podSelector": {"matchLabels": {"app": of}}, "policyTypes": ["Ingress"], "ingress": ingress}})
}

/// More rules than a table of 64 entries has room for.
fn large() -> Value {
    // No two of them make a range.
    let ports: Vec<Value> = (0..100).map(|port| json!({"port": 2 * port + 1})).collect();
    let rules = json!([{"from": [app("client")], "ports": ports}]);
    policy("large", "web", &rules)
}

/// Waits for a problem whose fields have these beginnings.
#[track_caller]
pub(super) fn await_problem(cluster: &mut Cluster, object: &str, field: &str, message: &str) {
    eventually("the problem is told", || {
        let status = cluster.agent("node1").status()?;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let found = problems.iter().any(|problem| {
            problem["object"] == object
                && problem["field"] == field
                && problem["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(message))
        });
        anyhow::ensure!(found, "{problems:?}");
        Ok(Some(()))
    })
    .unwrap();
}

#[track_caller]
pub(super) fn await_no_problem(cluster: &mut Cluster) {
    eventually("nothing is wrong any more", || {
        let problems = cluster.agent("node1").status()?["problems"].to_string();
        anyhow::ensure!(problems == "[]", "{problems}");
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
fn a_policy_that_does_not_fit_leaves_the_others_alone() {
    let mut cluster = start(&["--max-policy-entries", "64"], &[]);
    let small = policy("small", "web-2", &json!([{"from": [app("client")]}]));
    let large = large();
    let manifests = cluster.lab.manifests().directory().to_owned();
    let write = |cluster: &Cluster, policies: &[Value]| {
        cluster.lab.manifests().write(POLICIES, policies).unwrap();
    };
    assert!(manifests.exists());
    let (open, closed) = (to_pod(&cluster, "a2", 8080), to_pod(&cluster, "a1", 8080));
    // Both at once, and the one that fits comes last in every order.
    write(&cluster, &[large.clone(), small.clone()]);
    await_all(&cluster, Covered("pod-b"), &open, false);
    await_all(&cluster, Covered("pod-a"), &closed, false);
    expect_all(&cluster, Covered("pod-a"), &open, true);
    expect_all(&cluster, Covered("node1"), &closed, true);
    await_problem(&mut cluster, "lab/large", "spec.ingress", "POLICY_VERDICTS");
    let problems = cluster.agent("node1").status().unwrap()["problems"].to_string();
    assert!(!problems.contains("lab/small"), "{problems}");
    let metric = r#"fairlead_problems{kind="NetworkPolicy"}"#;
    assert_eq!(cluster.agent("node1").metric(metric).unwrap(), Some(1.0));
    // What comes later and fits is in force too.
    let other = policy("other", "client", &json!([]));
    write(&cluster, &[large, small.clone(), other]);
    await_all(
        &cluster,
        Uncovered("a2"),
        &to_pod(&cluster, "pod-a", 8080),
        false,
    );
    expect_all(&cluster, Covered("pod-a"), &open, true);
    write(&cluster, &[small]);
    await_all(&cluster, Covered("pod-b"), &closed, true);
    expect_all(&cluster, Covered("pod-b"), &open, false);
    await_no_problem(&mut cluster);
}

#[test]
fn an_agent_that_starts_with_a_policy_that_does_not_fit_is_ready() {
    let cluster = Cluster::without_agents(
        AgentOptions::flags(&["--run-firewall", "--max-policy-entries", "64"]),
        &[],
    );
    label(&cluster, &PODS);
    cluster.lab.manifests().write(POLICIES, &[large()]).unwrap();
    let mut cluster = cluster.with_agents(&["node1", "node2"]);
    expect_all(
        &cluster,
        Covered("pod-a"),
        &to_pod(&cluster, "a1", 8080),
        false,
    );
    expect_all(
        &cluster,
        Covered("pod-a"),
        &to_pod(&cluster, "a2", 8080),
        true,
    );
    await_problem(&mut cluster, "lab/large", "spec.ingress", "POLICY_VERDICTS");
}

#[test]
fn what_cannot_be_read_of_a_policy_allows_nothing_and_leaves_the_others_alone() {
    let mut cluster = start(&[], &[]);
    let broken = json!([
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}, app("client")]},
        {"from": [{"podSelector": {"matchLabels": {"app": ["client"]}}}], "ports": [{"port": 9090}]},
    ]);
    let policies = [
        policy("broken", "web", &broken),
        policy("whole", "web-2", &json!([{"from": [app("client")]}])),
    ];
    cluster.lab.manifests().write(POLICIES, &policies).unwrap();
    // The readable part holds, and no more.
    await_all(
        &cluster,
        Covered("pod-b"),
        &to_pod(&cluster, "a1", 8080),
        false,
    );
    await_all(
        &cluster,
        Covered("pod-a"),
        &to_pod(&cluster, "a1", 8080),
        true,
    );
    expect_all(
        &cluster,
        Covered("pod-b"),
        &to_pod(&cluster, "a1", 9090),
        false,
    );
    await_all(
        &cluster,
        Covered("pod-b"),
        &to_pod(&cluster, "a2", 8080),
        false,
    );
    expect_all(
        &cluster,
        Covered("pod-a"),
        &to_pod(&cluster, "a2", 8080),
        true,
    );
    let field = "spec.ingress[0].from[0].ipBlock.cidr";
    await_problem(&mut cluster, "lab/broken", field, "10.0.0.0/33");
}

#[test]
fn what_is_not_in_force_in_full_becomes_an_event_and_a_metric() {
    let options = AgentOptions::flags(&["--run-firewall", "--max-policy-entries", "64"]);
    let mut cluster = Cluster::without_agents(options, &[]);
    // A pod whose rules do not fit is closed both ways, so it is none of the clients.
    let pods = PODS.map(|(name, namespace, of)| match name {
        "pod-c" => (name, namespace, "many"),
        _ => (name, namespace, of),
    });
    label(&cluster, &pods);
    let address = SocketAddr::new(cluster.lab.address("node1", false), 0);
    let node = cluster.lab.place("node1").namespace.clone();
    let server = node.run(|| ApiServer::start_on(address)).unwrap();
    server.load(cluster.lab.manifests().directory()).unwrap();
    let ports: Vec<Value> = (0..100).map(|port| json!({"port": 2 * port + 1})).collect();
    // A rule whose peers are misspelt is no rule for everybody.
    let misspelt = json!([{"form": [app("client")]}]);
    for policy in [
        policy("misspelt", "web", &misspelt),
        policy("whole", "web-2", &json!([{"from": [app("client")]}])),
    ] {
        server.apply(policy).unwrap();
    }
    cluster.options.source = Some(vec!["--master".to_owned(), server.url()]);
    let mut cluster = cluster.with_agents(&["node1"]);
    let large = policy("large", "many", &json!([{"ports": ports}]));
    server.apply(large).unwrap();
    eventually("the Events", || {
        let events = server.events();
        for (name, words) in [
            ("misspelt", ["spec.ingress[0].form", "allows nothing"]),
            ("large", ["spec.ingress", "--max-policy-entries"]),
        ] {
            let found = events.iter().any(|event| {
                let (of, message) = (&event["involvedObject"], &event["message"]);
                of["kind"] == "NetworkPolicy"
                    && of["namespace"] == "lab"
                    && of["name"] == name
                    && event["reason"] == "PolicyNotEnforced"
                    && message
                        .as_str()
                        .is_some_and(|text| words.iter().all(|word| text.contains(word)))
            });
            anyhow::ensure!(found, "{name}: {events:#?}");
        }
        let others = events
            .iter()
            .filter(|event| event["involvedObject"]["name"] == "whole");
        anyhow::ensure!(others.count() == 0, "{events:#?}");
        Ok(Some(()))
    })
    .unwrap();
    let metric = r#"fairlead_problems{kind="NetworkPolicy"}"#;
    assert_eq!(cluster.agent("node1").metric(metric).unwrap(), Some(2.0));
    await_problem(
        &mut cluster,
        "lab/misspelt",
        "spec.ingress[0].form",
        "known",
    );
    let [misspelt, large, whole] = ["a1", "pod-c", "a2"].map(|pod| to_pod(&cluster, pod, 8080));
    expect_all(&cluster, Covered("pod-a"), &misspelt, false);
    expect_all(&cluster, Covered("pod-b"), &large, false);
    expect_all(&cluster, Covered("pod-b"), &whole, false);
    expect_all(&cluster, Covered("pod-a"), &whole, true);
    expect_all(&cluster, Covered("node1"), &misspelt, true);
}
