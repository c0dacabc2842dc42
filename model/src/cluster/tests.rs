//! What a cluster holds and calls changed, after any events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ChangeSet, Cluster};
use crate::k8s::{Reduced, reduce};
use crate::{Event, Kind, KindSet, ObjectKey, Problem};

fn service(name: &str, port: u32) -> Reduced {
    let object = json!({"metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": port}]}});
    reduce(Kind::Service, &object)
}

fn slice(name: &str, owner: Option<&str>, address: &str) -> Reduced {
    let labels = owner.map_or(
        json!({}),
        |name| json!({"kubernetes.io/service-name": name}),
    );
    let object: Value = json!({"metadata": {"namespace": "shop", "name": name, "labels": labels},
        "addressType": "IPv4", "endpoints": [{"addresses": [address]}]});
    reduce(Kind::EndpointSlice, &object)
}

fn applied(kind: Kind, reduced: Reduced) -> Event {
    let Reduced {
        key,
        object,
        problems,
    } = reduced;
    Event::Applied {
        kind,
        key,
        object,
        problems,
    }
}

fn deleted(kind: Kind, name: &str) -> Event {
    let key = ObjectKey::new("shop", name);
    Event::Deleted { kind, key }
}

fn replaced(kind: Kind, all: impl IntoIterator<Item = Reduced>) -> Event {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for reduced in all {
        objects.extend(reduced.object);
        problems.extend(reduced.problems);
    }
    Event::Replaced {
        kind,
        objects,
        problems,
    }
}

fn names<'a, Keys: IntoIterator<Item = &'a ObjectKey>>(keys: Keys) -> String {
    let names: Vec<&str> = keys.into_iter().map(|key| &*key.name).collect();
    names.join(" ")
}

fn slices_of(cluster: &Cluster, service: &str) -> String {
    let service = ObjectKey::new("shop", service);
    names(cluster.slices_of(&service).map(|slice| &slice.key))
}

/// Applies `events` after `before`: the changed objects of `kind`, and the Services concerned.
#[track_caller]
fn check(before: &[Event], events: &[Event], kind: Kind, changed: &str, services: &str) {
    let mut cluster = Cluster::default();
    before.iter().for_each(|event| cluster.apply(event.clone()));
    drop(cluster.take_changes());
    events.iter().for_each(|event| cluster.apply(event.clone()));
    let changes = cluster.take_changes();
    let found = changes.get(&kind).map(names).unwrap_or_default();
    assert_eq!(
        (found.as_str(), names(changes.services()).as_str()),
        (changed, services)
    );
    assert_eq!(changes.is_empty(), changed.is_empty());
    assert_eq!(cluster.take_changes(), ChangeSet::default(), "taken once");
}

#[test]
fn only_what_differs_has_changed() {
    let kind = Kind::Service;
    let before = [replaced(kind, [service("a", 80), service("b", 80)])];
    for (events, changed) in [
        (vec![], ""),
        (vec![applied(kind, service("a", 80))], ""),
        (vec![applied(kind, service("a", 81))], "a"),
        (vec![applied(kind, service("c", 80))], "c"),
        (vec![deleted(kind, "a")], "a"),
        (vec![deleted(kind, "c")], ""),
        (
            vec![replaced(kind, [service("b", 80), service("a", 80)])],
            "",
        ),
        (
            vec![replaced(kind, [service("b", 81), service("c", 80)])],
            "a b c",
        ),
        (vec![replaced(kind, [])], "a b"),
        (
            vec![deleted(kind, "a"), applied(kind, service("b", 81))],
            "a b",
        ),
    ] {
        check(&before, &events, kind, changed, changed);
    }
}

#[test]
fn a_slice_concerns_the_service_it_had_and_the_one_it_has() {
    let kind = Kind::EndpointSlice;
    let before = [replaced(kind, [slice("x", Some("a"), "10.0.0.1")])];
    for (event, changed, services) in [
        (applied(kind, slice("x", Some("a"), "10.0.0.1")), "", ""),
        (applied(kind, slice("x", Some("a"), "10.0.0.2")), "x", "a"),
        (applied(kind, slice("x", Some("b"), "10.0.0.1")), "x", "a b"),
        (applied(kind, slice("x", None, "10.0.0.1")), "x", "a"),
        (applied(kind, slice("y", None, "10.0.0.1")), "y", ""),
        (deleted(kind, "x"), "x", "a"),
        (replaced(kind, []), "x", "a"),
        (
            replaced(kind, [slice("y", Some("b"), "10.0.0.1")]),
            "x y",
            "a b",
        ),
    ] {
        check(&before, &[event], kind, changed, services);
    }
}

#[test]
fn the_slices_of_a_service_follow_their_label() {
    let kind = Kind::EndpointSlice;
    let mut cluster = Cluster::default();
    for (event, of_a, of_b) in [
        (applied(kind, slice("y", Some("a"), "10.0.0.1")), "y", ""),
        (applied(kind, slice("x", Some("a"), "10.0.0.2")), "x y", ""),
        (applied(kind, slice("y", Some("b"), "10.0.0.1")), "x", "y"),
        (deleted(kind, "x"), "", "y"),
        (replaced(kind, [slice("z", Some("a"), "10.0.0.1")]), "z", ""),
    ] {
        cluster.apply(event);
        assert_eq!(
            (slices_of(&cluster, "a"), slices_of(&cluster, "b")),
            (of_a.into(), of_b.into())
        );
    }
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut cluster = Cluster::default();
    cluster.apply(replaced(
        Kind::EndpointSlice,
        [slice("x", Some("a"), "10.0.0.1")],
    ));
    let snapshot = cluster.clone();
    cluster.apply(deleted(Kind::EndpointSlice, "x"));
    assert_eq!(
        (slices_of(&snapshot, "a"), slices_of(&cluster, "a")),
        ("x".into(), String::new())
    );
}

#[test]
fn a_kind_is_synced_by_its_first_list_only() {
    let mut cluster = Cluster::default();
    let both = KindSet::from([Kind::Service, Kind::Node]);
    cluster.apply(applied(Kind::Service, service("a", 80)));
    assert!(!cluster.is_synced(&KindSet::from([Kind::Service])));
    cluster.apply(replaced(Kind::Service, []));
    assert!(cluster.is_synced(&KindSet::from([Kind::Service])) && !cluster.is_synced(&both));
    cluster.apply(replaced(Kind::Node, []));
    assert!(cluster.is_synced(&both));
}

#[test]
fn problems_last_as_long_as_their_cause() {
    let kind = Kind::Service;
    let mut cluster = Cluster::default();
    for (event, expected) in [
        (replaced(kind, [service("a", 0), service("b", 0)]), "a b"),
        (applied(kind, service("a", 80)), "b"),
        (applied(kind, service("a", 0)), "a b"),
        (deleted(kind, "b"), "a"),
        (replaced(Kind::Node, []), "a"),
        (replaced(kind, [service("c", 0)]), "c"),
    ] {
        cluster.apply(event);
        let found: Vec<&Problem> = cluster.problems().collect();
        assert_eq!(names(found.iter().map(|problem| &problem.key)), expected);
    }
}

/// One object of a few: which, and in which of a few states; `None` where it is gone.
type State = (bool, u8, Option<u8>);

fn event((is_service, number, state): State) -> Event {
    let name = format!("o{number}");
    let kind = if is_service {
        Kind::Service
    } else {
        Kind::EndpointSlice
    };
    match state {
        None => deleted(kind, &name),
        // Port 0 is a problem, so problems are part of the content.
        Some(state) if is_service => applied(kind, service(&name, u32::from(state))),
        Some(state) => {
            let owner = format!("o{}", state % 2);
            applied(kind, slice(&name, Some(&owner), "10.0.0.1"))
        }
    }
}

/// Everything that can be read from a cluster.
fn content(cluster: &Cluster) -> String {
    let services: BTreeMap<_, _> = cluster.services().collect();
    let slices: BTreeMap<_, _> = cluster.endpoint_slices().collect();
    let problems: Vec<_> = cluster.problems().collect();
    let owned = [0, 1].map(|number| slices_of(cluster, &format!("o{number}")));
    format!("{services:?} {slices:?} {owned:?} {problems:?}")
}

proptest! {
    #[test]
    fn the_last_word_on_each_object_decides(
        states in prop::collection::vec((any::<bool>(), 0..4_u8, prop::option::of(0..3_u8)), 0..24),
        order in any::<prop::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let mut told = Cluster::default();
        states.iter().for_each(|state| told.apply(event(*state)));

        let last: BTreeMap<(bool, u8), Option<u8>> =
            states.iter().map(|(is_service, number, state)| ((*is_service, *number), *state)).collect();
        let mut last: Vec<State> = last.into_iter().map(|((s, n), state)| (s, n, state)).collect();
        if !last.is_empty() {
            let middle = order.index(last.len());
            last.rotate_left(middle);
        }
        let mut short = Cluster::default();
        for state in &last {
            short.apply(event(*state));
            if twice {
                short.apply(event(*state));
            }
        }
        prop_assert_eq!(content(&told), content(&short));

        // The same, as lists over whatever was there.
        let mut listed = told.clone();
        listed.apply(event((true, 9, Some(1))));
        listed.apply(event((false, 9, Some(1))));
        for kind in [Kind::Service, Kind::EndpointSlice] {
            let of_kind = last.iter().filter(|(s, ..)| *s == (kind == Kind::Service));
            let all = of_kind.filter_map(|state| match event(*state) {
                Event::Applied { key, object, problems, .. } => Some(Reduced { key, object, problems }),
                Event::Replaced { .. } | Event::Deleted { .. } | Event::Source { .. } => None,
            });
            listed.apply(replaced(kind, all));
        }
        prop_assert_eq!(content(&told), content(&listed));
    }
}
