//! What remains of policies of which parts cannot be read: never more than they allow.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::k8s::reduce;
use crate::{Kind, Object, PolicyMode};

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
