//! Whose rules are not in force for want of room, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Direction, Kind, ObjectKey, Problem, Reason, Tier};

use super::image::{Numbers, Prefix};
use crate::desired::policy::{LocalPod, PolicyRef, PolicyTables, SetKey};

/// What is not in the tables.
pub(super) enum LeftOut<'a> {
    /// Sets.
    Sets(&'a BTreeSet<u32>),
    /// Any sets of pods.
    Pods(&'a [Prefix]),
}

impl LeftOut<'_> {
    /// The sets of a pod that are not there.
    fn of<'a>(
        &'a self,
        address: IpAddr,
        pod: &'a LocalPod,
        numbers: &'a Numbers,
    ) -> impl Iterator<Item = &'a SetKey> {
        let is_left_out = move |key: &&SetKey| match self {
            Self::Sets(sets) => sets.contains(&numbers.set(key)),
            Self::Pods(pods) => pods.contains(&prefix(address)),
        };
        pod.sets().filter(is_left_out)
    }
}

/// What becomes of the pods whose rules they are.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// They are closed.
    Closed,
    /// Some peers have no name for them.
    Strangers,
}

/// One for each policy, and direction of it, that is not in force, or not in full.
pub(super) fn problems(
    left_out: &LeftOut<'_>,
    tables: &PolicyTables,
    numbers: &Numbers,
    (effect, why): (Effect, &str),
) -> Vec<Problem> {
    let mut found: BTreeMap<(Arc<PolicyRef>, Direction), BTreeSet<String>> = BTreeMap::new();
    if let LeftOut::Sets(sets) = left_out
        && sets.is_empty()
    {
        return Vec::new();
    }
    for (address, pod) in tables.endpoints() {
        for key in left_out.of(*address, pod, numbers) {
            for policy in key.policies.iter() {
                let of_policy = found.entry((Arc::clone(policy), key.direction));
                of_policy.or_default().insert(pod.key.to_string());
            }
        }
    }
    let problem = |((policy, direction), pods): ((Arc<PolicyRef>, Direction), BTreeSet<_>)| {
        problem(&policy, direction, &pods, (effect, why))
    };
    found.into_iter().map(problem).collect()
}

/// One for each pod that is not there.
pub(super) fn of_pods(
    left_out: &BTreeSet<Prefix>,
    tables: &PolicyTables,
    why: &str,
    remedy: &str,
) -> Vec<Problem> {
    let all = tables.endpoints().iter().filter(|_| !left_out.is_empty());
    let pods = all.filter(|(address, _)| left_out.contains(&prefix(**address)));
    let pods: BTreeSet<&ObjectKey> = pods.map(|(_, pod)| &pod.key).collect();
    let problem = |key: &ObjectKey| {
        let problem = Problem::new(Kind::Pod, key.clone(), "status.podIPs", why, remedy);
        problem.because(Reason::PolicyNotEnforced)
    };
    pods.into_iter().map(problem).collect()
}

fn prefix(address: IpAddr) -> Prefix {
    let mapped = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    (128, mapped.octets())
}

fn problem(
    policy: &PolicyRef,
    direction: Direction,
    pods: &BTreeSet<String>,
    (effect, why): (Effect, &str),
) -> Problem {
    /// Pods that are named.
    const NAMED: usize = 3;
    let kind = match policy.tier {
        Tier::NetworkPolicy => Kind::NetworkPolicy,
        Tier::Admin | Tier::Baseline => Kind::ClusterNetworkPolicy,
    };
    let field = match direction {
        Direction::Ingress => "spec.ingress",
        Direction::Egress => "spec.egress",
    };
    let named: Vec<&str> = pods.iter().take(NAMED).map(String::as_str).collect();
    let more = match pods.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (degree, state) = match effect {
        Effect::Closed => ("", "closed but to their node"),
        Effect::Strangers => (" in full", "closed to some of the peers that it allows"),
    };
    let message = format!("is not in force{degree}: {why}");
    let effect = format!(
        "{state}: {}{more}; raise --max-policy-entries and make the tables anew with --cleanup-config and a restart",
        named.join(", ")
    );
    Problem::new(kind, policy.key.clone(), field, message, effect)
        .because(Reason::PolicyNotEnforced)
}
