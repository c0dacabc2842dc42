//! Policies in audit mode, where packets skip the host's stack.

use super::large::large_tcp;
use super::*;

const CONNECTIONS: u64 = 20;

impl Network {
    fn count_of(&self, node: &str, name: &str) -> u64 {
        let status = self.agents[node].status().unwrap();
        let mut rows = status["counters"].as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == name);
        row.unwrap()["value"].as_u64().unwrap()
    }

    fn audited(&self, node: &str) -> f64 {
        let metric = self.agents[node].metric("fairlead_policy_audited_total");
        metric.unwrap().unwrap_or_default()
    }
}

#[test]
fn what_an_audited_policy_would_drop_skips_the_stack_and_is_counted() {
    let network = Network::build(Families::Both, 1500, &[]);
    let of_pods: Vec<_> = PODS
        .iter()
        .map(|(pod, _)| (*pod, "shop", json!({"app": pod})))
        .collect();
    network.lab.apply_pods(&of_pods).unwrap();
    let manifests = network.lab.manifests();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    manifests.write("namespace.yaml", &[namespace]).unwrap();
    // Nobody may come to `b` and `d`, and `c` may go nowhere; if it were enforced.
    let policy = |name: &str, apps: Value, direction: &str, mode: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "shop", "annotations": {"fairlead.io/policy-mode": mode}},
            "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": apps}]},
                "policyTypes": [direction]}})
    };
    let write = |network: &Network, mode: &str| {
        let policies = [
            policy("in", json!(["b", "d"]), "Ingress", mode),
            policy("out", json!(["c"]), "Egress", mode),
        ];
        network
            .lab
            .manifests()
            .write("policy.yaml", &policies)
            .unwrap();
    };
    write(&network, "audit");
    let mut network = network;
    NODES.into_iter().for_each(|node| network.start_agent(node));
    for agent in network.agents.values_mut() {
        agent.wait_ready().unwrap();
    }
    for node in NODES {
        eventually("the fast path is there", || {
            let row = network.agents[node].status()?["fast_path"].clone();
            let pods = if node == "node1" { 2 } else { 1 };
            Ok((row["off"].is_null() && row["pods"] == pods && row["networks"] == 4).then_some(()))
        })
        .unwrap();
    }
    // On a node, between nodes, and out of a pod that may not: where it is counted.
    for (from, to, counted_at) in [
        ("a", "d", "node1"),
        ("a", "b", "node2"),
        ("c", "a", "node3"),
    ] {
        for v6 in [false, true] {
            let sender = if from == "c" { "node3" } else { "node1" };
            let before = (
                network.count_of(sender, "fast_path"),
                network.audited(counted_at),
            );
            let traffic = Traffic::connect(network.lab.address(to, v6), 8080);
            let traffic = traffic.count(CONNECTIONS).every_milliseconds(0);
            let report = Flow::run(network.lab.place(from), &traffic).unwrap();
            assert!(report.is_clean(), "{from} to {to}: {report:?}");
            let skipped = network.count_of(sender, "fast_path") - before.0;
            assert!(
                skipped >= CONNECTIONS * 3,
                "{from} to {to}, IPv6 {v6}: {skipped}"
            );
            let audited = network.audited(counted_at) - before.1;
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let expected = CONNECTIONS as f64;
            assert!(
                (audited - expected).abs() < 0.5,
                "{from} to {to}: {audited}"
            );
        }
    }
    // Long transfers skip it too.
    let before = network.count_of("node1", "fast_path");
    large_tcp(&network.lab, "a", "b", false, 4 << 20);
    assert!(network.count_of("node1", "fast_path") - before > 50);

    // The same rules in force.
    write(&network, "enforce");
    let reaches = |from: &str, to: &str| {
        let traffic = Traffic::connect(network.lab.address(to, false), 8080);
        let traffic = traffic.count(1).timeout_milliseconds(300);
        let report = Flow::run(network.lab.place(from), &traffic).unwrap();
        report.answered == 1
    };
    for (from, to) in [("a", "d"), ("a", "b"), ("c", "a")] {
        eventually("it is dropped", || Ok((!reaches(from, to)).then_some(()))).unwrap();
    }
}
