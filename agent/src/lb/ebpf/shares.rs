//! Who has to wait where not all that comes at once fits a table.
//!
//! Who has least comes first: a unit gets room from the namespace that holds most of the table, as long as that
//! one holds more than the unit's own namespace will. What has to go is the largest unit of who takes most, of those
//! that come in the same apply. The rule is strict, so that what went does not come back by it, to make others go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::known::Known;
use crate::desired::LbServiceKey;

type Namespace = Arc<str>;

/// Entries of one map, by namespace and unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    counts: BTreeMap<LbServiceKey, usize>,
    namespaces: BTreeMap<Namespace, Share>,
}

/// Entries of a namespace.
#[derive(Clone, Debug, Default)]
struct Share {
    total: usize,
    /// Those that may go, the largest last.
    units: BTreeSet<(usize, LbServiceKey)>,
}

impl Shares {
    /// Of the map at an index of `fullness::MAPS`.
    pub(super) fn of(map: usize, known: &Known, fresh: &BTreeSet<LbServiceKey>) -> Self {
        let mut shares = Self::default();
        for key in known.ids.keys() {
            shares.set(key, known.entries_of(key)[map], fresh.contains(key));
        }
        shares
    }

    /// Notes how many entries a unit has now, and whether it may go.
    pub(super) fn set(&mut self, key: &LbServiceKey, count: usize, may_go: bool) {
        let namespace = Arc::clone(&key.owner.key().namespace);
        let share = self.namespaces.entry(namespace).or_default();
        if let Some(before) = self.counts.insert(key.clone(), count) {
            share.total -= before;
            share.units.remove(&(before, key.clone()));
        }
        share.total += count;
        if may_go && count > 0 {
            share.units.insert((count, key.clone()));
        }
    }

    /// The units that should go for `needed` more entries of `asker`; none where that is not for others to bear.
    pub(super) fn who_makes_room(&self, asker: &LbServiceKey, needed: usize) -> Vec<LbServiceKey> {
        let own = &asker.owner.key().namespace;
        let has = self.namespaces.get(own).map_or(0, |share| share.total);
        let after = has + needed;
        let others = self.namespaces.iter();
        let mut others: Vec<_> = others
            .filter(|(namespace, share)| *namespace != own && share.total > after)
            .map(|(_, share)| (share.total, share.units.iter().rev()))
            .collect();
        let (mut freed, mut goers) = (0, Vec::new());
        while freed < needed {
            let most = others.iter_mut().max_by_key(|(total, _)| *total);
            let Some((total, units)) = most.filter(|(total, _)| *total > after) else {
                return Vec::new();
            };
            let Some((count, key)) = units.next() else {
                // The rest of it is in force.
                *total = 0;
                continue;
            };
            *total -= count;
            freed += count;
            goers.push(key.clone());
        }
        goers
    }
}

#[cfg(test)]
mod tests {
    use model::{IpFamily, ObjectKey, PortName, Protocol};
    use proptest::prelude::*;

    use super::*;
    use crate::desired::Owner;

    fn key(namespace: &str, name: &str) -> LbServiceKey {
        LbServiceKey {
            owner: Owner::Service(ObjectKey::new(namespace, name)),
            port: PortName::default(),
            protocol: Protocol::Tcp,
            family: IpFamily::V4,
        }
    }

    fn shares(held: &[(&str, &str, usize)]) -> Shares {
        let mut shares = Shares::default();
        for (namespace, name, count) in held {
            shares.set(&key(namespace, name), *count, true);
        }
        shares
    }

    #[test]
    fn the_largest_of_who_has_most_goes() {
        let shares = shares(&[
            ("greedy", "small", 10),
            ("greedy", "huge", 900),
            ("other", "a", 80),
        ]);
        let goers = shares.who_makes_room(&key("shop", "web"), 3);
        assert_eq!(goers, [key("greedy", "huge")]);
    }

    #[test]
    fn nobody_goes_for_who_would_have_as_much() {
        let shares = shares(&[("a", "x", 10), ("b", "y", 4)]);
        let nobody: [LbServiceKey; 0] = [];
        assert_eq!(shares.who_makes_room(&key("a", "z"), 1), nobody);
        assert_eq!(shares.who_makes_room(&key("b", "z"), 6), nobody);
        assert_eq!(shares.who_makes_room(&key("b", "z"), 5), [key("a", "x")]);
        assert_eq!(shares.who_makes_room(&key("c", "z"), 12), nobody);
    }

    #[test]
    fn what_is_in_force_stays() {
        let mut shares = shares(&[("a", "new", 3), ("b", "new", 4)]);
        shares.set(&key("a", "old"), 90, false);
        assert_eq!(shares.who_makes_room(&key("c", "z"), 3), [key("a", "new")]);
        assert_eq!(shares.who_makes_room(&key("c", "z"), 4).len(), 0);
    }

    #[test]
    fn a_unit_that_shrank_counts_as_what_it_is() {
        let mut shares = shares(&[("a", "x", 10), ("b", "y", 9)]);
        shares.set(&key("a", "x"), 0, true);
        assert_eq!(shares.who_makes_room(&key("c", "z"), 1), [key("b", "y")]);
    }

    proptest! {
        /// Whoever went and asks again gets nobody out, so applies do not turn in circles.
        #[test]
        fn what_went_does_not_come_back_by_it(
            held in prop::collection::vec((0..4_u8, 0..6_u8, 1..50_usize), 1..20),
            asker in 0..5_u8,
            needed in 1..60_usize,
        ) {
            let mut shares = Shares::default();
            for (namespace, name, count) in held {
                shares.set(&key(&namespace.to_string(), &name.to_string()), count, true);
            }
            let asker = key(&asker.to_string(), "new");
            let goers = shares.who_makes_room(&asker, needed);
            let counts: Vec<usize> = goers.iter().map(|goer| shares.counts[goer]).collect();
            for goer in &goers {
                shares.set(goer, 0, true);
            }
            if !goers.is_empty() {
                shares.set(&asker, needed, true);
            }
            for (goer, count) in goers.iter().zip(counts) {
                prop_assert_ne!(&goer.owner.key().namespace, &asker.owner.key().namespace);
                let again = shares.who_makes_room(goer, count);
                prop_assert!(!again.contains(&asker), "{goer} gets {asker} out");
            }
        }
    }
}
