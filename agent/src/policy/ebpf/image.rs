//! What the policy maps should contain, and the writes that lead there.
//!
//! [`plan`] numbers the classes, sets and rules of [`PolicyTables`], keeping the numbers that it
//! gave before, and orders the writes so that after each of them every pod has, for every packet,
//! its old verdict or its new one:
//!
//! 1. verdicts under numbers that nothing refers to yet;
//! 2. identities: new prefixes longest first, so that none catches what a longer one is to have;
//! 3. endpoints that leave a set;
//! 4. identities that passed through a number of their own, and those that are gone;
//! 5. endpoints that are new or had no rules; 6. verdicts that nothing refers to any more.
//!
//! Where peers change and pods leave sets in one plan, neither may come first: under the old set
//! the new class may have neither verdict. Such peers pass through a number for the pair of their
//! old and new class, under which old sets say what they said of the old class and new sets what
//! they say of the new one. A set that such a pod is to join is written anew.
//!
//! Nothing here talks to the kernel.

mod identities;
mod lower;
mod numbers;
mod room;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::Address;
use agent_abi::policy::{
    EndpointV1, IDENTITY_ANYBODY, IDENTITY_HOST, NO_RULE, NO_SET, OUTCOME_ALLOW, VERDICT_BITS,
    VerdictKeyV1, VerdictV1,
};

use crate::desired::policy::PolicyTables;

pub use numbers::{Numbers, RuleNames};
pub use room::{CLOSED, Lacking, Room};

/// Bits of the mapped address that count, and the address. Longer prefixes come later.
pub type Prefix = (u32, Address);
/// Bits that count, and the key.
pub type VerdictPrefix = (VerdictKeyV1, u32);

/// Contents of the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `POLICY_IDENTITIES`.
    pub identities: BTreeMap<Prefix, u32>,
    /// `POLICY_VERDICTS`.
    pub verdicts: BTreeMap<VerdictPrefix, VerdictV1>,
    /// `POLICY_ENDPOINTS`.
    pub endpoints: BTreeMap<Prefix, EndpointV1>,
}

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The next free numbers of identities, sets and rules.
    Reserve([u32; 3]),
    /// Puts a verdict.
    PutVerdict(VerdictPrefix, VerdictV1),
    /// Says who is at a prefix.
    PutIdentity(Prefix, u32),
    /// Says which rules go for a prefix.
    PutEndpoint(Prefix, EndpointV1),
    /// Takes an endpoint away.
    DeleteEndpoint(Prefix),
    /// Takes an identity away.
    DeleteIdentity(Prefix),
    /// Takes a verdict away.
    DeleteVerdict(VerdictPrefix),
}

impl Image {
    /// Follows one write.
    pub fn commit(&mut self, op: Op) {
        match op {
            Op::Reserve(_) => {}
            Op::PutVerdict(key, value) => _ = self.verdicts.insert(key, value),
            Op::PutIdentity(key, value) => _ = self.identities.insert(key, value),
            Op::PutEndpoint(key, value) => _ = self.endpoints.insert(key, value),
            Op::DeleteEndpoint(key) => _ = self.endpoints.remove(&key),
            Op::DeleteIdentity(key) => _ = self.identities.remove(&key),
            Op::DeleteVerdict(key) => _ = self.verdicts.remove(&key),
        }
    }
}

/// A prefix as an operator knows it.
pub fn shown((bits, address): &Prefix) -> String {
    let v6 = std::net::Ipv6Addr::from(*address);
    match v6.to_ipv4_mapped() {
        Some(v4) if *bits >= 96 => format!("{v4}/{}", bits - 96),
        _ => format!("{v6}/{bits}"),
    }
}

/// The way from one image to another.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The writes, in order.
    pub ops: Vec<Op>,
    /// The numbers then.
    pub numbers: Numbers,
    /// Sets that are not in force as they should be.
    pub lacking: Lacking,
}

/// The way from `image` to what `tables` say, as far as there is room. `numbers` are those of
/// `image`.
pub fn plan(image: &Image, numbers: &Numbers, tables: &PolicyTables, room: Room) -> Plan {
    let mut next = numbers.clone();
    next.give(tables);
    let lowered = |numbers: &Numbers| {
        let mut target = lower::lower(numbers, tables);
        let lacking = room.fit(image, &mut target);
        (target, lacking)
    };
    let (mut target, mut lacking) = lowered(&next);
    let flips = flips(image, &target);
    let leaves_set = leaving(image, &target);
    let mixed = !flips.is_empty() && !leaves_set.is_empty();
    if mixed {
        // A set that is in force means what it meant until the end.
        let in_force = sets_of(image.endpoints.values());
        let joined: BTreeSet<u32> = leaves_set
            .iter()
            .filter_map(|prefix| {
                Some((image.endpoints.get(prefix)?, target.endpoints.get(prefix)?))
            })
            .flat_map(|(old, new)| [(old.ingress, new.ingress), (old.egress, new.egress)])
            .filter(|(old, new)| old != new && in_force.contains(new))
            .map(|(_, new)| new)
            .collect();
        if !joined.is_empty() {
            next.give_sets_anew(&joined);
            (target, lacking) = lowered(&next);
        }
    }
    let leaves_set = leaving(image, &target);
    let by_way = by_way(mixed, &flips, &mut next);
    let passing = passing(image, &target, &by_way);
    let mut ops = Vec::new();
    if next.free() != numbers.free() {
        ops.push(Op::Reserve(next.free()));
    }
    let wanted = target.verdicts.iter().chain(&passing);
    let missing = wanted.filter(|(key, verdict)| image.verdicts.get(key) != Some(verdict));
    ops.extend(missing.map(|(key, verdict)| Op::PutVerdict(*key, *verdict)));
    let through = |old: u32, new: u32| by_way.get(&(old, new)).copied().unwrap_or(new);
    let is_new = |prefix: &Prefix| !image.identities.contains_key(prefix);
    let put = |(prefix, (old, new)): (&Prefix, &(u32, u32))| {
        Op::PutIdentity(*prefix, through(*old, *new))
    };
    let in_target = |prefix: &Prefix| target.identities.contains_key(prefix);
    ops.extend(
        flips
            .iter()
            .rev()
            .filter(|(prefix, _)| is_new(prefix))
            .map(put),
    );
    let known = || flips.iter().filter(|(prefix, _)| !is_new(prefix));
    ops.extend(
        known()
            .filter(|(prefix, _)| mixed || in_target(prefix))
            .map(put),
    );
    ops.extend(
        leaves_set
            .iter()
            .map(|prefix| match target.endpoints.get(prefix) {
                Some(endpoint) => Op::PutEndpoint(*prefix, *endpoint),
                None => Op::DeleteEndpoint(*prefix),
            }),
    );
    let passed = flips
        .iter()
        .filter(|(prefix, (old, new))| in_target(prefix) && through(*old, *new) != *new);
    ops.extend(passed.map(|(prefix, (_, new))| Op::PutIdentity(*prefix, *new)));
    // Shortest first: what is under two of them falls to what stays, never to the other.
    let gone = image.identities.keys().filter(|prefix| !in_target(prefix));
    ops.extend(gone.map(|prefix| Op::DeleteIdentity(*prefix)));
    let late = target.endpoints.iter().filter(|(prefix, endpoint)| {
        !leaves_set.contains(prefix) && image.endpoints.get(prefix) != Some(endpoint)
    });
    ops.extend(late.map(|(prefix, endpoint)| Op::PutEndpoint(*prefix, *endpoint)));
    let unused = image.verdicts.keys().chain(passing.keys());
    let unused: BTreeSet<_> = unused
        .filter(|key| !target.verdicts.contains_key(key))
        .collect();
    ops.extend(unused.into_iter().map(|key| Op::DeleteVerdict(*key)));
    next.forget(tables);
    Plan {
        ops,
        numbers: next,
        lacking,
    }
}

/// Prefixes whose addresses change identity: from which to which.
fn flips(image: &Image, target: &Image) -> BTreeMap<Prefix, (u32, u32)> {
    let prefixes = image.identities.keys().chain(target.identities.keys());
    let prefixes: BTreeSet<&Prefix> = prefixes.collect();
    let around = |identities: &BTreeMap<Prefix, u32>, prefix: &Prefix| {
        lower::longest(identities, prefix)
            .copied()
            .unwrap_or(IDENTITY_ANYBODY)
    };
    let change = |prefix: &Prefix| {
        let old = around(&image.identities, prefix);
        let new = around(&target.identities, prefix);
        let is_added =
            target.identities.contains_key(prefix) && !image.identities.contains_key(prefix);
        (old != new || is_added).then_some((*prefix, (old, new)))
    };
    prefixes.into_iter().filter_map(change).collect()
}

/// Endpoints for which a set that went for them no longer does.
fn leaving(image: &Image, target: &Image) -> BTreeSet<Prefix> {
    let leaves = |old: u32, new: Option<u32>| old != NO_SET && new != Some(old);
    let endpoints = image.endpoints.iter().filter(|(prefix, old)| {
        let new = target.endpoints.get(*prefix);
        leaves(old.ingress, new.map(|new| new.ingress))
            || leaves(old.egress, new.map(|new| new.egress))
            || new.is_none_or(|new| new.flags != old.flags)
    });
    endpoints.map(|(prefix, _)| *prefix).collect()
}

fn sets_of<'a, Endpoints: Iterator<Item = &'a EndpointV1>>(endpoints: Endpoints) -> BTreeSet<u32> {
    let sets = endpoints.flat_map(|endpoint| [endpoint.ingress, endpoint.egress]);
    sets.filter(|set| *set != NO_SET).collect()
}

/// A number for each pair of identities that peers pass through.
fn by_way(
    mixed: bool,
    flips: &BTreeMap<Prefix, (u32, u32)>,
    numbers: &mut Numbers,
) -> BTreeMap<(u32, u32), u32> {
    let pairs: BTreeSet<(u32, u32)> = flips.values().copied().collect();
    let pairs = pairs.into_iter().filter(|(old, new)| mixed && old != new);
    pairs.map(|pair| (pair, numbers.identity())).collect()
}

/// What sets say of peers that pass through a number: old sets what they said, new sets what they
/// will say.
fn passing(
    image: &Image,
    target: &Image,
    by_way: &BTreeMap<(u32, u32), u32>,
) -> BTreeMap<VerdictPrefix, VerdictV1> {
    let old = sets_of(image.endpoints.values());
    let mut fresh = sets_of(target.endpoints.values());
    fresh.retain(|set| !old.contains(set));
    let mut passing = BTreeMap::new();
    for ((before, after), through) in by_way {
        let old = old.iter().map(|set| (*set, image, *before));
        let fresh = fresh.iter().map(|set| (*set, target, *after));
        for (set, of, identity) in old.chain(fresh) {
            let key = |identity| VerdictKeyV1 {
                set,
                identity,
                protocol: 0,
                _pad: 0,
                port: [0; 2],
            };
            if identity == IDENTITY_HOST {
                let verdict = VerdictV1 {
                    rule: NO_RULE,
                    outcome: OUTCOME_ALLOW,
                    _pad: [0; 3],
                };
                passing.insert((key(*through), VERDICT_BITS), verdict);
            } else if identity != IDENTITY_ANYBODY {
                for ((key, bits), verdict) in lower::of_identity(&of.verdicts, set, identity) {
                    let key = VerdictKeyV1 {
                        identity: *through,
                        ..*key
                    };
                    passing.insert((key, *bits), *verdict);
                }
            }
        }
    }
    passing
}
