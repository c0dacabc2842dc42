//! Ways on which a packet is not what it was sent as: Services, a pod's own Service, errors.

use super::*;

fn service_of(pod: &str) -> ServiceSpec {
    ServiceSpec::new("web", 10)
        .both_on_nodes(80, 8080, 30080)
        .endpoints(&[pod])
}

#[test]
fn a_pod_reaches_itself_through_its_service_whatever_the_rules_are() {
    let service = service_of("a1");
    let cluster = start(&[], &[&service]);
    let own = to(|v6| service.ip(v6), 80);
    enforce(
        &cluster,
        "web",
        json!({"policyTypes": ["Ingress", "Egress"]}),
    );
    await_all(&cluster, Covered("pod-a"), &own, false);
    for place in [Covered("a1"), Uncovered("a1")] {
        expect_all(&cluster, place, &own, true);
    }
    // It may reach nobody else.
    expect_all(
        &cluster,
        Covered("a1"),
        &to_pod(&cluster, "a2", 8080),
        false,
    );
}

#[test]
fn a_named_port_opens_the_backends_own_number_behind_a_service() {
    let service = service_of("a1");
    let cluster = start(&[], &[&service]);
    let through = to(|v6| service.ip(v6), 80);
    let egress = |port: &str| {
        let ports = json!([{"port": port, "protocol": "TCP"}, {"port": port, "protocol": "UDP"}]);
        json!({"policyTypes": ["Egress"], "egress": [{"ports": ports}]})
    };
    // 8080 is `http`, and 9090 is `http-1`.
    for (name, open) in [("http-1", false), ("http", true), ("http-1", false)] {
        enforce(&cluster, "client", egress(name));
        for place in [Covered("pod-a"), Uncovered("pod-a")] {
            await_all(&cluster, place, &through, open);
        }
        let other = to_pod(&cluster, "a2", 9090);
        expect_all(&cluster, Covered("pod-a"), &other, !open);
    }
}

#[test]
fn a_node_port_is_judged_by_the_real_client_and_the_real_backend() {
    let service = service_of("a1");
    let mut cluster = start(&[], &[&service]);
    let node_port = to(|v6| cluster.lab.address("node1", v6), 30080);
    let of_cluster = |action: &str| {
        let policy = json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "outside"},
            "spec": {"tier": "Admin", "priority": 3,
                "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}},
                "ingress": [{"action": action, "from": [{"namespaces": {"matchLabels": {"team": "other"}}}]}]},
        });
        let manifests = cluster.lab.manifests();
        manifests.write("cluster.yaml", &[policy]).unwrap();
    };
    let network =
        json!([{"ipBlock": {"cidr": "172.30.0.0/24"}}, {"ipBlock": {"cidr": "fd00:30::/64"}}]);
    enforce(&cluster, "web", from(network));
    await_all(&cluster, Covered("pod-a"), &node_port, false);
    expect_all(&cluster, Covered("client"), &node_port, true);
    // By whose node port they come does not matter either.
    of_cluster("Accept");
    let pod = to_pod(&cluster, "a1", 8080);
    await_all(&cluster, Covered("pod-b"), &pod, true);
    expect_all(&cluster, Covered("pod-a"), &pod, false);
    of_cluster("Deny");
    await_all(&cluster, Covered("pod-b"), &pod, false);
    expect_all(&cluster, Covered("client"), &node_port, true);
    for verdict in ["allowed", "dropped"] {
        let name = format!(
            r#"fairlead_policy_verdicts_total{{kind="ClusterNetworkPolicy",namespace="",policy="outside",direction="ingress",verdict="{verdict}"}}"#
        );
        let count = cluster.agent("node1").metric(&name).unwrap();
        assert!(count > Some(0.0), "{verdict}: {count:?}");
    }
}

#[test]
fn what_a_pod_sends_to_its_nodes_port_is_judged_by_the_backend() {
    let mut cluster = start(&[], &[&service_of("b1")]);
    // Between the node and its pods everything passes, and this is not for the node.
    let node_port = to(|v6| cluster.lab.address("node1", v6), 30080);
    let egress = |to: &str| json!({"policyTypes": ["Egress"], "egress": [{"to": [app(to)]}]});
    for (to, open) in [("web", false), ("db", true), ("web", false)] {
        enforce(&cluster, "client", egress(to));
        for place in [Covered("pod-a"), Uncovered("pod-a")] {
            await_all(&cluster, place, &node_port, open);
        }
        expect_all(&cluster, Covered("a1"), &node_port, true);
    }
    let dropped = r#"fairlead_policy_verdicts_total{kind="NetworkPolicy",namespace="lab",policy="tested",direction="egress",verdict="dropped"}"#;
    let count = cluster.agent("node1").metric(dropped).unwrap();
    assert!(count > Some(0.0), "{count:?}");
}

#[test]
fn errors_come_back_to_who_was_allowed_to_ask() {
    let cluster = start(&[], &[]);
    let closed_port = |v6| {
        let traffic = Traffic::udp_fresh(cluster.lab.address("a1", v6), 4444);
        traffic.count(1).timeout_milliseconds(400)
    };
    let found = |place, v6| {
        let report = cluster.run(place, &closed_port(v6));
        let mut errors = report.errors.into_keys();
        errors.next().unwrap_or_default()
    };
    // Who answers may begin nothing by itself.
    let rules =
        json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [app("client")]}]});
    enforce(&cluster, "web", rules);
    await_all(
        &cluster,
        Covered("pod-b"),
        &to_pod(&cluster, "a1", 8080),
        false,
    );
    for v6 in [false, true] {
        assert_eq!(found(Covered("pod-a"), v6), "refused", "IPv6: {v6}");
        assert_eq!(found(Covered("pod-b"), v6), "timeout", "IPv6: {v6}");
    }
}

#[test]
fn an_audited_policy_counts_what_it_would_drop() {
    let mut cluster = start(&[], &[]);
    let pod = to_pod(&cluster, "a1", 8080);
    let audited = |cluster: &mut Cluster| {
        let metric = cluster
            .agent("node1")
            .metric("fairlead_policy_audited_total");
        metric.unwrap().unwrap_or(0.0)
    };
    assert!(audited(&mut cluster) < 1.0);
    enforce(&cluster, "web", from(json!([app("client")])));
    await_all(&cluster, Covered("pod-b"), &pod, false);
    cluster
        .lab
        .manifests()
        .edit(POLICIES, |documents| {
            documents[0]["metadata"]["annotations"] = json!({"fairlead.io/policy-mode": "audit"});
        })
        .unwrap();
    await_all(&cluster, Covered("pod-b"), &pod, true);
    let before = audited(&mut cluster);
    for traffic in &pod {
        let report = cluster.run(Covered("pod-b"), &traffic.clone().count(25));
        assert!(report.is_clean(), "{report:?}");
    }
    expect_all(&cluster, Covered("pod-a"), &pod, true);
    let after = audited(&mut cluster);
    // A connection or flow of its own each; of the one that is allowed nothing is counted.
    assert!((after - before - 100.0).abs() < 0.5, "{before} {after}");
}
