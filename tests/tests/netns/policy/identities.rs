//! More peers than the table of identities holds.

use serde_json::{Value, json};

use super::limits::{await_no_problem, await_problem, policy};
use super::{PODS, POLICIES, app, await_all, expect_all, label, start, to_pod};
use crate::cluster::From::Covered;

const STRANGERS: &str = "strangers.yaml";
const MANY: u8 = 100;

/// Pods of another node that there are none of, before those of the lab in every order.
fn strangers() -> Vec<Value> {
    let pod = |number: u8| {
        let address = format!("1.0.0.{number}");
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("stranger-{number}"), "namespace": "lab", "labels": {"app": "many"}},
            "spec": {"nodeName": "node2", "containers": []},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
    };
    (0..MANY).map(pod).collect()
}

#[test]
fn peers_that_do_not_fit_are_strangers_and_pass_nowhere_they_should_not() {
    let mut cluster = start(&["--max-policy-entries", "64"], &[]);
    let pods = PODS.map(|(name, namespace, of)| match name {
        "pod-c" => (name, namespace, "many"),
        _ => (name, namespace, of),
    });
    label(&cluster, &pods);
    let [a1, a2, pod_c] = ["a1", "a2", "pod-c"].map(|pod| to_pod(&cluster, pod, 8080));
    let small = policy("small", "web-2", &json!([{"from": [app("client")]}]));
    let wide = policy(
        "wide",
        "web",
        &json!([{"from": [app("client"), app("many")]}]),
    );
    let write = |policies: &[Value]| {
        let manifests = cluster.lab.manifests();
        manifests.write(POLICIES, policies).unwrap();
    };
    write(&[small.clone(), wide.clone()]);
    await_all(&cluster, Covered("pod-b"), &a1, false);
    await_all(&cluster, Covered("pod-b"), &a2, false);
    await_all(&cluster, Covered("pod-c"), &a1, true);
    // Away and back, so that it is the last that is new.
    write(std::slice::from_ref(&small));
    await_all(&cluster, Covered("pod-b"), &a1, true);
    let manifests = cluster.lab.manifests();
    manifests.write(STRANGERS, &strangers()).unwrap();
    write(&[small.clone(), wide]);
    await_all(&cluster, Covered("pod-c"), &a1, false);
    expect_all(&cluster, Covered("pod-a"), &a1, true);
    expect_all(&cluster, Covered("pod-b"), &a1, false);
    expect_all(&cluster, Covered("node1"), &a1, true);
    expect_all(&cluster, Covered("pod-a"), &a2, true);
    expect_all(&cluster, Covered("pod-b"), &a2, false);
    await_problem(&mut cluster, "lab/wide", "spec.ingress", "in full");
    let status = cluster.agent("node1").status().unwrap();
    let problems = status["problems"].to_string();
    assert!(problems.contains("POLICY_IDENTITIES"), "{problems}");
    assert!(problems.contains("--max-policy-entries"), "{problems}");
    assert!(!problems.contains("lab/small"), "{problems}");
    // Who is barred and not known would pass with all others: the pod is closed.
    let manifests = cluster.lab.manifests();
    manifests.remove(STRANGERS).unwrap();
    let barring = |count: u8| {
        let but: Vec<String> = (0..count).map(|n| format!("198.51.100.{n}/32")).collect();
        let blocks = json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": but}}]}]);
        policy("barring", "many", &blocks)
    };
    manifests
        .write(POLICIES, &[small.clone(), barring(2)])
        .unwrap();
    await_no_problem(&mut cluster);
    let v4 = &pod_c[..2];
    await_all(&cluster, Covered("pod-a"), v4, true);
    let manifests = cluster.lab.manifests();
    manifests
        .write(POLICIES, &[small.clone(), barring(MANY)])
        .unwrap();
    await_all(&cluster, Covered("pod-a"), v4, false);
    expect_all(&cluster, Covered("node1"), v4, true);
    expect_all(&cluster, Covered("pod-a"), &a2, true);
    await_problem(&mut cluster, "lab/barring", "spec.ingress", "IDENTITIES");
    let manifests = cluster.lab.manifests();
    manifests.write(POLICIES, &[small]).unwrap();
    await_all(&cluster, Covered("pod-a"), v4, true);
    await_no_problem(&mut cluster);
}
