//! What others get wrong, one case each.

use expect_test::{Expect, expect};
use model::{Direction, Kind, Protocol};
use serde_json::{Value, json};

use super::{Manifest, Traffic, cluster, node};
use crate::desired::policy::{PolicyTables, Reason};

const WEB: &str = "10.0.1.10";
const WEB6: &str = "fd00:1::10";
const DB: &str = "10.0.2.10";
const MONITOR: &str = "10.0.2.11";
const FINISHED: &str = "10.0.2.12";
const OTHER_NODE: &str = "172.16.0.2";
const OUTSIDE: &str = "192.0.2.1";

fn pod(namespace: &str, app: &str, place: u8, address: u8, http: u16) -> Manifest {
    let manifest = json!({
        "metadata": {"namespace": namespace, "name": app, "labels": {"app": app}},
        "spec": {"nodeName": format!("node{place}"),
            "containers": [{"ports": [{"name": "http", "containerPort": http}]}]},
        "status": {"phase": if app == "done" { "Succeeded" } else { "Running" }, "podIPs": [
            {"ip": format!("10.0.{place}.{address}")}, {"ip": format!("fd00:{place}::{address}")}]},
    });
    (Kind::Pod, manifest)
}

/// `shop/web` on this node; `shop/db`, `ops/monitor`, a finished pod and one with the network of
/// its node on the other.
fn shop() -> Vec<Manifest> {
    let mut manifests = vec![
        pod("shop", "web", 1, 10, 8080),
        pod("shop", "db", 2, 10, 5432),
        pod("ops", "monitor", 2, 11, 9100),
        pod("shop", "done", 2, 12, 80),
        (
            Kind::Pod,
            json!({"metadata": {"namespace": "shop", "name": "host", "labels": {"app": "host"}},
                "spec": {"nodeName": "node2", "hostNetwork": true},
                "status": {"podIP": OTHER_NODE}}),
        ),
    ];
    for name in ["shop", "ops"] {
        manifests.push((Kind::Namespace, json!({"metadata": {"name": name}})));
    }
    for number in [1, 2] {
        let address = format!("172.16.0.{number}");
        let manifest = json!({"metadata": {"name": format!("node{number}"), "labels": {"number": number.to_string()}},
            "spec": {"podCIDRs": [format!("10.0.{number}.0/24")]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        manifests.push((Kind::Node, manifest));
    }
    manifests
}

fn policy(name: &str, spec: Value) -> Manifest {
    let manifest = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
    (Kind::NetworkPolicy, manifest)
}

fn of_cluster(name: &str, tier: &str, priority: u16, egress: Value) -> Manifest {
    let manifest = json!({"metadata": {"name": name}, "spec": {"tier": tier, "priority": priority,
        "subject": {"namespaces": {}}, "egress": egress}});
    (Kind::ClusterNetworkPolicy, manifest)
}

const ICMP: u16 = 0;

/// Asks about TCP ports between `shop/web` and peers: `<` from the peer, `>` to it.
#[track_caller]
fn check(policies: Vec<Manifest>, questions: &[(char, &str, u16)], expected: &Expect) {
    let mut manifests = shop();
    manifests.extend(policies);
    let cluster = cluster(&manifests);
    let tables = PolicyTables::compile(&cluster, &node(&cluster));
    let mut text = String::new();
    for (direction, peer, port) in questions {
        let peer: std::net::IpAddr = peer.parse().unwrap();
        let own = if peer.is_ipv4() { WEB } else { WEB6 };
        let of = match direction {
            '<' => Direction::Ingress,
            _ => Direction::Egress,
        };
        let traffic = match *port {
            ICMP => Traffic::Icmp,
            port => Traffic::Port(Protocol::Tcp, port),
        };
        let verdict = tables.verdict(own.parse().unwrap(), of, peer, traffic);
        let by = match verdict.by {
            Reason::Rule(policy, index) => format!("{policy} rule {index}"),
            Reason::Isolated(policy) => format!("{policy}"),
            Reason::NoPolicy => "nothing".to_owned(),
        };
        text += &format!("{direction} {peer} {port}: {:?} by {by}\n", verdict.outcome);
    }
    expected.assert_eq(&text);
}

#[test]
fn no_rules_and_an_empty_rule_are_opposites() {
    let questions = [('<', DB, 80), ('<', DB, ICMP), ('>', DB, 80)];
    let with = |ingress: Value| policy("p", json!({"podSelector": {}, "ingress": ingress}));
    check(
        vec![with(Value::Null)],
        &questions,
        &expect![[r#"
        < 10.0.2.10 80: Deny by NetworkPolicy shop/p
        < 10.0.2.10 0: Deny by NetworkPolicy shop/p
        > 10.0.2.10 80: Allow by nothing
    "#]],
    );
    check(
        vec![with(json!([{}]))],
        &questions,
        &expect![[r#"
        < 10.0.2.10 80: Allow by NetworkPolicy shop/p rule 0
        < 10.0.2.10 0: Allow by NetworkPolicy shop/p rule 0
        > 10.0.2.10 80: Allow by nothing
    "#]],
    );
    check(
        vec![with(json!([{"from": [], "ports": []}]))],
        &questions,
        &expect![[r#"
            < 10.0.2.10 80: Allow by NetworkPolicy shop/p rule 0
            < 10.0.2.10 0: Allow by NetworkPolicy shop/p rule 0
            > 10.0.2.10 80: Allow by nothing
        "#]],
    );
}

#[test]
fn an_exception_is_of_its_block_alone() {
    let ingress = json!([{"from": [
        {"ipBlock": {"cidr": "192.0.0.0/16", "except": ["192.0.2.0/24"]}},
        {"ipBlock": {"cidr": "192.0.2.0/25"}}]}]);
    check(
        vec![policy("p", json!({"podSelector": {}, "ingress": ingress}))],
        &[
            ('<', OUTSIDE, 80),
            ('<', "192.0.2.200", 80),
            ('<', "192.0.3.1", 80),
        ],
        &expect![[r#"
            < 192.0.2.1 80: Allow by NetworkPolicy shop/p rule 0
            < 192.0.2.200 80: Deny by NetworkPolicy shop/p
            < 192.0.3.1 80: Allow by NetworkPolicy shop/p rule 0
        "#]],
    );
}

#[test]
fn a_name_opens_the_peers_own_number_and_nothing_else() {
    let to_anybody = json!([{"ports": [{"port": "http"}]}]);
    let to_block =
        json!([{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": "http"}]}]);
    let from_anybody = json!([{"ports": [{"port": "http"}]}]);
    let with = |ingress: Value, egress: Value| {
        let types = ["Ingress", "Egress"];
        policy(
            "p",
            json!({"podSelector": {}, "policyTypes": types, "ingress": ingress, "egress": egress}),
        )
    };
    check(
        vec![with(from_anybody, to_anybody)],
        &[
            ('>', DB, 5432),
            ('>', DB, 9100),
            ('>', MONITOR, 9100),
            ('>', OUTSIDE, 5432),
            ('>', OUTSIDE, ICMP),
            ('<', OUTSIDE, 8080),
            ('<', OUTSIDE, 80),
        ],
        &expect![[r#"
            > 10.0.2.10 5432: Allow by NetworkPolicy shop/p rule 0
            > 10.0.2.10 9100: Deny by NetworkPolicy shop/p
            > 10.0.2.11 9100: Allow by NetworkPolicy shop/p rule 0
            > 192.0.2.1 5432: Deny by NetworkPolicy shop/p
            > 192.0.2.1 0: Deny by NetworkPolicy shop/p
            < 192.0.2.1 8080: Allow by NetworkPolicy shop/p rule 0
            < 192.0.2.1 80: Deny by NetworkPolicy shop/p
        "#]],
    );
    check(
        vec![with(json!([]), to_block)],
        &[('>', OUTSIDE, 80), ('>', DB, 5432)],
        &expect![[r#"
            > 192.0.2.1 80: Deny by NetworkPolicy shop/p
            > 10.0.2.10 5432: Deny by NetworkPolicy shop/p
        "#]],
    );
}

#[test]
fn all_of_ipv6_is_all_of_it() {
    let ingress = json!([{"from": [{"ipBlock": {"cidr": "::/0"}}]}]);
    check(
        vec![policy("p", json!({"podSelector": {}, "ingress": ingress}))],
        &[
            ('<', "fe00::1", 80),
            ('<', "100::1", 80),
            ('<', "fd00:2::10", 80),
            ('<', OUTSIDE, 80),
        ],
        &expect![[r#"
            < fe00::1 80: Allow by NetworkPolicy shop/p rule 0
            < 100::1 80: Allow by NetworkPolicy shop/p rule 0
            < fd00:2::10 80: Allow by NetworkPolicy shop/p rule 0
            < 192.0.2.1 80: Deny by NetworkPolicy shop/p
        "#]],
    );
}

#[test]
fn peers_are_pods_with_a_network_of_their_own() {
    let ingress = json!([{"from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"no": "such"}}}]}]);
    check(
        vec![policy("p", json!({"podSelector": {}, "ingress": ingress}))],
        &[
            ('<', DB, 80),
            ('<', MONITOR, 80),
            ('<', FINISHED, 80),
            ('<', OTHER_NODE, 80),
        ],
        &expect![[r#"
            < 10.0.2.10 80: Allow by NetworkPolicy shop/p rule 0
            < 10.0.2.11 80: Deny by NetworkPolicy shop/p
            < 10.0.2.12 80: Deny by NetworkPolicy shop/p
            < 172.16.0.2 80: Deny by NetworkPolicy shop/p
        "#]],
    );
    let there = json!({"matchLabels": {"kubernetes.io/metadata.name": "ops"}});
    let ingress = json!([{"from": [{"namespaceSelector": there, "podSelector": {"matchLabels": {"app": "monitor"}}}]}]);
    check(
        vec![policy("p", json!({"podSelector": {}, "ingress": ingress}))],
        &[('<', DB, 80), ('<', MONITOR, 80)],
        &expect![[r#"
            < 10.0.2.10 80: Deny by NetworkPolicy shop/p
            < 10.0.2.11 80: Allow by NetworkPolicy shop/p rule 0
        "#]],
    );
}

#[test]
fn the_node_always_reaches_its_pods() {
    let isolated = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let deny = json!([{"action": "Deny", "to": [{"nodes": {}}, {"networks": ["0.0.0.0/0"]}]}]);
    check(
        vec![policy("p", isolated), of_cluster("deny", "Admin", 0, deny)],
        &[
            ('<', "172.16.0.1", 80),
            ('>', "172.16.0.1", 80),
            ('<', "10.0.1.1", 80),
            ('<', OTHER_NODE, 80),
            ('>', OTHER_NODE, 80),
        ],
        &expect![[r#"
            < 172.16.0.1 80: Allow by nothing
            > 172.16.0.1 80: Allow by nothing
            < 10.0.1.1 80: Allow by nothing
            < 172.16.0.2 80: Deny by NetworkPolicy shop/p
            > 172.16.0.2 80: Deny by ClusterNetworkPolicy deny rule 0
        "#]],
    );
}

#[test]
fn tiers_are_asked_in_turn() {
    let isolated = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]});
    let pods = json!([{"namespaces": {}}]);
    let admin = json!([
        {"action": "Accept", "to": [{"networks": ["192.0.2.0/24"]}], "protocols": [{"tcp": {"destinationPort": {"number": 443}}}]},
        {"action": "Pass", "to": pods},
        {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]},
    ]);
    let later = json!([{"action": "Accept", "to": pods}]);
    let baseline = json!([{"action": "Deny", "to": [{"nodes": {"matchLabels": {"number": "2"}}}, {"namespaces": {}}]}]);
    let questions = [
        ('>', DB, 80),
        ('>', MONITOR, 80),
        ('>', OUTSIDE, 443),
        ('>', OUTSIDE, 80),
        ('>', OUTSIDE, ICMP),
        ('>', OTHER_NODE, 80),
    ];
    let admins = vec![
        of_cluster("z", "Admin", 1, admin),
        of_cluster("a", "Admin", 2, later),
    ];
    check(
        [admins.clone(), vec![policy("p", isolated)]].concat(),
        &questions,
        &expect![[r#"
            > 10.0.2.10 80: Allow by NetworkPolicy shop/p rule 0
            > 10.0.2.11 80: Deny by NetworkPolicy shop/p
            > 192.0.2.1 443: Allow by ClusterNetworkPolicy z rule 0
            > 192.0.2.1 80: Deny by ClusterNetworkPolicy z rule 2
            > 192.0.2.1 0: Allow by ClusterNetworkPolicy z rule 0
            > 172.16.0.2 80: Deny by ClusterNetworkPolicy z rule 2
        "#]],
    );
    let baseline = vec![of_cluster("base", "Baseline", 0, baseline)];
    check(
        [admins, baseline.clone()].concat(),
        &questions,
        &expect![[r#"
            > 10.0.2.10 80: Deny by ClusterNetworkPolicy base rule 0
            > 10.0.2.11 80: Deny by ClusterNetworkPolicy base rule 0
            > 192.0.2.1 443: Allow by ClusterNetworkPolicy z rule 0
            > 192.0.2.1 80: Deny by ClusterNetworkPolicy z rule 2
            > 192.0.2.1 0: Allow by ClusterNetworkPolicy z rule 0
            > 172.16.0.2 80: Deny by ClusterNetworkPolicy z rule 2
        "#]],
    );
    check(
        baseline,
        &questions,
        &expect![[r#"
        > 10.0.2.10 80: Deny by ClusterNetworkPolicy base rule 0
        > 10.0.2.11 80: Deny by ClusterNetworkPolicy base rule 0
        > 192.0.2.1 443: Allow by nothing
        > 192.0.2.1 80: Allow by nothing
        > 192.0.2.1 0: Allow by nothing
        > 172.16.0.2 80: Deny by ClusterNetworkPolicy base rule 0
    "#]],
    );
}

#[test]
fn an_audited_policy_drops_nothing_and_opens_nothing() {
    let audited = |name: &str, spec: Value| {
        let (kind, mut manifest) = policy(name, spec);
        manifest["metadata"]["annotations"] = json!({"fairlead.io/policy-mode": "audit"});
        (kind, manifest)
    };
    let from_db = json!([{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]);
    let questions = [('<', DB, 80), ('<', MONITOR, 80)];
    let audit = audited("dry", json!({"podSelector": {}, "ingress": from_db}));
    check(
        vec![audit.clone()],
        &questions,
        &expect![[r#"
        < 10.0.2.10 80: Allow by nothing
        < 10.0.2.11 80: AuditDeny by NetworkPolicy shop/dry
    "#]],
    );
    let closed = policy("wet", json!({"podSelector": {}}));
    check(
        vec![audit, closed],
        &questions,
        &expect![[r#"
        < 10.0.2.10 80: Deny by NetworkPolicy shop/wet
        < 10.0.2.11 80: Deny by NetworkPolicy shop/wet
    "#]],
    );
}

#[test]
fn default_deny_closes_what_is_not_known_to_be_a_pod() {
    let cluster = cluster(&shop());
    let mut node = node(&cluster);
    let verdict = |tables: &PolicyTables, pod: &str| {
        let [pod, peer] = [pod, DB].map(|address| address.parse().unwrap());
        tables
            .verdict(pod, Direction::Egress, peer, Traffic::Icmp)
            .outcome
    };
    use crate::desired::policy::Outcome::{Allow, Deny};
    let open = PolicyTables::compile(&cluster, &node);
    assert_eq!(
        [WEB, "10.0.1.99"].map(|pod| verdict(&open, pod)),
        [Allow, Allow]
    );
    node.default_deny = true;
    let closed = PolicyTables::compile(&cluster, &node);
    assert_eq!(
        [WEB, "10.0.1.99"].map(|pod| verdict(&closed, pod)),
        [Allow, Deny]
    );
    node.pod_cidrs.clear();
    let unknown = PolicyTables::compile(&cluster, &node);
    assert_eq!((unknown.closed().len(), unknown.problems().len()), (0, 1));
}

#[test]
fn policies_that_select_no_pod_of_the_node_cost_nothing() {
    let elsewhere = json!({"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}]}]});
    let mut manifests = shop();
    manifests.push(policy("p", elsewhere));
    let cluster = cluster(&manifests);
    let size = PolicyTables::compile(&cluster, &node(&cluster)).size();
    // The node itself at its two addresses.
    assert_eq!((size.prefixes, size.classes, size.sets), (2, 0, 0));
}
