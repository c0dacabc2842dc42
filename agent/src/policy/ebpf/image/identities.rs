//! Which identities go into a table that is too small for all.
//!
//! An address whose prefix is left out has the identity of the longest prefix around it that stays,
//! or is anybody. Where a set lets more of that one pass, who has the set is closed; where it lets
//! as much pass or less, the set stays in force, and some peers that it names are strangers to it.

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::policy::{
    IDENTITY_ANYBODY, IDENTITY_HOST, OUTCOME_DENY, PROTOCOL_BITS, VERDICT_BITS,
};

use super::lower::{longest, of_identity};
use super::{Image, Prefix, Verdicts};

/// What sets say that were made for identities which are not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unfit {
    /// Sets that would let pass what they forbid.
    pub(super) open: BTreeSet<u32>,
    /// Sets that do not let pass all that they allow.
    pub(super) narrow: BTreeSet<u32>,
}

/// Takes out of `target` the identities that are more than `room`, and those that are not in `image`
/// unless `new_ones` go in. The node stays before all others: its probes reach the pods by it. Then
/// what is in force stays, then networks before addresses.
pub(super) fn fit(room: usize, new_ones: bool, image: &Image, target: &mut Image) -> Unfit {
    let is_new = |prefix: &Prefix| !image.identities.contains_key(prefix);
    let mut order: Vec<(bool, bool, Prefix)> = target
        .identities
        .iter()
        .map(|(prefix, identity)| (*identity != IDENTITY_HOST, is_new(prefix), *prefix))
        .collect();
    order.sort_unstable();
    let stays = order.iter().filter(|(_, is_new, _)| new_ones || !is_new);
    let stays: BTreeSet<Prefix> = stays.take(room).map(|(.., prefix)| *prefix).collect();
    if stays.len() == target.identities.len() {
        return Unfit::default();
    }
    let whole = target.identities.clone();
    target.identities.retain(|prefix, _| stays.contains(prefix));
    // The same of many addresses.
    let mut changes = BTreeSet::new();
    for (prefix, identity) in whole {
        let found = longest(&prefix, |at| target.identities.get(at).copied());
        changes.insert((identity, found.unwrap_or(IDENTITY_ANYBODY)));
    }
    changes.retain(|(meant, found)| meant != found);
    unfit(&target.verdicts, &changes)
}

fn unfit(verdicts: &Verdicts, changes: &BTreeSet<(u32, u32)>) -> Unfit {
    let sets: BTreeSet<u32> = verdicts.keys().map(|(key, _)| key.set).collect();
    let mut unfit = Unfit::default();
    for set in sets {
        for (meant, found) in changes {
            let (meant, found) = (says(verdicts, set, *meant), says(verdicts, set, *found));
            if meant == found {
                continue;
            }
            if is_within(&found, &meant) {
                unfit.narrow.insert(set);
            } else {
                unfit.open.insert(set);
                break;
            }
        }
    }
    unfit.narrow.retain(|set| !unfit.open.contains(set));
    unfit
}

/// Outcomes by protocol and port, and how many bits of them count; the longest decides.
type Says = BTreeMap<(u32, u32), u8>;

/// What a set says of an identity; of the node there is nothing to say.
fn says(verdicts: &Verdicts, set: u32, identity: u32) -> Option<Says> {
    if identity == IDENTITY_HOST {
        return None;
    }
    let of = |identity| -> Says {
        of_identity(verdicts, set, identity)
            .map(|((key, bits), verdict)| {
                let [high, low] = key.port;
                let traffic = u32::from_be_bytes([key.protocol, 0, high, low]);
                ((bits - VERDICT_BITS, traffic), verdict.outcome)
            })
            .collect()
    };
    let own = of(identity);
    let is_silent = own.is_empty();
    Some(if is_silent { of(IDENTITY_ANYBODY) } else { own })
}

/// Whether nothing passes by the one that does not pass, in the same way, by the other. Between two
/// entries that follow one another both say the same throughout, so their own places are all places.
fn is_within(less: &Option<Says>, more: &Option<Says>) -> bool {
    let Some(more) = more else {
        return true;
    };
    let Some(less) = less else {
        return false;
    };
    less.keys().chain(more.keys()).all(|place| {
        let (less, more) = (outcome(less, *place), outcome(more, *place));
        less == OUTCOME_DENY || less == more
    })
}

/// What becomes of traffic at a place of an entry, as far as no longer one knows better.
fn outcome(says: &Says, (bits, traffic): (u32, u32)) -> u8 {
    const { assert!(PROTOCOL_BITS == 16) };
    let found = (0..=bits).rev().find_map(|bits| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        says.get(&(bits, traffic & mask))
    });
    found.copied().unwrap_or(OUTCOME_DENY)
}

#[cfg(test)]
mod tests {
    use agent_abi::policy::{
        NO_RULE, OUTCOME_ALLOW, OUTCOME_AUDIT_DENY, VerdictKeyV1, VerdictV1, WHOLE_VERDICT_BITS,
    };

    use super::*;

    const WIDE: u32 = 10;
    const NARROW: u32 = 11;
    const OTHER: u32 = 12;
    const PLACES: [(Prefix, u32); 4] = [
        ((104, [0; 16]), WIDE),
        ((112, [0; 16]), NARROW),
        ((128, [9; 16]), OTHER),
        ((128, [8; 16]), IDENTITY_HOST),
    ];

    /// Entries of set 1: an identity, a port of TCP or 0 for all traffic, what becomes of it.
    fn image(entries: &[(u32, u8, u8)]) -> Image {
        let mut image = Image {
            identities: PLACES.into(),
            ..Image::default()
        };
        for (identity, port, outcome) in entries {
            let whole = *port != 0;
            let key = VerdictKeyV1 {
                set: 1,
                identity: *identity,
                protocol: if whole { 6 } else { 0 },
                _pad: 0,
                port: [0, *port],
            };
            let verdict = VerdictV1 {
                rule: NO_RULE,
                outcome: *outcome,
                _pad: [0; 3],
            };
            let bits = if whole {
                WHOLE_VERDICT_BITS
            } else {
                VERDICT_BITS
            };
            image.verdicts.insert((key, bits), verdict);
        }
        image
    }

    #[derive(Debug, PartialEq)]
    enum Fate {
        Whole,
        Narrow,
        Open,
    }

    #[track_caller]
    fn check(room: usize, entries: &[(u32, u8, u8)], expected: Fate) {
        let mut target = image(entries);
        let unfit = fit(room, true, &Image::default(), &mut target);
        assert_eq!(target.identities.len(), room.min(PLACES.len()));
        let fate = match (unfit.open.contains(&1), unfit.narrow.contains(&1)) {
            (false, false) => Fate::Whole,
            (false, true) => Fate::Narrow,
            (true, false) => Fate::Open,
            (true, true) => panic!("both"),
        };
        assert_eq!(fate, expected);
    }

    #[test]
    fn who_is_not_known_is_given_less_and_never_more() {
        const ALLOW: u8 = OUTCOME_ALLOW;
        const DENY: u8 = OUTCOME_DENY;
        const AUDIT: u8 = OUTCOME_AUDIT_DENY;
        let nobody = (IDENTITY_ANYBODY, 0, DENY);
        let all = (IDENTITY_ANYBODY, 0, ALLOW);
        check(4, &[nobody, (OTHER, 0, ALLOW)], Fate::Whole);
        // The address goes first, and becomes anybody.
        check(3, &[nobody, (OTHER, 0, ALLOW)], Fate::Narrow);
        check(3, &[nobody, (WIDE, 0, ALLOW)], Fate::Whole);
        check(3, &[all, (OTHER, 0, DENY)], Fate::Open);
        check(3, &[all, (OTHER, 0, AUDIT)], Fate::Open);
        check(3, &[all, (OTHER, 0, ALLOW), (OTHER, 80, DENY)], Fate::Open);
        check(
            3,
            &[nobody, (OTHER, 0, DENY), (OTHER, 80, ALLOW)],
            Fate::Narrow,
        );
        check(
            3,
            &[all, (IDENTITY_ANYBODY, 80, DENY), (OTHER, 0, ALLOW)],
            Fate::Narrow,
        );
        // A network within another one becomes the other one.
        check(
            2,
            &[nobody, (WIDE, 0, ALLOW), (NARROW, 0, DENY)],
            Fate::Open,
        );
        check(2, &[nobody, (WIDE, 0, ALLOW)], Fate::Open);
        check(
            1,
            &[nobody, (WIDE, 0, ALLOW), (NARROW, 0, DENY)],
            Fate::Narrow,
        );
        // The node is last.
        check(1, &[all, (WIDE, 0, ALLOW)], Fate::Whole);
        check(0, &[nobody], Fate::Narrow);
    }

    #[test]
    fn what_is_in_force_stays_before_what_is_new() {
        let before = Image {
            identities: [PLACES[2]].into(),
            ..Image::default()
        };
        let mut target = image(&[]);
        fit(2, true, &before, &mut target);
        assert_eq!(target.identities, [PLACES[2], PLACES[3]].into());
        let mut target = image(&[]);
        fit(4, false, &before, &mut target);
        assert_eq!(target.identities, [PLACES[2]].into());
    }
}
