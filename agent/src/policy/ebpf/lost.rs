//! Sets of verdicts that do not fit: whose they are, and what becomes of their pods. Decides, and
//! writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use agent_abi::policy::{EndpointV1, NO_SET};
use model::{Direction, Kind, Problem, Reason, Tier};

use super::facility::CLOSED;
use super::image::{Image, Numbers, Op, Prefix};
use crate::desired::policy::{LocalPod, PolicyRef, PolicyTables};
use crate::sys::map::TableError;

/// What is not in force.
#[derive(Debug, Default)]
pub(super) struct Lost {
    sets: BTreeSet<u32>,
    /// Pods that are closed.
    pub(super) pods: Vec<Prefix>,
    /// The first reason.
    pub(super) error: Option<TableError>,
}

impl Lost {
    /// The write to do in place of a planned one: nothing more goes into a set that does not fit,
    /// and its pods are closed.
    pub(super) fn instead_of(&mut self, op: Op) -> Option<Op> {
        if let Op::PutVerdict((key, _), _) = op
            && self.sets.contains(&key.set)
        {
            return None;
        }
        if let Op::PutEndpoint(prefix, endpoint) = op
            && self.concerns(&endpoint)
        {
            self.pods.push(prefix);
            return Some(Op::PutEndpoint(prefix, CLOSED));
        }
        Some(op)
    }

    /// A set does not fit. The answer closes the pods that use it already, since what it says of the
    /// peers that come is not there, and makes room for other sets.
    pub(super) fn lose(&mut self, set: u32, error: TableError, image: &Image) -> Vec<Op> {
        self.sets.insert(set);
        self.error.get_or_insert(error);
        let users = image.endpoints.iter();
        let users = users.filter(|(_, endpoint)| uses(endpoint, set));
        let users: Vec<Prefix> = users.map(|(prefix, _)| *prefix).collect();
        self.pods.extend(&users);
        let written = image.verdicts.keys().filter(|(key, _)| key.set == set);
        users
            .into_iter()
            .map(|prefix| Op::PutEndpoint(prefix, CLOSED))
            .chain(written.map(|key| Op::DeleteVerdict(*key)))
            .collect()
    }

    fn concerns(&self, endpoint: &EndpointV1) -> bool {
        self.sets.iter().any(|set| uses(endpoint, *set))
    }

    /// One for each policy, and direction of it, that is not in force.
    pub(super) fn problems(
        &self,
        tables: &PolicyTables,
        numbers: &Numbers,
        error: &TableError,
    ) -> Vec<Problem> {
        let mut found: BTreeMap<(Arc<PolicyRef>, Direction), BTreeSet<String>> = BTreeMap::new();
        let pods = tables.endpoints().iter();
        let closed = pods.filter(|(address, _)| {
            let prefix = prefix(**address);
            self.pods.contains(&prefix)
        });
        for (_, pod) in closed {
            for key in lost_sets(pod, numbers, &self.sets) {
                for policy in key.policies.iter() {
                    let of_policy = found.entry((Arc::clone(policy), key.direction));
                    of_policy.or_default().insert(pod.key.to_string());
                }
            }
        }
        let problem = |((policy, direction), pods): ((Arc<PolicyRef>, Direction), BTreeSet<_>)| {
            problem(&policy, direction, &pods, error)
        };
        found.into_iter().map(problem).collect()
    }
}

/// The sets of a pod that do not fit; all of them where it is not known which.
fn lost_sets<'a>(
    pod: &'a LocalPod,
    numbers: &'a Numbers,
    lost: &'a BTreeSet<u32>,
) -> impl Iterator<Item = &'a crate::desired::policy::SetKey> {
    pod.sets()
        .filter(move |key| lost.is_empty() || lost.contains(&numbers.set(key)))
}

fn uses(endpoint: &EndpointV1, set: u32) -> bool {
    set != NO_SET && (endpoint.ingress == set || endpoint.egress == set)
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
    error: &TableError,
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
    let message = format!("is not in force: {error}");
    let effect = format!(
        "closed but to their node: {}{more}; raise --max-policy-entries and make the tables anew with --cleanup-config and a restart",
        named.join(", ")
    );
    Problem::new(kind, policy.key.clone(), field, message, effect)
        .because(Reason::PolicyNotEnforced)
}
