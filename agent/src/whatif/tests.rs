//! Changes over values.

use std::path::Path;

use agent_abi::connection::{
    CONNECTION_CUT, CONNECTION_FORWARD, CONNECTION_UNTRANSLATED, ConnectionV3, EPOCH_NEVER, TupleV1,
};
use agent_abi::mapped_v4;
use agent_abi::settings::SettingsV2;
use bytemuck::Zeroable as _;
use expect_test::{Expect, expect};
use model::{Cluster, Kind};
use serde_json::{Value, json};

use super::read::file;
use super::*;
use crate::desired::policy::tests::{cluster, node};

const SECOND: u64 = 1_000_000_000;
const WEB: [u8; 4] = [10, 0, 1, 10];
const DB: [u8; 4] = [10, 0, 2, 10];

fn pod(app: &str, place: u8) -> (Kind, Value) {
    let manifest = json!({
        "metadata": {"namespace": "shop", "name": app, "labels": {"app": app}},
        "spec": {"nodeName": format!("node{place}")},
        "status": {"podIPs": [{"ip": format!("10.0.{place}.10")}]},
    });
    (Kind::Pod, manifest)
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

/// `shop/web` on this node, of which `only-db` lets `shop/db` come in.
fn shop() -> Cluster {
    let only_db = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]});
    cluster(&[
        pod("web", 1),
        pod("db", 2),
        (Kind::NetworkPolicy, policy("only-db", &only_db)),
    ])
}

fn connection(peer: [u8; 4], pod_port: u16, peer_port: u16, flags: u32) -> (TupleV1, ConnectionV3) {
    let key = TupleV1 {
        source: mapped_v4(WEB),
        destination: mapped_v4(peer),
        source_port: pod_port.to_be_bytes(),
        destination_port: peer_port.to_be_bytes(),
        protocol: 6,
        _pad: [0; 3],
    };
    let value = ConnectionV3 {
        rewrite: key,
        last_seen: 95 * SECOND,
        epoch: 7,
        flags: CONNECTION_UNTRANSLATED | flags,
        ..ConnectionV3::zeroed()
    };
    (key, value)
}

fn seen(connections: &[(TupleV1, ConnectionV3)]) -> BTreeMap<Flow, Seen> {
    let settings = SettingsV2 {
        tcp_seconds: 60,
        udp_seconds: 60,
        ..SettingsV2::zeroed()
    };
    flows::of_connections(connections, &settings, 100 * SECOND)
}

fn check(change: &Change, expected: &Expect) {
    let cluster = shop();
    let flows = seen(&[
        // The database asks the web server, twice; the web server asks the database; somebody
        // else was cut.
        connection(DB, 8080, 40_000, 0),
        connection(DB, 8080, 40_001, 0),
        connection(DB, 50_000, 5432, CONNECTION_FORWARD),
        connection([192, 0, 2, 1], 8080, 40_000, CONNECTION_CUT),
    ]);
    let answer = judge(&cluster, &node(&cluster), change, &flows).unwrap();
    expected.assert_eq(&table(&answer));
}

fn deleting(names: &[&str], objects: Vec<Value>) -> Change {
    Change {
        objects,
        deleted: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn a_change_is_told_by_what_it_cuts_and_what_it_allows() {
    check(
        &Change::default(),
        &expect![[r#"
        3 flows of the pods of node1 seen lately: 0 would be cut, 0 newly allowed, 0 audited, 3 as before
    "#]],
    );
    check(
        &deleting(&["shop/only-db"], vec![]),
        &expect![[r#"
        3 flows of the pods of node1 seen lately: 0 would be cut, 1 newly allowed, 0 audited, 2 as before

        Would newly be allowed
        POD       DIRECTION  PEER       PORT      CONNECTIONS  SEEN     NOW                                                  THEN
        shop/web  ingress    192.0.2.1  8080/tcp  1            5 s ago  deny: NetworkPolicy shop/only-db, no rule allows it  allow: no policy
    "#]],
    );
    // Of the same name, so it takes the place of the one there is.
    let other = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 8080}]}]});
    check(
        &deleting(&[], vec![policy("only-db", &other)]),
        &expect![[r#"
            3 flows of the pods of node1 seen lately: 2 would be cut, 1 newly allowed, 0 audited, 0 as before

            Would be cut
            POD       DIRECTION  PEER                     PORT      CONNECTIONS  SEEN     NOW                                       THEN
            shop/web  ingress    10.0.2.10 (Pod shop/db)  8080/tcp  2            5 s ago  allow: NetworkPolicy shop/only-db rule 0  deny: NetworkPolicy shop/only-db, no rule allows it
            shop/web  egress     10.0.2.10 (Pod shop/db)  5432/tcp  1            5 s ago  allow: no policy                          deny: NetworkPolicy shop/only-db, no rule allows it

            Would newly be allowed
            POD       DIRECTION  PEER       PORT      CONNECTIONS  SEEN     NOW                                                  THEN
            shop/web  ingress    192.0.2.1  8080/tcp  1            5 s ago  deny: NetworkPolicy shop/only-db, no rule allows it  allow: NetworkPolicy shop/only-db rule 0
        "#]],
    );
    let mut audited = policy(
        "audited",
        &json!({"podSelector": {}, "policyTypes": ["Egress"]}),
    );
    audited["metadata"]["annotations"] = json!({"fairlead.io/policy-mode": "audit"});
    check(
        &deleting(&[], vec![audited]),
        &expect![[r#"
        3 flows of the pods of node1 seen lately: 0 would be cut, 0 newly allowed, 1 audited, 2 as before

        Would be audited
        POD       DIRECTION  PEER                     PORT      CONNECTIONS  SEEN     NOW               THEN
        shop/web  egress     10.0.2.10 (Pod shop/db)  5432/tcp  1            5 s ago  allow: no policy  audit: NetworkPolicy shop/audited, no rule allows it
    "#]],
    );
}

#[test]
fn a_policy_of_the_cluster_is_changed_like_any_other() {
    let baseline = json!({"kind": "ClusterNetworkPolicy", "metadata": {"name": "closed"}, "spec": {
        "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
        "egress": [{"action": "Deny", "to": [{"networks": ["10.0.2.0/24"]}]}]}});
    check(
        &deleting(&[], vec![baseline]),
        &expect![[r#"
        3 flows of the pods of node1 seen lately: 1 would be cut, 0 newly allowed, 0 audited, 2 as before

        Would be cut
        POD       DIRECTION  PEER                     PORT      CONNECTIONS  SEEN     NOW               THEN
        shop/web  egress     10.0.2.10 (Pod shop/db)  5432/tcp  1            5 s ago  allow: no policy  deny: ClusterNetworkPolicy closed rule 0
    "#]],
    );
}

#[test]
fn what_is_forgotten_or_was_refused_is_no_flow() {
    let mut old = connection(DB, 8080, 40_000, 0);
    old.1.last_seen = 39 * SECOND;
    let mut refused = connection(DB, 50_000, 80, CONNECTION_FORWARD);
    refused.1.epoch = EPOCH_NEVER;
    assert!(seen(&[old, refused]).is_empty());
}

#[test]
fn deleting_what_is_not_there_is_an_error_that_names_it() {
    let cluster = shop();
    for name in ["shop/absent", "only-db"] {
        let change = deleting(&[name], vec![]);
        let error = changed(&cluster, &change).unwrap_err();
        assert_eq!(error, WhatIfError::NoSuchPolicy(name.to_owned()));
    }
}

#[test]
fn a_bad_file_is_told_by_file_object_and_field() {
    let told = |text: &str| {
        let mut change = Change::default();
        let read = file(Path::new("new.yaml"), text, &mut change);
        read.err()
            .map_or(format!("{} objects", change.objects.len()), |error| {
                error.to_string()
            })
    };
    let head = "kind: NetworkPolicy\nmetadata: {namespace: shop, name: x}\nspec: ";
    let texts = [
        format!("{head}{{podSelector: {{}}}}\n---\nkind: Pod\nmetadata: {{name: y}}\n"),
        "kind: Pod\nmetadata: {name: y}\n".to_owned(),
        format!("{head}{{podSelector: {{}}}}\n---\nkind: [\n"),
        format!(
            "{head}{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/33}}}}]}}]}}\n"
        ),
        "kind: NetworkPolicy\nspec: {podSelector: {}}\n".to_owned(),
    ];
    let told: Vec<String> = texts.iter().map(|text| told(text)).collect();
    expect![[r#"
        1 objects
        new.yaml: holds neither a NetworkPolicy nor a ClusterNetworkPolicy, but Pod default/y
        new.yaml: document 2: line 6 column 1: did not find expected node content at line 3 column 1, while parsing a flow node
        new.yaml: NetworkPolicy shop/x: spec.ingress[0].from[0].ipBlock.cidr is "10.0.0.0/33", not a network as in 10.0.0.0/24; it allows nothing
        new.yaml: NetworkPolicy : metadata.name is missing; the object is left out"#]].assert_eq(&told.join("\n"));
}
