//! `--cleanup-config` while policy is in force.

use serde_json::json;
use tests::harness::{Agent, inventory};

use super::{await_all, enforce, expect_all, start, to_pod};
use crate::cluster::From::Covered;

#[test]
fn cleanup_takes_policy_off_and_leaves_nothing_of_it() {
    let mut cluster = start(&["--netpol-default-deny"], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    enforce(
        &cluster,
        "web",
        json!({"policyTypes": ["Ingress", "Egress"]}),
    );
    await_all(&cluster, Covered("pod-b"), &pod, false);
    cluster.agents.remove("node1");
    let before = inventory(&cluster.lab, "node1").unwrap();
    let names = [
        "policed_ingress",
        "policed_egress",
        "POLICY_VERDICTS",
        "POLICY_ENDPOINTS",
    ];
    for name in names {
        assert!(
            before.iter().any(|path| path.contains(name)),
            "{name}: {before:#?}"
        );
    }
    let rehearsed = Agent::cleanup(&cluster.lab, "node1", &["--dry-run"]).unwrap();
    assert!(
        rehearsed.output.contains("POLICY_VERDICTS"),
        "{rehearsed:?}"
    );
    assert_eq!(inventory(&cluster.lab, "node1").unwrap(), before);
    expect_all(&cluster, Covered("pod-b"), &pod, false);
    let removed = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let left = inventory(&cluster.lab, "node1").unwrap();
    assert_eq!(left, Vec::<String>::new());
    expect_all(&cluster, Covered("pod-b"), &pod, true);
    expect_all(&cluster, Covered("a1"), &to_pod(&cluster, "b1", 8080), true);
}
