//! The tables against a reference that evaluates objects naively, and against themselves however
//! the cluster came to be known.

mod cases;
pub(crate) mod generate;
mod reference;
mod scale;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::k8s::{Reduced, reduce};
use model::{Cluster, Direction, Event, Kind, ObjectKey, Protocol};
use proptest::prelude::*;
use serde_json::Value;

use super::{Outcome, PolicyTables, Traffic};
use crate::desired::NodeContext;

/// An object as the API has it.
pub(crate) type Manifest = (Kind, Value);

fn applied((kind, manifest): &Manifest) -> Event {
    let Reduced {
        key,
        object,
        problems,
    } = reduce(*kind, manifest);
    Event::Applied {
        kind: *kind,
        key,
        object,
        problems,
    }
}

fn deleted((kind, manifest): &Manifest) -> Event {
    let Reduced { key, .. } = reduce(*kind, manifest);
    Event::Deleted { kind: *kind, key }
}

pub(crate) fn cluster(manifests: &[Manifest]) -> Cluster {
    let mut cluster = Cluster::default();
    for manifest in manifests {
        cluster.apply(applied(manifest));
    }
    drop(cluster.take_changes());
    cluster
}

pub(crate) fn node(cluster: &Cluster) -> NodeContext {
    let own = ["172.16.0.1", "10.0.1.1"].map(|address| address.parse().unwrap());
    NodeContext::of(cluster, &"node1".into(), &Arc::default(), &own.into(), 1500)
}

const TRAFFIC: [Traffic; 9] = [
    Traffic::Port(Protocol::Tcp, 80),
    Traffic::Port(Protocol::Tcp, 81),
    Traffic::Port(Protocol::Tcp, 8080),
    Traffic::Port(Protocol::Udp, 53),
    Traffic::Port(Protocol::Udp, 80),
    Traffic::Port(Protocol::Sctp, 80),
    Traffic::Port(Protocol::Tcp, 65535),
    Traffic::Icmp,
    Traffic::Other,
];

/// Compares every packet that a pod of the node may send or receive; answers how many there were.
fn compare(manifests: &[Manifest]) -> Result<usize, TestCaseError> {
    let cluster = cluster(manifests);
    let node = node(&cluster);
    let tables = PolicyTables::compile(&cluster, &node);
    let mut peers: Vec<IpAddr> = generate::OUTSIDE.map(|at| at.parse().unwrap()).into();
    peers.extend(cluster.pods().flat_map(|(_, pod)| pod.addresses.clone()));
    // Nobody else is judged, and nobody who is to be is forgotten.
    let of_this_node = peers.iter().filter(|at| !node.own.contains(at));
    let judged: BTreeMap<IpAddr, &ObjectKey> = of_this_node
        .filter_map(|at| Some((*at, reference::pod_at(&cluster, *at)?)))
        .filter(|(_, pod)| pod.node_name.as_deref() == Some("node1"))
        .map(|(at, pod)| (at, &pod.key))
        .collect();
    let found = tables.endpoints().iter().map(|(at, pod)| (*at, &pod.key));
    prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), judged);
    peers.extend(&node.own);
    let of_nodes = cluster.nodes().flat_map(|(_, node)| &node.addresses);
    peers.extend(of_nodes.map(|at| at.address));
    let mut count = 0;
    for (address, pod) in tables.endpoints() {
        for direction in [Direction::Ingress, Direction::Egress] {
            for peer in peers
                .iter()
                .filter(|peer| peer.is_ipv4() == address.is_ipv4())
            {
                for traffic in TRAFFIC {
                    let found = tables.verdict(*address, direction, *peer, traffic);
                    let expected =
                        reference::outcome(&cluster, &node, &pod.key, direction, *peer, traffic);
                    prop_assert_eq!(
                        found.outcome,
                        expected,
                        "{} at {} {:?} {} {:?}: {:?}",
                        &pod.key,
                        address,
                        direction,
                        peer,
                        traffic,
                        &found
                    );
                    count += 1;
                }
            }
        }
    }
    Ok(count)
}

#[test]
fn what_is_known_of_another_nodes_pods_is_what_that_node_says() {
    let mut runner = proptest::test_runner::TestRunner::new(cases("FAIRLEAD_POLICY_CASES", 24));
    let count = std::cell::Cell::new(0);
    let result = runner.run(&generate::manifests(), |manifests| {
        let cluster = cluster(&manifests);
        let here = PolicyTables::compile(&cluster, &node(&cluster));
        let none = [].into();
        let other = NodeContext::of(&cluster, &"node2".into(), &Arc::default(), &none, 1500);
        let there = PolicyTables::compile(&cluster, &other);
        let mut peers: Vec<IpAddr> = generate::OUTSIDE.map(|at| at.parse().unwrap()).into();
        peers.extend(cluster.pods().flat_map(|(_, pod)| pod.addresses.clone()));
        peers.extend(&other.own);
        // Of addresses of its own that no Node object names, nobody else knows.
        peers.retain(|peer| !node(&cluster).own.contains(peer));
        for address in there.endpoints().keys() {
            let Some(pod) = here.pod_elsewhere(&cluster, *address) else {
                continue;
            };
            for direction in [Direction::Ingress, Direction::Egress] {
                let peers = peers
                    .iter()
                    .filter(|peer| peer.is_ipv4() == address.is_ipv4());
                for (peer, traffic) in peers.flat_map(|peer| TRAFFIC.map(|of| (*peer, of))) {
                    let said = here.verdict_elsewhere(&cluster, pod, direction, peer, traffic);
                    let expected = there.verdict(*address, direction, peer, traffic);
                    prop_assert_eq!(said, expected, "{} {:?} {}", address, direction, peer);
                    count.set(count.get() + 1);
                }
            }
        }
        Ok(())
    });
    result.unwrap();
    assert!(count.get() > 1000, "{} comparisons", count.get());
}

/// Cases of the long lane, each of some 850 comparisons.
pub(crate) fn cases(variable: &str, usual: u32) -> ProptestConfig {
    let cases = std::env::var(variable)
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(usual),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn verdicts_are_those_of_the_reference() {
    let mut runner = proptest::test_runner::TestRunner::new(cases("FAIRLEAD_POLICY_CASES", 48));
    let count = std::cell::Cell::new(0);
    let result = runner.run(&generate::manifests(), |manifests| {
        count.set(count.get() + compare(&manifests)?);
        Ok(())
    });
    result.unwrap();
    eprintln!("{} comparisons", count.get());
    // So that the long lane has its million.
    let cases = cases("FAIRLEAD_POLICY_CASES", 48).cases;
    assert!(
        count.get() > 600 * cases as usize,
        "{} of {cases} cases",
        count.get()
    );
}

/// Follows from the objects `before` to those of `after`, in an order and in batches that
/// `shuffle` tells, and shows each step.
pub(crate) fn follow(
    before: &[Manifest],
    after: &[Manifest],
    shuffle: &[u16],
    mut show: impl FnMut(&PolicyTables),
) -> (Cluster, PolicyTables) {
    let name = |manifest: &Manifest| (manifest.0, reduce(manifest.0, &manifest.1).key);
    let mut events: Vec<Event> = after.iter().map(applied).collect();
    let stays = |manifest: &&Manifest| after.iter().any(|other| name(other) == name(manifest));
    events.extend(
        before
            .iter()
            .filter(|manifest| !stays(manifest))
            .map(deleted),
    );
    let mut picks = shuffle.iter().cycle();
    let mut pick = |among: usize| usize::from(*picks.next().unwrap()) % among;
    let mut known = cluster(&[]);
    let mut tables = PolicyTables::compile(&known, &node(&known));
    for phase in [before.iter().map(applied).collect(), events] {
        let mut left: Vec<Event> = phase;
        while !left.is_empty() {
            for _ in 0..=pick(4) {
                if !left.is_empty() {
                    known.apply(left.swap_remove(pick(left.len())));
                }
            }
            let changes = known.take_changes();
            tables = tables.follow(&known, &changes, &node(&known));
            show(&tables);
        }
    }
    (known, tables)
}

#[test]
fn order_and_batching_of_events_do_not_show() {
    let mut runner = proptest::test_runner::TestRunner::new(cases("FAIRLEAD_POLICY_ORDERS", 48));
    let shuffle = proptest::collection::vec(any::<u16>(), 8..40);
    let input = (generate::manifests(), generate::manifests(), shuffle);
    let result = runner.run(&input, |(before, after, shuffle)| {
        let (known, followed) = follow(&before, &after, &shuffle, |_| {});
        let compiled = PolicyTables::compile(&known, &node(&known));
        prop_assert_eq!(followed.identities(), compiled.identities());
        prop_assert_eq!(followed.endpoints(), compiled.endpoints());
        prop_assert_eq!(followed.size(), compiled.size());
        prop_assert!(followed == compiled);
        Ok(())
    });
    result.unwrap();
}
