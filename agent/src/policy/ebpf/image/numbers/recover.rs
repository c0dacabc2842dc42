//! Numbers of an earlier process, found again in what it wrote.
//!
//! The maps name no classes and no rules. Which number stood for a class is seen from the prefixes
//! that have it, and for a set from the pods that it goes for. A set keeps its number only where
//! every entry is what it would be now, so nothing in force comes to mean something else; all else
//! gets new numbers, and `plan` goes from the old ones to those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_abi::policy::{FIRST_IDENTITY, IDENTITY_ANYBODY, NO_RULE, NO_SET, VerdictV1};
use ipnet::IpNet;
use rpds::HashTrieMapSync;

use super::super::{Image, VerdictPrefix, lower};
use super::Numbers;
use crate::desired::policy::{Class, Entry, Identity, PolicySet, PolicyTables, Reason, SetKey};

impl Numbers {
    /// The numbers that `image` has for what `tables` say. `free` are the next ones.
    pub fn recover(image: &Image, free: [u32; 3], tables: &PolicyTables) -> Self {
        let mut numbers = Self::default();
        let used = [
            image.identities.values().copied().max(),
            image.verdicts.keys().map(|(key, _)| key.set).max(),
            image.verdicts.values().map(|verdict| verdict.rule).max(),
        ];
        for ((next, free), used) in numbers.free.iter_mut().zip(free).zip(used) {
            *next = (*next)
                .max(free)
                .max(used.map_or(0, |used| used.saturating_add(1)));
        }
        numbers.classes = classes(image, tables);
        for (key, number) in sets(image, tables) {
            let Some(set) = tables.sets().get(&key) else {
                continue;
            };
            if let Some(rules) = numbers.rules_of(image, number, set) {
                for (reason, number) in rules {
                    numbers.name(reason, number);
                }
                numbers
                    .sets
                    .insert_mut(key, (number, Arc::clone(&set.rules)));
            }
        }
        numbers
    }

    /// The numbers of the rules of a set that is in `image` as it should be.
    fn rules_of(
        &self,
        image: &Image,
        number: u32,
        set: &PolicySet,
    ) -> Option<BTreeMap<Reason, u32>> {
        let mut rules = BTreeMap::new();
        let mut expected = 0;
        let of_classes = set.classes.iter().map(|(class, entries)| {
            let identity = self.class(class);
            (identity != IDENTITY_ANYBODY).then_some((identity, entries))
        });
        for of_class in of_classes.chain([Some((IDENTITY_ANYBODY, &set.anybody))]) {
            let (identity, entries) = of_class?;
            for entry in entries.iter() {
                expected += 1;
                let rule = self.rule_in(image, number, identity, entry)?;
                let reason = &entry.verdict.by;
                let known = rules.get(reason).or_else(|| self.rules.get(reason));
                if known.is_some_and(|known| *known != rule) {
                    return None;
                }
                if rule != NO_RULE {
                    rules.insert(reason.clone(), rule);
                }
            }
        }
        let distinct: BTreeSet<u32> = rules.values().copied().collect();
        let others = self.rules.iter();
        let clashes = others
            .filter(|(reason, _)| !rules.contains_key(reason))
            .any(|(_, rule)| distinct.contains(rule));
        let there = lower::of_set(&image.verdicts, number).count();
        (there == expected && distinct.len() == rules.len() && !clashes).then_some(rules)
    }

    /// The rule that `image` has for an entry, where it says the same.
    fn rule_in(&self, image: &Image, set: u32, identity: u32, entry: &Entry) -> Option<u32> {
        let (key, wanted): (VerdictPrefix, VerdictV1) = lower::verdict(self, set, identity, entry);
        let found = image.verdicts.get(&key)?;
        let has_rule = found.rule != NO_RULE;
        let should_have = entry.verdict.by != Reason::NoPolicy;
        (found.outcome == wanted.outcome && has_rule == should_have).then_some(found.rule)
    }
}

/// Classes whose prefixes agree on a number that no other class has.
fn classes(image: &Image, tables: &PolicyTables) -> HashTrieMapSync<Arc<Class>, u32> {
    let mut found: BTreeMap<&Arc<Class>, BTreeSet<u32>> = BTreeMap::new();
    let mut holders: BTreeMap<u32, BTreeSet<Option<&Arc<Class>>>> = BTreeMap::new();
    for (network, identity) in tables.identities() {
        let Some(number) = image.identities.get(&lower::prefix(network)) else {
            continue;
        };
        let class = match identity {
            Identity::Class(class) if !class.is_anybody() => Some(class),
            Identity::Class(_) | Identity::Host => None,
        };
        holders.entry(*number).or_default().insert(class);
        if let Some(class) = class {
            found.entry(class).or_default().insert(*number);
        }
    }
    let agreed = found.into_iter().filter_map(|(class, numbers)| {
        let number = *numbers.first()?;
        let alone = holders
            .get(&number)
            .is_some_and(|classes| classes.len() == 1);
        let is_class = numbers.len() == 1 && number >= FIRST_IDENTITY;
        (is_class && alone).then(|| (Arc::clone(class), number))
    });
    agreed.collect()
}

/// Sets whose pods agree on a number that no other set has.
fn sets(image: &Image, tables: &PolicyTables) -> BTreeMap<SetKey, u32> {
    let mut found: BTreeMap<&SetKey, BTreeSet<u32>> = BTreeMap::new();
    let mut holders: BTreeMap<u32, BTreeSet<&SetKey>> = BTreeMap::new();
    for (address, pod) in tables.endpoints() {
        let prefix = lower::prefix(&IpNet::from(*address));
        let Some(endpoint) = image.endpoints.get(&prefix) else {
            continue;
        };
        let both = [
            (&pod.ingress, endpoint.ingress),
            (&pod.egress, endpoint.egress),
        ];
        for (key, number) in both {
            if let Some(key) = key.as_ref().filter(|_| number != NO_SET) {
                found.entry(key).or_default().insert(number);
                holders.entry(number).or_default().insert(key);
            }
        }
    }
    let agreed = found.into_iter().filter_map(|(key, numbers)| {
        let number = *numbers.first()?;
        let alone = holders.get(&number).is_some_and(|keys| keys.len() == 1);
        (numbers.len() == 1 && alone).then(|| (key.clone(), number))
    });
    agreed.collect()
}
