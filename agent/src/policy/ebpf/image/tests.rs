//! Every state between two clusters, packet by packet.

use std::net::IpAddr;

use agent_abi::policy::{
    ENDPOINT_CLOSED, IDENTITY_ANYBODY, IDENTITY_HOST, NO_SET, OUTCOME_ALLOW, OUTCOME_AUDIT_DENY,
    OUTCOME_DENY,
};
use ipnet::IpNet;
use model::{Direction, Kind, Protocol};
use proptest::prelude::*;
use serde_json::json;

use super::lower::{longest, prefix};
use super::{Image, Numbers, Op, Plan, Room, follow, plan};
use crate::desired::policy::tests::{self, Manifest, cases, cluster, generate, node};
use crate::desired::policy::{Identity, Outcome, PolicyTables, Traffic};

const TRAFFIC: [Traffic; 3] = [
    Traffic::Port(Protocol::Tcp, 80),
    Traffic::Port(Protocol::Tcp, 81),
    Traffic::Icmp,
];

impl Image {
    fn apply(&mut self, op: Op) {
        let there = match op {
            Op::DeleteEndpoint(key) => self.endpoints.contains_key(&key),
            Op::DeleteIdentity(key) => self.identities.contains_key(&key),
            Op::DeleteVerdict(key) => self.verdicts.contains_key(&key),
            Op::Reserve(_) | Op::PutVerdict(..) | Op::PutIdentity(..) | Op::PutEndpoint(..) => true,
        };
        assert!(there, "{op:?}");
        self.commit(op);
    }

    /// What a program would find; `None` where no pod is known.
    fn outcome(
        &self,
        pod: IpAddr,
        direction: Direction,
        peer: IpAddr,
        traffic: Traffic,
    ) -> Option<u8> {
        let at = |address: IpAddr| prefix(&IpNet::from(address));
        let endpoint = longest(&at(pod), |at| self.endpoints.get(at))?;
        let identity = longest(&at(peer), |at| self.identities.get(at).copied());
        let identity = identity.unwrap_or(IDENTITY_ANYBODY);
        if identity == IDENTITY_HOST {
            return Some(OUTCOME_ALLOW);
        }
        let set = match direction {
            Direction::Ingress => endpoint.ingress,
            Direction::Egress => endpoint.egress,
        };
        if endpoint.flags & ENDPOINT_CLOSED != 0 {
            return Some(OUTCOME_DENY);
        }
        if set == NO_SET {
            return Some(OUTCOME_ALLOW);
        }
        let found = [identity, IDENTITY_ANYBODY]
            .into_iter()
            .find_map(|identity| {
                let entries = super::lower::of_identity(&self.verdicts, set, identity);
                let concerns = entries.filter(|((key, bits), _)| {
                    let (protocol, port) = match traffic {
                        Traffic::Port(protocol, port) => (protocol.number(), port),
                        Traffic::Icmp | Traffic::Other => (1, 0),
                    };
                    let of_port = bits.saturating_sub(80);
                    let differs = u16::from_be_bytes(key.port) ^ port;
                    *bits == 64
                        || (key.protocol == protocol
                            && (of_port == 0 || differs >> (16 - of_port) == 0))
                });
                concerns
                    .max_by_key(|((_, bits), _)| *bits)
                    .map(|(_, verdict)| verdict.outcome)
            });
        Some(found.unwrap_or(OUTCOME_DENY))
    }
}

/// What tables say, in the words of the maps.
fn expected(
    tables: &PolicyTables,
    pod: IpAddr,
    direction: Direction,
    peer: IpAddr,
    traffic: Traffic,
) -> Option<u8> {
    tables.endpoints().get(&pod)?;
    Some(
        match tables.verdict(pod, direction, peer, traffic).outcome {
            Outcome::Deny => OUTCOME_DENY,
            Outcome::Allow => OUTCOME_ALLOW,
            Outcome::AuditDeny => OUTCOME_AUDIT_DENY,
        },
    )
}

fn tables(manifests: &[Manifest]) -> (PolicyTables, Vec<IpAddr>) {
    let cluster = cluster(manifests);
    let node = node(&cluster);
    let pods = cluster.pods().flat_map(|(_, pod)| pod.addresses.clone());
    let peers = pods.chain(node.own.iter().copied()).collect();
    (PolicyTables::compile(&cluster, &node), peers)
}

/// Goes from one cluster to another; `restarted` forgets the numbers between them.
fn walk(before: &[Manifest], after: &[Manifest], restarted: bool) -> Result<(), TestCaseError> {
    let (old, mut peers) = tables(before);
    let (new, more) = tables(after);
    peers.extend(more);
    peers.extend(generate::OUTSIDE.map(|at| at.parse::<IpAddr>().unwrap()));
    peers.sort_unstable();
    peers.dedup();
    let mut image = Image::default();
    let Plan { ops, numbers, .. } = plan(&image, &Numbers::default(), &old, Room::UNBOUNDED);
    ops.into_iter().for_each(|op| image.apply(op));
    let numbers = if restarted {
        Numbers::recover(&image, numbers.free(), &new)
    } else {
        numbers
    };
    let Plan { ops, numbers, .. } = plan(&image, &numbers, &new, Room::UNBOUNDED);
    let mut questions = Vec::new();
    let pods = old.endpoints().keys().chain(new.endpoints().keys());
    for pod in pods {
        for direction in [Direction::Ingress, Direction::Egress] {
            for peer in peers.iter().filter(|peer| peer.is_ipv4() == pod.is_ipv4()) {
                for traffic in TRAFFIC {
                    let [old, new] = [&old, &new]
                        .map(|tables| expected(tables, *pod, direction, *peer, traffic));
                    questions.push((*pod, direction, *peer, traffic, old, new));
                }
            }
        }
    }
    for (step, op) in ops.iter().enumerate() {
        image.apply(*op);
        for (pod, direction, peer, traffic, old, new) in &questions {
            let found = image.outcome(*pod, *direction, *peer, *traffic);
            let is_last = step + 1 == ops.len();
            prop_assert!(
                found == *new || (found == *old && !is_last),
                "{} {:?} {} {:?}: {:?} is neither {:?} nor {:?} after step {} of {:#?}",
                pod,
                direction,
                peer,
                traffic,
                found,
                old,
                new,
                step,
                ops
            );
        }
    }
    let again = plan(&image, &numbers, &new, Room::UNBOUNDED).ops;
    prop_assert_eq!(again, vec![]);
    let recovered = Numbers::recover(&image, numbers.free(), &new);
    let again = plan(&image, &recovered, &new, Room::UNBOUNDED).ops;
    // Sets of pods without an address are for nobody, and are not found again.
    let of_nobody = |op: &Op| {
        matches!(
            op,
            Op::Reserve(_) | Op::PutVerdict(..) | Op::DeleteVerdict(_)
        )
    };
    prop_assert!(again.iter().all(of_nobody), "{:#?}", again);
    let used = || new.endpoints().values().flat_map(|pod| pod.sets());
    let is_for_nobody = new
        .sets()
        .keys()
        .any(|set| used().all(|other| other != set));
    prop_assert!(again.is_empty() || is_for_nobody, "{:#?}", again);
    Ok(())
}

#[test]
fn every_write_leaves_each_packet_its_old_verdict_or_its_new_one() {
    let mut runner = proptest::test_runner::TestRunner::new(cases("FAIRLEAD_POLICY_PLANS", 24));
    let result = runner.run(
        &(
            generate::manifests(),
            generate::manifests(),
            any::<bool>(),
            any::<bool>(),
        ),
        |(before, mut after, alike, restarted)| {
            if alike {
                // Most of it stays, so that sets and classes are kept.
                let changed = after.split_off(after.len().saturating_sub(3));
                after = before.clone();
                after.extend(changed);
            }
            walk(&before, &after, restarted)
        },
    );
    result.unwrap();
}

#[test]
fn a_plan_of_what_differs_is_the_plan_of_everything() {
    let mut runner = proptest::test_runner::TestRunner::new(cases("FAIRLEAD_POLICY_PLANS", 48));
    let shuffle = proptest::collection::vec(any::<u16>(), 8..40);
    let input = (generate::manifests(), generate::manifests(), shuffle);
    // Steps that were planned both ways, those of them in which identities and sets changed, and
    // those which took several revisions at once.
    let seen = std::cell::Cell::new([0; 3]);
    let result = runner.run(&input, |(before, after, shuffle)| {
        let mut image = Image::default();
        let mut numbers = Numbers::default();
        let mut revision = None;
        let mut skips = shuffle.iter().cycle();
        let mut wrong = Ok(());
        tests::follow(&before, &after, &shuffle, |tables| {
            if skips.next().is_some_and(|skip| skip % 3 == 0) || wrong.is_err() {
                return;
            }
            let whole = plan(&image, &numbers, tables, Room::UNBOUNDED);
            if let Some(difference) = revision.and_then(|revision| tables.since(revision)) {
                let part = follow(&image, &numbers, tables, &difference, Room::UNBOUNDED);
                let part = part.unwrap();
                let [all, mixed, several] = seen.get();
                let has = |what: fn(&Op) -> bool| part.ops.iter().any(what);
                let is_mixed = has(|op| matches!(op, Op::PutIdentity(..)))
                    && has(|op| matches!(op, Op::PutEndpoint(..)));
                let is_several = revision.is_some_and(|at| at + 1 < tables.revision());
                seen.set([
                    all + 1,
                    mixed + u32::from(is_mixed),
                    several + u32::from(is_several),
                ]);
                if part.ops != whole.ops || part.numbers != whole.numbers {
                    wrong = Err(format!(
                        "{difference:#?}: {:#?} is not {:#?}",
                        part.ops, whole.ops
                    ));
                }
            }
            whole.ops.into_iter().for_each(|op| image.apply(op));
            numbers = whole.numbers;
            revision = Some(tables.revision());
        });
        wrong.map_err(TestCaseError::fail)
    });
    let seen = seen.get();
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    result.unwrap();
}

#[test]
fn a_full_table_of_pods_opens_none_and_closes_those_left_out() {
    let mut runner = proptest::test_runner::TestRunner::new(cases("FAIRLEAD_POLICY_PLANS", 24));
    let input = (generate::manifests(), generate::manifests(), 1..6_usize);
    let closed = std::cell::Cell::new(0);
    let result = runner.run(&input, |(before, after, endpoints)| {
        let room = Room {
            endpoints,
            ..Room::UNBOUNDED
        };
        let ((old, peers), (new, more)) = (tables(&before), tables(&after));
        let mut image = Image::default();
        let Plan { ops, numbers, .. } = plan(&image, &Numbers::default(), &old, room);
        ops.into_iter().for_each(|op| image.apply(op));
        let Plan { ops, lacking, .. } = plan(&image, &numbers, &new, room);
        closed.set(closed.get() + lacking.endpoints.len());
        let mut questions = Vec::new();
        for pod in new.endpoints().keys() {
            let peers = peers.iter().chain(&more);
            for peer in peers.filter(|peer| peer.is_ipv4() == pod.is_ipv4()) {
                for direction in [Direction::Ingress, Direction::Egress] {
                    questions.push((*pod, direction, *peer, TRAFFIC[0]));
                }
            }
        }
        let ask = |image: &Image| -> Vec<u8> {
            let free = OUTCOME_ALLOW;
            let asked = questions.iter();
            asked
                .map(|(pod, direction, peer, traffic)| {
                    let found = image.outcome(*pod, *direction, *peer, *traffic);
                    found.unwrap_or(free)
                })
                .collect()
        };
        let at_first = ask(&image);
        let mut steps = Vec::new();
        for op in &ops {
            image.apply(*op);
            prop_assert!(image.endpoints.len() <= endpoints);
            steps.push(ask(&image));
        }
        let at_last = ask(&image);
        for (number, (pod, direction, peer, traffic)) in questions.iter().enumerate() {
            let (first, last) = (at_first[number], at_last[number]);
            let is_out = lacking.endpoints.contains(&prefix(&IpNet::from(*pod)));
            let is_host = matches!(new.identity(*peer), Identity::Host);
            let wanted = expected(&new, *pod, *direction, *peer, *traffic);
            let by_policy = wanted.unwrap_or(OUTCOME_ALLOW);
            let wanted = if is_out && !is_host {
                OUTCOME_DENY
            } else {
                by_policy
            };
            prop_assert_eq!(last, wanted, "{} {}", pod, peer);
            // What an audited policy would drop passes, as what nobody judges does. A pod at an
            // address of before may be closed for a moment, by the entry around those left out.
            let passes = |outcome: u8| outcome != OUTCOME_DENY;
            let may_pass = [first, last, by_policy].into_iter().any(passes);
            let is_one = |step: &Vec<u8>| may_pass || !passes(step[number]);
            prop_assert!(steps.iter().all(is_one), "{} {}: {:#?}", pod, peer, ops);
        }
        Ok(())
    });
    result.unwrap();
    assert!(closed.get() > 0, "nobody was left out");
}

#[test]
fn a_rule_for_all_of_ipv6_says_nothing_of_ipv4() {
    let cluster = [
        (
            Kind::Node,
            json!({
                "metadata": {"name": "node1"},
                "status": {"addresses": [{"type": "InternalIP", "address": "172.16.0.1"}]},
            }),
        ),
        (
            Kind::Pod,
            json!({
                "metadata": {"name": "pod1", "namespace": "c"},
                "spec": {"nodeName": "node1", "containers": []},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.0.1.5"}, {"ip": "fd00:1::5"}]},
            }),
        ),
        (
            Kind::NetworkPolicy,
            json!({
                "metadata": {"name": "p0", "namespace": "c"},
                "spec": {
                    "podSelector": {},
                    "policyTypes": ["Egress"],
                    "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}],
                },
            }),
        ),
    ];
    // There, and away again.
    walk(&[], &cluster, false).unwrap();
    walk(&cluster, &[], false).unwrap();
}
