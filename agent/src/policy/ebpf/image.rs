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
//! 5. endpoints that are new or had no rules, single ones before what closes networks around them;
//!    networks that are closed no longer; 6. verdicts that nothing refers to any more.
//!
//! Where peers change and pods leave sets in one plan, neither may come first: under the old set
//! the new class may have neither verdict. Such peers pass through a number for the pair of their
//! old and new class, under which old sets say what they said of the old class and new sets what
//! they say of the new one. A set that such a pod is to join is written anew.
//!
//! Nothing here talks to the kernel.

mod endpoints;
mod identities;
mod lower;
mod numbers;
mod part;
mod room;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use agent_abi::Address;
use agent_abi::policy::{
    EndpointV1, IDENTITY_ANYBODY, IDENTITY_HOST, NO_RULE, NO_SET, OUTCOME_ALLOW, VERDICT_BITS,
    VerdictKeyV1, VerdictV1,
};

use crate::desired::policy::{Difference, PolicyTables, SetKey};

use part::Part;

pub use numbers::{Numbers, RuleNames};
pub use room::{CLOSED, Lacking, Room};

/// Bits of the mapped address that count, and the address. Longer prefixes come later.
pub type Prefix = (u32, Address);
/// Bits that count, and the key.
pub type VerdictPrefix = (VerdictKeyV1, u32);

type Verdicts = BTreeMap<VerdictPrefix, VerdictV1>;

/// Contents of the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `POLICY_IDENTITIES`.
    pub identities: BTreeMap<Prefix, u32>,
    /// `POLICY_VERDICTS`.
    pub verdicts: Verdicts,
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
    let lowered = |numbers: &Numbers, _: &BTreeSet<SetKey>| {
        let mut target = lower::lower(numbers, tables);
        let lacking = room.fit(image, &mut target);
        Some((Part::all(image, target), lacking))
    };
    let ordered = order(numbers, next, lowered);
    let (ops, mut next, lacking) = ordered.expect("invariant: what does not fit is left out");
    next.forget(tables);
    Plan {
        ops,
        numbers: next,
        lacking,
    }
}

/// The same, where all but `difference` is in `image` already; `None` where there is no room.
pub fn follow(
    image: &Image,
    numbers: &Numbers,
    tables: &PolicyTables,
    difference: &Difference,
    room: Room,
) -> Option<Plan> {
    let mut next = numbers.clone();
    next.give_new(tables, difference);
    let lowered = |next: &Numbers, anew: &BTreeSet<SetKey>| {
        let mut difference = Cow::Borrowed(difference);
        if !anew.is_empty() {
            difference.to_mut().sets.extend(anew.iter().cloned());
        }
        let part = Part::of(&difference, image, tables, (numbers, next));
        part.fits(room).then(|| (part, Lacking::default()))
    };
    let (ops, mut next, lacking) = order(numbers, next, lowered)?;
    next.forget_old(tables, difference);
    Some(Plan {
        ops,
        numbers: next,
        lacking,
    })
}

/// The writes in order. `lowered` says what differs under some numbers, where some sets have new ones
/// besides.
fn order<'a>(
    numbers: &Numbers,
    mut next: Numbers,
    lowered: impl Fn(&Numbers, &BTreeSet<SetKey>) -> Option<(Part<'a>, Lacking)>,
) -> Option<(Vec<Op>, Numbers, Lacking)> {
    let (mut part, mut lacking) = lowered(&next, &BTreeSet::new())?;
    let flips = flips(&part);
    let mixed = !flips.is_empty() && !leaving(&part).is_empty();
    if mixed {
        // A set that is in force means what it meant until the end.
        let joined = joined(&part);
        if !joined.is_empty() {
            let anew = next.give_sets_anew(&joined);
            (part, lacking) = lowered(&next, &anew)?;
        }
    }
    let leaves_set = leaving(&part);
    let by_way = by_way(mixed, &flips, &mut next);
    let passing = passing(&part, &by_way);
    let Part { before, after, .. } = &part;
    let mut ops = Vec::new();
    if next.free() != numbers.free() {
        ops.push(Op::Reserve(next.free()));
    }
    let wanted = after.verdicts.iter().chain(&passing);
    let missing = wanted.filter(|(key, verdict)| before.verdicts.get(key) != Some(verdict));
    ops.extend(missing.map(|(key, verdict)| Op::PutVerdict(*key, *verdict)));
    let through = |old: u32, new: u32| by_way.get(&(old, new)).copied().unwrap_or(new);
    let is_new = |prefix: &Prefix| !before.identities.contains_key(prefix);
    let put = |(prefix, (old, new)): (&Prefix, &(u32, u32))| {
        Op::PutIdentity(*prefix, through(*old, *new))
    };
    let in_target = |prefix: &Prefix| after.identities.contains_key(prefix);
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
    // What closes a network goes when its pods have what is theirs, and comes after them.
    let goes = |prefix: &&Prefix| !after.endpoints.contains_key(prefix);
    let is_wide = |prefix: &&Prefix| prefix.0 < 128;
    let leaving = leaves_set.iter().filter(|it| !(goes(it) && is_wide(it)));
    ops.extend(leaving.map(|prefix| match after.endpoints.get(prefix) {
        Some(endpoint) => Op::PutEndpoint(*prefix, *endpoint),
        None => Op::DeleteEndpoint(*prefix),
    }));
    let passed = flips
        .iter()
        .filter(|(prefix, (old, new))| in_target(prefix) && through(*old, *new) != *new);
    ops.extend(passed.map(|(prefix, (_, new))| Op::PutIdentity(*prefix, *new)));
    // Shortest first: what is under two of them falls to what stays, never to the other.
    let gone = before.identities.keys().filter(|prefix| !in_target(prefix));
    ops.extend(gone.map(|prefix| Op::DeleteIdentity(*prefix)));
    let late = after.endpoints.iter().filter(|(prefix, endpoint)| {
        !leaves_set.contains(prefix) && before.endpoints.get(prefix) != Some(endpoint)
    });
    let late = late.rev();
    ops.extend(late.map(|(prefix, endpoint)| Op::PutEndpoint(*prefix, *endpoint)));
    let wide = leaves_set.iter().filter(|it| goes(it) && is_wide(it));
    ops.extend(wide.map(|prefix| Op::DeleteEndpoint(*prefix)));
    let unused = before.verdicts.keys().chain(passing.keys());
    let unused: BTreeSet<_> = unused
        .filter(|key| !after.verdicts.contains_key(key))
        .collect();
    ops.extend(unused.into_iter().map(|key| Op::DeleteVerdict(*key)));
    Some((ops, next, lacking))
}

/// Prefixes whose addresses change identity: from which to which.
fn flips(part: &Part<'_>) -> BTreeMap<Prefix, (u32, u32)> {
    let Part { before, after, .. } = part;
    let prefixes = before.identities.keys().chain(after.identities.keys());
    let prefixes: BTreeSet<&Prefix> = prefixes.collect();
    let change = |prefix: &Prefix| {
        let old = part.identity_before(prefix);
        let new = part.identity_after(prefix);
        let is_added =
            after.identities.contains_key(prefix) && !before.identities.contains_key(prefix);
        (old != new || is_added).then_some((*prefix, (old, new)))
    };
    prefixes.into_iter().filter_map(change).collect()
}

/// Endpoints for which a set that went for them no longer does.
fn leaving(part: &Part<'_>) -> BTreeSet<Prefix> {
    let leaves = |old: u32, new: Option<u32>| old != NO_SET && new != Some(old);
    let endpoints = part.before.endpoints.iter().filter(|(prefix, old)| {
        let new = part.after.endpoints.get(*prefix);
        leaves(old.ingress, new.map(|new| new.ingress))
            || leaves(old.egress, new.map(|new| new.egress))
            || new.is_none_or(|new| new.flags != old.flags)
    });
    endpoints.map(|(prefix, _)| *prefix).collect()
}

/// Sets in force that endpoints which leave another one are to join.
fn joined(part: &Part<'_>) -> BTreeSet<u32> {
    let in_force = part.sets_before();
    let endpoints = |prefix: &Prefix| {
        let old = part.before.endpoints.get(prefix)?;
        Some((*old, *part.after.endpoints.get(prefix)?))
    };
    let leaving = leaving(part);
    let both = leaving.iter().filter_map(endpoints);
    both.flat_map(|(old, new)| [(old.ingress, new.ingress), (old.egress, new.egress)])
        .filter(|(old, new)| old != new && in_force.contains(new))
        .map(|(_, new)| new)
        .collect()
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
fn passing(part: &Part<'_>, by_way: &BTreeMap<(u32, u32), u32>) -> Verdicts {
    let mut passing = Verdicts::new();
    if by_way.is_empty() {
        return passing;
    }
    let old = part.sets_before();
    let mut fresh = part.sets_after();
    fresh.retain(|set| !old.contains(set));
    for ((before, after), through) in by_way {
        let old = old.iter().map(|set| (*set, true, *before));
        let fresh = fresh.iter().map(|set| (*set, false, *after));
        for (set, is_old, identity) in old.chain(fresh) {
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
                let says = if is_old {
                    part.says_before(set, identity)
                } else {
                    part.says_after(set, identity)
                };
                let moved = |(key, bits): VerdictPrefix| {
                    let identity = *through;
                    (VerdictKeyV1 { identity, ..key }, bits)
                };
                passing.extend(says.into_iter().map(|(key, verdict)| (moved(key), verdict)));
            }
        }
    }
    passing
}
