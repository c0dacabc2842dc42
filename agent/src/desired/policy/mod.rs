//! Who may send what to whom on this node, as values: no kernel ids, no clock, no I/O.
//!
//! [`PolicyTables`] follow the cluster. Policies that select a pod of this node are in force here;
//! what others say is not looked at. An address has an identity: its class of peers that nothing
//! in force tells apart. A pod has, for each direction, the name of a set of verdicts by class,
//! protocol and port; pods to which the same rules go share a set. What becomes of replies is the
//! datapath's business.
//!
//! Sizes. Prefixes: one for each address of a pod or node that a selector in force means, one for
//! each network that a policy in force names. Classes: at most as many as there are prefixes, and
//! no more than selectors can tell apart; labels that none of them names cost nothing. Entries of
//! a set: for each class of which it says something of its own, 2 and at most 30 for each distinct
//! range of ports; so 100 classes × 10 single ports are 1,200, and 100 classes × 10 ranges as bad
//! as 1–65534 are 30,200. The worst is N selectors no two of which mean the same pods: 2^N
//! classes, but never more than pods. [`PolicyTables::size`] counts; the tables in the kernel are
//! the limit.

mod addresses;
mod difference;
mod dirty;
mod elsewhere;
mod entries;
mod follow;
mod in_force;
mod index;
mod news;
mod rules;
mod selection;
mod sets;
mod term;

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Direction, ObjectKey, Problem};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

pub use difference::Difference;
pub use entries::{Entries, Entry, Match, Outcome, Traffic, Verdict, look_up};
pub use rules::{Reason, Rule, SetKey};
pub use selection::LocalPod;
pub use sets::PolicySet;
pub use term::{Class, Identity, Namespaces, PolicyRef, PortOfName, Term};

/// The verdicts of a node. Cloning is cheap. Equal where the cluster and the node are, whatever
/// came before.
#[derive(Clone, Debug, Default)]
pub struct PolicyTables {
    addresses: addresses::Addresses,
    sets: sets::Known,
    pods: RedBlackTreeMapSync<ObjectKey, Arc<LocalPod>>,
    endpoints: RedBlackTreeMapSync<IpAddr, Arc<LocalPod>>,
    closed: Arc<[IpNet]>,
    problems: Arc<[Problem]>,
    revision: u64,
    recent: difference::Recent,
    known: follow::Known,
}

/// How large the tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Prefixes with an identity.
    pub prefixes: usize,
    /// Classes of peers, anybody not counted.
    pub classes: usize,
    /// Sets of verdicts.
    pub sets: usize,
    /// Entries of all sets.
    pub entries: usize,
    /// Entries of the largest set.
    pub largest_set: usize,
    /// Addresses of pods of this node.
    pub endpoints: usize,
}

impl PolicyTables {
    /// Goes up with every difference between tables that follow one another.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How they differ from those of an earlier revision, where that is still known.
    pub fn since(&self, revision: u64) -> Option<Difference> {
        self.recent.since(self.revision.checked_sub(revision)?)
    }

    /// Identities by prefix; the longest decides, and who is in none of them is anybody.
    pub fn identities(&self) -> &RedBlackTreeMapSync<IpNet, Identity> {
        &self.addresses.identities
    }

    /// Whether an address has this class. Anybody's is not counted.
    pub fn has_class(&self, class: &Arc<Class>) -> bool {
        self.addresses.classes.contains_key(class)
    }

    /// The sets of verdicts.
    pub fn sets(&self) -> &HashTrieMapSync<SetKey, Arc<PolicySet>> {
        &self.sets
    }

    /// The pods of this node that have a network of their own, those without an address among
    /// them.
    pub fn pods(&self) -> &RedBlackTreeMapSync<ObjectKey, Arc<LocalPod>> {
        &self.pods
    }

    /// The same by address.
    pub fn endpoints(&self) -> &RedBlackTreeMapSync<IpAddr, Arc<LocalPod>> {
        &self.endpoints
    }

    /// Networks of pods in which an address that is not in [`Self::endpoints`] may neither send
    /// nor receive (`--netpol-default-deny`).
    pub fn closed(&self) -> &[IpNet] {
        &self.closed
    }

    /// What keeps the tables from being what was asked for.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How large they are. Walks all sets.
    pub fn size(&self) -> Size {
        let sizes = || self.sets.values().map(|set| set.size());
        Size {
            prefixes: self.identities().size(),
            classes: self.addresses.classes.size(),
            sets: self.sets.size(),
            entries: sizes().sum(),
            largest_set: sizes().max().unwrap_or(0),
            endpoints: self.endpoints.size(),
        }
    }

    /// Who is at an address, by the longest prefix.
    pub fn identity(&self, address: IpAddr) -> Identity {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let networks = (0..=longest).rev();
        let found = networks
            .filter_map(|length| Some(IpNet::new(address, length).ok()?.trunc()))
            .find_map(|network| self.identities().get(&network).cloned());
        found.unwrap_or_else(|| Identity::Class(Arc::default()))
    }

    /// What becomes of a new connection between a pod of this node and a peer.
    pub fn verdict(
        &self,
        pod: IpAddr,
        direction: Direction,
        peer: IpAddr,
        traffic: Traffic,
    ) -> Verdict {
        let free = |outcome| Verdict {
            outcome,
            by: Reason::NoPolicy,
        };
        let Identity::Class(class) = self.identity(peer) else {
            return free(Outcome::Allow);
        };
        let Some(endpoint) = self.endpoints.get(&pod) else {
            let closed = self.closed.iter().any(|network| network.contains(&pod));
            return free(if closed {
                Outcome::Deny
            } else {
                Outcome::Allow
            });
        };
        let Some(key) = endpoint.set(direction) else {
            return free(Outcome::Allow);
        };
        let verdict = self
            .sets
            .get(key)
            .and_then(|set| set.verdict(&class, traffic));
        // A set that is not there allows nothing.
        verdict.cloned().unwrap_or_else(|| free(Outcome::Deny))
    }
}

impl PartialEq for PolicyTables {
    fn eq(&self, other: &Self) -> bool {
        self.identities() == other.identities()
            && self.sets == other.sets
            && self.pods == other.pods
            && self.endpoints == other.endpoints
            && self.closed == other.closed
            && self.problems == other.problems
    }
}
