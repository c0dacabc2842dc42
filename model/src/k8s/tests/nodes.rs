//! Where a node's pods get their addresses from.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::k8s::reduce;
use crate::{Kind, Object};

#[track_caller]
fn check(annotations: &Value, spec: &Value, expected: &Expect) {
    let object = json!({"metadata": {"name": "n", "annotations": annotations}, "spec": spec});
    let reduced = reduce(Kind::Node, &object);
    let Some(Object::Node(node)) = &reduced.object else {
        panic!("{:?}", reduced.problems)
    };
    let networks: Vec<_> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    let mut text = format!("{}\n", networks.join(" "));
    for problem in &reduced.problems {
        text += &format!("! {problem}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn pod_networks_are_of_the_spec_unless_an_annotation_says_otherwise() {
    let none = json!({});
    let both = json!({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00:1::/64"]});
    check(
        &none,
        &both,
        &expect![[r#"
        10.0.1.0/24 fd00:1::/64
    "#]],
    );
    check(
        &none,
        &json!({"podCIDR": "10.0.1.0/24"}),
        &expect![[r#"
        10.0.1.0/24
    "#]],
    );
    let old = json!({"kube-router.io/pod-cidr": "10.0.9.0/24"});
    check(
        &old,
        &both,
        &expect![[r#"
        10.0.9.0/24
    "#]],
    );
    check(
        &old,
        &none,
        &expect![[r#"
        10.0.9.0/24
    "#]],
    );
    let new = json!({"kube-router.io/pod-cidr": "10.0.9.0/24",
        "kube-router.io/pod-cidrs": "10.0.8.0/24, fd00:8::/64"});
    check(
        &new,
        &both,
        &expect![[r#"
        10.0.8.0/24 fd00:8::/64
    "#]],
    );
}

#[test]
fn what_an_annotation_has_wrong_is_reported_and_the_rest_counts() {
    let spec = json!({"podCIDRs": ["10.0.1.0/24"]});
    let half = json!({"kube-router.io/pod-cidrs": "10.0.8.0/33,fd00:8::/64"});
    check(
        &half,
        &spec,
        &expect![[r#"
        fd00:8::/64
        ! Node n: metadata.annotations.kube-router.io/pod-cidrs has `10.0.8.0/33`, which is not a network as in 10.0.0.0/24; it is ignored; where none is left, spec.podCIDRs counts
    "#]],
    );
    let junk = json!({"kube-router.io/pod-cidr": ""});
    check(
        &junk,
        &spec,
        &expect![[r#"
        10.0.1.0/24
        ! Node n: metadata.annotations.kube-router.io/pod-cidr has ``, which is not a network as in 10.0.0.0/24; it is ignored; where none is left, spec.podCIDRs counts
    "#]],
    );
}
