//! Clusters as text, and what is wanted for them as text.
//!
//! `service: NAME ADDRESS PORT/PROTOCOL [node=N] [created=N] [type=T] [proxy=NAME]`, followed by
//! its endpoints: `endpoint: ADDRESS PORT [serving] [terminating] [notready] [on=NODE] [slice=S]`,
//! with `zone=Z`, `forzone=Z+Z`, `fornode=N`. A service's `spec=JSON` and `status=JSON` (without
//! blanks) are put in as they are; `scheduler=`, `dsr=` and `weights=` are annotations.

mod choice;
mod exposure;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use expect_test::{Expect, expect};
use model::k8s::reduce;
use model::{Cluster, Event, IpFamily, Kind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::node::Exposure;
use super::{Changed, Desired, NodeContext};

/// Objects of a text.
fn objects(text: &str) -> Vec<(Kind, Value)> {
    let mut services = Vec::new();
    let mut slices: BTreeMap<(String, String), Value> = BTreeMap::new();
    let node = json!({"metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "a"}}, "status": {"addresses": [
        {"type": "ExternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "172.31.0.1"},
        {"type": "InternalIP", "address": "fd00::1"}, {"type": "Hostname", "address": "node1"}]}});
    let mut current = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let what = words.next().unwrap();
        let (bare, options): (Vec<_>, Vec<_>) = words.partition(|word| !word.contains('='));
        let option = |name: &str| {
            options
                .iter()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        match what {
            "service:" => {
                current = bare[0].to_owned();
                let (port, protocol) = bare[2].split_once('/').unwrap();
                let created = option("created").unwrap_or("0");
                let mut object = json!({
                    "metadata": {"namespace": "shop", "name": current, "labels": {}, "creationTimestamp": format!("2026-01-01T00:00:0{created}Z")},
                    "spec": {"type": option("type").unwrap_or("ClusterIP"), "clusterIPs": bare[1].split(',').collect::<Vec<_>>(),
                        "ports": [{"name": "p", "port": port.parse::<u16>().unwrap(), "protocol": protocol.to_uppercase(),
                            "nodePort": option("node").map_or(0, |port| port.parse::<u16>().unwrap())}]}});
                for section in ["spec", "status"] {
                    let given =
                        option(section).map(|json| serde_json::from_str::<Value>(json).unwrap());
                    for (name, value) in given.iter().flat_map(|given| given.as_object().unwrap()) {
                        object[section][name] = value.clone();
                    }
                }
                for name in ["scheduler", "dsr", "weights"] {
                    if let Some(value) = option(name) {
                        object["metadata"]["annotations"][format!("fairlead.io/{name}")] =
                            json!(value);
                    }
                }
                if let Some(proxy) = option("proxy") {
                    object["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] =
                        json!(proxy);
                }
                services.push((Kind::Service, object, protocol.to_uppercase()));
            }
            "endpoint:" => {
                let protocol = &services.last().unwrap().2;
                let v6 = bare[0].contains(':');
                let name = format!(
                    "{current}-{}{}-{}",
                    option("slice").unwrap_or("1"),
                    if v6 { "v6" } else { "" },
                    bare[1]
                );
                let slice = slices.entry((current.clone(), name.clone())).or_insert_with(|| json!({
                    "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": current}},
                    "addressType": if v6 { "IPv6" } else { "IPv4" }, "endpoints": [],
                    "ports": [{"name": "p", "protocol": protocol, "port": bare[1].parse::<u16>().unwrap()}]}));
                let not_ready = ["serving", "terminating", "notready"]
                    .iter()
                    .any(|word| bare.contains(word));
                let names = |name: &str| {
                    option(name).map(|names| {
                        names
                            .split('+')
                            .map(|name| json!({"name": name}))
                            .collect::<Vec<_>>()
                    })
                };
                slice["endpoints"].as_array_mut().unwrap().push(json!({
                    "addresses": [bare[0]], "nodeName": option("on").unwrap_or("node2"),
                    "zone": option("zone"), "hints": {"forZones": names("forzone"), "forNodes": names("fornode")},
                    "conditions": {"ready": !not_ready, "serving": bare.contains(&"serving") || !not_ready, "terminating": bare.contains(&"terminating")}}));
            }
            other => panic!("{other}"),
        }
    }
    let slices = slices
        .into_values()
        .map(|slice| (Kind::EndpointSlice, slice));
    services
        .into_iter()
        .map(|(kind, object, _)| (kind, object))
        .chain(slices)
        .chain([(Kind::Node, node)])
        .collect()
}

fn applied(cluster: &mut Cluster, kind: Kind, object: &Value) {
    let reduced = reduce(kind, object);
    cluster.apply(Event::Applied {
        kind,
        key: reduced.key,
        object: reduced.object,
        problems: reduced.problems,
    });
}

fn compile(text: &str) -> Desired {
    let cluster = cluster(text);
    Desired::compile(&cluster, context(&cluster))
}

fn cluster(text: &str) -> Cluster {
    let mut cluster = Cluster::default();
    objects(text)
        .iter()
        .for_each(|(kind, object)| applied(&mut cluster, *kind, object));
    cluster
}

fn context(cluster: &Cluster) -> NodeContext {
    let own = BTreeSet::new();
    NodeContext::of(cluster, &"node1".into(), &Arc::default(), &own, 1500)
}

/// A line a frontend, and the problems. Where clients outside get other endpoints, theirs are
/// shown behind `|`.
fn describe(desired: &Desired) -> String {
    let mut text = String::new();
    for unit in desired.services.values() {
        let members = |pool| {
            let members: Vec<String> = unit
                .pool(pool)
                .map(|b| format!("{b}{}", if b.local { " local" } else { "" }))
                .collect();
            match members.join(", ") {
                none if none.is_empty() => "reject".to_owned(),
                some => some,
            }
        };
        for frontend in unit.frontends.iter() {
            text += &format!("{frontend} -> {}", members(frontend.inside));
            if frontend.outside != frontend.inside {
                text += &format!(" | {}", members(frontend.outside));
            }
            text.push('\n');
        }
    }
    desired
        .problems()
        .for_each(|problem| text += &format!("! {problem}\n"));
    desired
        .notes()
        .for_each(|(owner, note)| text += &format!("({owner}: {note})\n"));
    text
}

#[track_caller]
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&describe(&compile(text)));
}

#[test]
fn families_ports_slices_and_locality() {
    check(
        "service: web 10.96.0.10,fd00:96::10 80/tcp type=NodePort node=30080
         endpoint: 10.0.1.5 8080 on=node1
         endpoint: 10.0.2.5 8080 slice=2
         endpoint: fd00:10::5 8080
         service: dns 10.96.0.13 53/udp
         endpoint: 10.0.1.6 5353
         endpoint: 10.0.1.7 5354",
        &expect![[r#"
            10.96.0.13:53/udp -> 10.0.1.6:5353, 10.0.1.7:5354
            10.96.0.10:80/tcp -> 10.0.1.5:8080 local, 10.0.2.5:8080
            172.31.0.1:30080/tcp -> 10.0.1.5:8080 local, 10.0.2.5:8080
            192.0.2.1:30080/tcp -> 10.0.1.5:8080 local, 10.0.2.5:8080
            [fd00::1]:30080/tcp -> [fd00:10::5]:8080
            [fd00:96::10]:80/tcp -> [fd00:10::5]:8080
        "#]],
    );
}

#[test]
fn terminating_endpoints_serve_when_nothing_is_ready() {
    let drain = "endpoint: 10.0.1.5 80 serving terminating\nendpoint: 10.0.1.6 80 terminating\nendpoint: 10.0.1.7 80 notready\nendpoint: 10.0.1.8 80 serving";
    check(
        &format!("service: web 10.96.0.10 80/tcp\n{drain}"),
        &expect!["10.96.0.10:80/tcp -> 10.0.1.5:80\n"],
    );
    check(
        &format!("service: web 10.96.0.10 80/tcp\n{drain}\nendpoint: 10.0.1.9 80"),
        &expect!["10.96.0.10:80/tcp -> 10.0.1.9:80\n"],
    );
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_ready_wins() {
    check(
        "service: web 10.96.0.10 80/tcp
         endpoint: 10.0.1.5 80 serving terminating slice=1
         endpoint: 10.0.1.5 80 slice=2 on=node1",
        &expect!["10.96.0.10:80/tcp -> 10.0.1.5:80 local\n"],
    );
}

#[test]
fn no_endpoint_means_reject_and_others_services_are_left_alone() {
    check(
        "service: web 10.96.0.10 80/tcp",
        &expect!["10.96.0.10:80/tcp -> reject\n"],
    );
    for other in [
        "None 80/tcp",
        "10.96.0.10 80/tcp proxy=mine",
        "10.96.0.10 80/tcp type=ExternalName",
    ] {
        check(
            &format!("service: web {other}\nendpoint: 10.0.1.5 80"),
            &expect![""],
        );
    }
}

#[test]
fn of_two_claims_to_an_address_the_older_wins() {
    let (older, newer) = (
        "service: z 10.96.0.10 80/tcp created=1\nendpoint: 10.0.1.5 80",
        "service: a 10.96.0.10 80/tcp created=2\nendpoint: 10.0.1.6 80",
    );
    let expected = expect![[r#"
        10.96.0.10:80/tcp -> 10.0.1.5:80
        ! Service shop/a: spec.ports 10.96.0.10:80/tcp belongs to the older Service shop/z; port `p` is not served at this address; give one of the two another address or port
    "#]];
    check(&format!("{older}\n{newer}"), &expected);
    check(&format!("{newer}\n{older}"), &expected);
}

#[test]
fn an_older_service_does_not_take_a_cluster_ip_through_its_external_addresses() {
    let younger = "service: z 10.96.0.10 80/tcp created=9\nendpoint: 10.0.1.5 80";
    let any = Exposure {
        any_external: true,
        ..Exposure::default()
    };
    for (field, expected) in [
        (
            r#"spec={"externalIPs":["10.96.0.10"]}"#,
            expect![[r#"
                10.96.0.11:80/tcp -> 10.0.1.6:80
                10.96.0.10:80/tcp -> 10.0.1.5:80
                ! Service shop/a: spec.ports 10.96.0.10:80/tcp is a cluster IP of Service shop/z; port `p` is not served at this address; give one of the two another address or port
            "#]],
        ),
        (
            r#"type=LoadBalancer status={"loadBalancer":{"ingress":[{"ip":"10.96.0.10"}]}}"#,
            expect![[r#"
                10.96.0.11:80/tcp -> 10.0.1.6:80
                10.96.0.10:80/tcp -> 10.0.1.5:80
                ! Service shop/a: spec.ports 10.96.0.10:80/tcp is a cluster IP of Service shop/z; port `p` is not served at this address; give one of the two another address or port
            "#]],
        ),
    ] {
        let older =
            format!("service: a 10.96.0.11 80/tcp created=1 {field}\nendpoint: 10.0.1.6 80");
        let cluster = cluster(&format!("{older}\n{younger}"));
        let node = NodeContext {
            exposure: Arc::new(any.clone()),
            ..context(&cluster)
        };
        let whole = describe(&Desired::compile(&cluster, node.clone()));
        expected.assert_eq(&whole);
        // The same when the younger one comes later, and had nothing to begin with.
        let mut later = self::cluster(&older);
        later.take_changes();
        let before = Desired::compile(&later, node.clone());
        objects(younger)
            .iter()
            .for_each(|(kind, object)| applied(&mut later, *kind, object));
        let changes = later.take_changes();
        assert_eq!(describe(&before.follow(&later, &changes, node)), whole);
    }
}

#[test]
fn source_translation_uses_the_internal_address() {
    let desired = compile("service: web 10.96.0.10 80/tcp");
    assert_eq!(
        desired.node.address(IpFamily::V4),
        Some("172.31.0.1".parse().unwrap())
    );
}

#[test]
fn an_applier_that_skipped_a_few_generations_learns_what_changed_and_one_that_slept_compares_all() {
    let mut cluster = Cluster::default();
    objects("service: a 10.96.0.1 80/tcp\nservice: b 10.96.0.2 80/tcp")
        .iter()
        .for_each(|(kind, object)| applied(&mut cluster, *kind, object));
    cluster.take_changes();
    let first = Desired::compile(&cluster, context(&cluster));
    let mut current = first.clone();
    for round in 0..80 {
        let text = format!(
            "service: a 10.96.0.1 80/tcp\nendpoint: 10.0.0.{} 80",
            round + 1
        );
        objects(&text)
            .iter()
            .for_each(|(kind, object)| applied(&mut cluster, *kind, object));
        let changes = cluster.take_changes();
        current = current.follow(&cluster, &changes, context(&cluster));
        if round == 3 {
            let Changed::Keys(keys) = current.changed_since(first.generation) else {
                panic!("remembered")
            };
            assert_eq!(
                keys.iter()
                    .map(|key| key.owner.to_string())
                    .collect::<Vec<_>>(),
                ["Service shop/a"]
            );
        }
    }
    assert_eq!(current.changed_since(first.generation), Changed::All);
    assert_eq!(
        current.changed_since(current.generation),
        Changed::Keys(Default::default())
    );
}

/// One of a few states of a few objects, so that claims, slices and deletions collide often.
fn change() -> impl Strategy<Value = String> {
    let endpoints = proptest::collection::vec((1..6_u8, 0..4_u8, 0..2_u8), 0..4);
    (0..4_u8, 0..3_u8, 0..3_u8, 0..2_u8, endpoints).prop_map(
        |(name, address, created, node, endpoints)| {
            let mut text = format!(
                "service: s{name} 10.96.0.{address},fd00:96::{address} 80/tcp created={created}"
            );
            text += if node == 0 {
                ""
            } else {
                " type=NodePort node=30080"
            };
            for (endpoint, state, slice) in endpoints {
                let state = ["", "notready", "serving terminating", "on=node1"][usize::from(state)];
                text += &format!("\nendpoint: 10.0.0.{endpoint} 80 {state} slice={slice}");
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn following_changes_in_any_batches_equals_compiling_the_end(
        changes in proptest::collection::vec((change(), any::<bool>(), 0..5_u8), 1..20),
    ) {
        let mut cluster = Cluster::default();
        objects("").iter().for_each(|(kind, object)| applied(&mut cluster, *kind, object));
        cluster.take_changes();
        let mut desired = Desired::compile(&cluster, context(&cluster));
        for (text, publish, delete) in changes {
            objects(&text).iter().for_each(|(kind, object)| applied(&mut cluster, *kind, object));
            if delete == 0 {
                let key = cluster.services().next().map(|(key, _)| key.clone());
                if let Some(key) = key {
                    cluster.apply(Event::Deleted { kind: Kind::Service, key });
                }
            }
            if publish {
                let changes = cluster.take_changes();
                desired = desired.follow(&cluster, &changes, context(&cluster));
            }
        }
        let changes = cluster.take_changes();
        desired = desired.follow(&cluster, &changes, context(&cluster));
        let whole = Desired::compile(&cluster, context(&cluster));
        prop_assert_eq!(describe(&desired), describe(&whole));
    }
}
