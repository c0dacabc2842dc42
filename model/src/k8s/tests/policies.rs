//! What remains of policies of which parts cannot be read: never more than they allow.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::k8s::reduce;
use crate::{Kind, Object, PolicyMode};

/// Rules of a NetworkPolicy for each direction it isolates, and what is wrong with it.
#[track_caller]
fn check_of_namespace(spec: &Value, expected: &Expect) {
    let object = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
    let reduced = reduce(Kind::NetworkPolicy, &object);
    let Some(Object::NetworkPolicy(policy)) = &reduced.object else {
        panic!("left out: {:?}", reduced.problems)
    };
    let mut text = String::new();
    for (direction, rules) in [("in", &policy.ingress), ("out", &policy.egress)] {
        for rule in rules.iter().flatten() {
            text += &format!("{direction} {:?} {:?}\n", rule.peers, rule.ports);
        }
        text += &format!("{direction}: isolated: {}\n", rules.is_some());
    }
    for problem in &reduced.problems {
        text += &format!("! {problem}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn what_stands_beside_an_unknown_field_allows_nothing() {
    check_of_namespace(
        &json!({"podSelector": {}, "ingress": [
            {"form": [{"podSelector": {}}]},
            {"to": [{"podSelector": {}}], "ports": [{"port": 80}]},
            {"from": [{"podSelector": {}, "serviceAccounts": ["web"]}, {"podSelector": {}}]},
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "but": ["10.1.0.0/16"]}}]},
            {"from": [{"podSelector": {"labels": {"app": "db"}}}]},
            {"ports": [{"port": 80, "from": 1024}, {"port": 81}]},
        ]}),
        &expect![[r#"
            in Only([]) Only([])
            in Only([]) Only([])
            in Only([Pods { pods: LabelSelector { requirements: [] }, namespaces: None }]) All
            in Only([]) All
            in Only([]) All
            in All Only([Range { protocol: Tcp, first: 81, last: 81 }])
            in: isolated: true
            out: isolated: false
            ! NetworkPolicy shop/web: spec.ingress[0].form is no field that is known here; it allows nothing
            ! NetworkPolicy shop/web: spec.ingress[1].to is no field that is known here; it allows nothing
            ! NetworkPolicy shop/web: spec.ingress[2].from[0].serviceAccounts is no field that is known here; it allows nothing
            ! NetworkPolicy shop/web: spec.ingress[3].from[0].ipBlock.but is no field that is known here; it allows nothing
            ! NetworkPolicy shop/web: spec.ingress[4].from[0].podSelector.labels is no field that is known here; it allows nothing
            ! NetworkPolicy shop/web: spec.ingress[5].ports[0].from is no field that is known here; it allows nothing
        "#]],
    );
    // It may be the egress that its author means.
    check_of_namespace(
        &json!({"podSelector": {}, "egres": []}),
        &expect![[r#"
        in: isolated: true
        out: isolated: true
        ! NetworkPolicy shop/web: spec.egres is no field that is known here; the policy isolates both directions where it has no policyTypes
    "#]],
    );
    check_of_namespace(
        &json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}], "egres": []}),
        &expect![[r#"
            in All All
            in: isolated: true
            out: isolated: false
            ! NetworkPolicy shop/web: spec.egres is no field that is known here; the policy isolates both directions where it has no policyTypes
        "#]],
    );
}

#[test]
fn what_cannot_be_read_of_a_port_or_a_peer_allows_nothing() {
    check_of_namespace(
        &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"ports": [{"port": 80, "endPort": 79}, {"port": "http", "endPort": 90}, {"endPort": 90},
                {"port": 0}, {"port": 65536}, {"protocol": "ICMP"}, {"port": 443, "protocol": "UDP"}]},
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2"]}}]},
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}, {}]},
            {"to": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}}]},
            {"to": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}}]},
        ]}),
        &expect![[r#"
            in: isolated: false
            out All Only([Range { protocol: Udp, first: 443, last: 443 }])
            out Only([]) All
            out Only([]) All
            out Only([]) All
            out Only([]) All
            out: isolated: true
            ! NetworkPolicy shop/web: spec.egress[0].ports[0].endPort is 79, which is before port 80; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[0].ports[1].endPort needs a `port` that is a number; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[0].ports[2].endPort needs a `port` that is a number; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[0].ports[3].port is 0, not a port from 1 to 65535; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[0].ports[4].port is 65536, not a port from 1 to 65535; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[0].ports[5].protocol is "ICMP", not TCP, UDP or SCTP; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[1].to[0].ipBlock.except[1] is "10.2", not a network as in 10.0.0.0/24; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[2].to[0].ipBlock stands beside a selector; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[2].to[1] names neither pods nor namespaces nor addresses; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[3].to[0].podSelector.matchExpressions[0].operator is "Near", not In, NotIn, Exists or DoesNotExist; it allows nothing
            ! NetworkPolicy shop/web: spec.egress[4].to[0].podSelector.matchExpressions[0].values is missing or empty; it allows nothing
        "#]],
    );
}

#[track_caller]
fn check(spec: &Value, expected: &Expect) {
    let object = json!({"metadata": {"name": "guard"}, "spec": spec});
    let reduced = reduce(Kind::ClusterNetworkPolicy, &object);
    let Some(Object::ClusterNetworkPolicy(policy)) = &reduced.object else {
        panic!("left out: {:?}", reduced.problems)
    };
    let mut text = format!("{:?} {}\n", policy.tier, policy.priority);
    for rule in &policy.egress {
        text += &format!("{:?} {:?} {:?}\n", rule.action, rule.peers, rule.ports);
    }
    for problem in &reduced.problems {
        text += &format!("! {problem}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn unreadable_rules_of_administrators_deny_and_never_accept() {
    let subject = json!({"namespaces": {}});
    check(
        &json!({"tier": "Baseline", "priority": 7, "subject": subject, "egress": [
            {"action": "Accept", "to": [{"networks": ["10.0.0.1/8"]}, {"domainNames": ["a.example"]}],
                "protocols": [{"tcp": {"destinationPort": {"number": 80}}}]},
            {"action": "Pass", "to": [{"domainNames": ["a.example"]}]},
            {"action": "Deny", "to": []},
            {"action": "Reject", "to": [{"nodes": {}}], "protocols": [{"sctp": {}}]},
        ]}),
        &expect![[r#"
            Baseline 7
            Accept Only([]) Only([])
            Deny All All
            Deny All All
            Deny Only([Nodes(LabelSelector { requirements: [] })]) Only([Protocol(Sctp)])
            ! ClusterNetworkPolicy guard: spec.egress[0].to[1] has not exactly one of namespaces, pods, nodes, networks; an Accept rule matches nothing, any other denies everything
            ! ClusterNetworkPolicy guard: spec.egress[1].to[0] has not exactly one of namespaces, pods, nodes, networks; an Accept rule matches nothing, any other denies everything
            ! ClusterNetworkPolicy guard: spec.egress[2].to is empty; an Accept rule matches nothing, any other denies everything
            ! ClusterNetworkPolicy guard: spec.egress[3].action is "Reject", not Accept, Deny or Pass; the rule denies
        "#]],
    );
    check(
        &json!({"tier": "Admin", "priority": 2000, "subject": subject, "egress": [
            {"action": "Accept", "to": [{"namespaces": {}}]},
            {"action": "Deny", "to": [{"namespaces": {}}]},
        ]}),
        &expect![[r#"
            Admin 0
            Accept Only([]) Only([])
            Deny Only([Pods { pods: LabelSelector { requirements: [] }, namespaces: Some(LabelSelector { requirements: [] }) }]) All
            ! ClusterNetworkPolicy guard: spec.priority is 2000, not a number from 0 to 1000; its Deny rules come first, its others are left out
        "#]],
    );
}

#[test]
fn an_unknown_field_of_an_administrators_policy_opens_nothing() {
    let subject = json!({"namespaces": {}});
    check(
        &json!({"tier": "Baseline", "priority": 7, "subject": subject, "egress": [
            {"name": "known", "action": "Accept", "to": [{"namespaces": {}}]},
            {"action": "Accept", "to": [{"namespaces": {}}], "unless": "night"},
            {"action": "Pass", "to": [{"namespaces": {}}], "from": []},
            {"action": "Accept", "to": [{"namespaces": {}}], "protocols": [{"tcp": {"sourcePort": 80}}]},
        ]}),
        &expect![[r#"
            Baseline 7
            Accept Only([Pods { pods: LabelSelector { requirements: [] }, namespaces: Some(LabelSelector { requirements: [] }) }]) All
            Accept Only([]) Only([])
            Deny All All
            Accept Only([]) Only([])
            ! ClusterNetworkPolicy guard: spec.egress[1].unless is no field that is known here; an Accept rule matches nothing, any other denies everything
            ! ClusterNetworkPolicy guard: spec.egress[2].from is no field that is known here; an Accept rule matches nothing, any other denies everything
            ! ClusterNetworkPolicy guard: spec.egress[3].protocols[0].tcp.sourcePort is no field that is known here; an Accept rule matches nothing, any other denies everything
        "#]],
    );
    check(
        &json!({"tier": "Baseline", "priority": 7, "subject": subject, "from": "tomorrow", "egress": [
            {"action": "Accept", "to": [{"namespaces": {}}]},
            {"action": "Deny", "to": [{"nodes": {}}]},
        ]}),
        &expect![[r#"
            Admin 0
            Accept Only([]) Only([])
            Deny Only([Nodes(LabelSelector { requirements: [] })]) All
            ! ClusterNetworkPolicy guard: spec.from is no field that is known here; its Deny rules come first, its others are left out
        "#]],
    );
}

#[test]
fn an_administrators_policy_is_enforced_and_told_of_where_it_asks_to_be_audited() {
    for (annotation, count) in [("audit", 1), ("enforce", 0)] {
        let object = json!({"metadata": {"name": "guard", "annotations": {"fairlead.io/policy-mode": annotation}},
            "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}});
        let problems = reduce(Kind::ClusterNetworkPolicy, &object).problems;
        assert_eq!(problems.len(), count, "{problems:?}");
        let field = "metadata.annotations.fairlead.io/policy-mode";
        assert!(problems.iter().all(|problem| problem.field == field));
    }
}

#[test]
fn another_projects_kind_of_the_same_name_is_not_read() {
    let object =
        json!({"apiVersion": "crd.antrea.io/v1beta1", "metadata": {"name": "guard"}, "spec": {}});
    let reduced = reduce(Kind::ClusterNetworkPolicy, &object);
    assert_eq!((reduced.object, reduced.problems), (None, vec![]));
}

#[test]
fn a_policy_audits_only_where_it_says_so_readably() {
    for (annotation, expected) in [
        (json!("audit"), PolicyMode::Audit),
        (json!("enforce"), PolicyMode::Enforce),
        (json!("Audit"), PolicyMode::Enforce),
        (json!(true), PolicyMode::Enforce),
    ] {
        let object = json!({"metadata": {"namespace": "shop", "name": "web",
            "annotations": {"fairlead.io/policy-mode": annotation}}, "spec": {"podSelector": {}}});
        let Some(Object::NetworkPolicy(policy)) = reduce(Kind::NetworkPolicy, &object).object
        else {
            panic!("left out")
        };
        assert_eq!(policy.mode, expected, "{annotation}");
    }
}
