//! Which number stands for what in the maps. Numbers are never used twice.

mod recover;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use agent_abi::policy::{FIRST_IDENTITY, IDENTITY_ANYBODY, NO_RULE, NO_SET};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::desired::policy::{
    Class, Difference, Entries, Identity, PolicySet, PolicyTables, Reason, Rule, SetKey,
};

/// What decides, by the number of a rule.
pub type RuleNames = RedBlackTreeMapSync<u32, Reason>;

/// Rules that are known by their numbers before those are forgotten that are in no table any more.
const REMEMBERED_RULES: usize = 65_536;

/// Numbers of classes, sets and rules. They are the node's own: a class has other numbers on other
/// nodes and at other times. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    classes: HashTrieMapSync<Arc<Class>, u32>,
    sets: HashTrieMapSync<SetKey, (u32, Arc<[Rule]>)>,
    rules: HashTrieMapSync<Reason, u32>,
    /// The same the other way round.
    names: RuleNames,
    /// As many rules are remembered before they are looked through.
    remembered: usize,
    /// The next free ones.
    free: [u32; 3],
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            classes: HashTrieMapSync::new_sync(),
            sets: HashTrieMapSync::new_sync(),
            rules: HashTrieMapSync::new_sync(),
            names: RuleNames::new_sync(),
            remembered: REMEMBERED_RULES,
            free: [FIRST_IDENTITY, NO_SET + 1, NO_RULE + 1],
        }
    }
}

impl Numbers {
    /// The next free numbers of identities, sets and rules.
    pub fn free(&self) -> [u32; 3] {
        self.free
    }

    /// What decides by the number of a rule, for reports. Cloning is cheap.
    pub fn names(&self) -> &RuleNames {
        &self.names
    }

    fn name(&mut self, reason: Reason, number: u32) {
        self.names.insert_mut(number, reason.clone());
        self.rules.insert_mut(reason, number);
    }

    /// Gives numbers to what has none. A set whose rules differ gets another one.
    pub(super) fn give(&mut self, tables: &PolicyTables) {
        let classes = tables
            .identities()
            .values()
            .filter_map(|identity| match identity {
                Identity::Class(class) if !class.is_anybody() => Some(class),
                Identity::Class(_) | Identity::Host => None,
            });
        self.give_classes(&classes.collect());
        // In order, so that equal tables get equal numbers on the first start.
        let mut sets: Vec<_> = tables.sets().iter().collect();
        sets.sort_unstable_by_key(|(key, _)| *key);
        for (key, set) in sets {
            self.give_set(key, set);
            self.give_rules(set.classes.values().chain([&set.anybody]));
        }
    }

    /// The same, where all but `difference` have theirs.
    pub(super) fn give_new(&mut self, tables: &PolicyTables, difference: &Difference) {
        let classes = difference.classes.iter();
        let there = classes.filter(|class| tables.has_class(class));
        self.give_classes(&there.collect());
        let whole = difference.sets.iter();
        let keys: BTreeSet<&SetKey> = whole.chain(difference.of_classes.keys()).collect();
        for key in keys {
            let Some(set) = tables.sets().get(key) else {
                continue;
            };
            if difference.sets.contains(key) {
                self.give_set(key, set);
                self.give_rules(set.classes.values().chain([&set.anybody]));
            } else if let Some(classes) = difference.of_classes.get(key) {
                self.give_rules(classes.iter().filter_map(|class| set.classes.get(class)));
            }
        }
    }

    fn give_classes(&mut self, classes: &BTreeSet<&Arc<Class>>) {
        for class in classes {
            if !self.classes.contains_key(*class) {
                let number = self.identity();
                self.classes.insert_mut(Arc::clone(class), number);
            }
        }
    }

    fn give_set(&mut self, key: &SetKey, set: &PolicySet) {
        let known = self.sets.get(key);
        if known.is_none_or(|(_, rules)| *rules != set.rules) {
            let number = take(&mut self.free[1]);
            let rules = Arc::clone(&set.rules);
            self.sets.insert_mut(key.clone(), (number, rules));
        }
    }

    fn give_rules<'a, Of: Iterator<Item = &'a Entries>>(&mut self, entries: Of) {
        let reasons = entries.flat_map(|entries| entries.iter().map(|entry| &entry.verdict.by));
        let reasons: BTreeSet<&Reason> = reasons.collect();
        for reason in reasons
            .into_iter()
            .filter(|reason| **reason != Reason::NoPolicy)
        {
            if !self.rules.contains_key(reason) {
                let number = take(&mut self.free[2]);
                self.name(reason.clone(), number);
            }
        }
    }

    /// Gives other numbers to sets; answers which sets they are.
    pub(super) fn give_sets_anew(&mut self, sets: &BTreeSet<u32>) -> BTreeSet<SetKey> {
        let renumbered = self
            .sets
            .iter()
            .filter(|(_, (number, _))| sets.contains(number));
        let renumbered: BTreeSet<SetKey> = renumbered.map(|(key, _)| key.clone()).collect();
        for key in &renumbered {
            if let Some((_, rules)) = self.sets.get(key) {
                let rules = Arc::clone(rules);
                let number = take(&mut self.free[1]);
                self.sets.insert_mut(key.clone(), (number, rules));
            }
        }
        renumbered
    }

    /// A number for an identity.
    pub(super) fn identity(&mut self) -> u32 {
        take(&mut self.free[0])
    }

    /// Forgets what is not in the tables. Rules are kept until there are many: reports of a moment ago
    /// name them.
    pub(super) fn forget(&mut self, tables: &PolicyTables) {
        let gone = self.classes.keys().filter(|class| !tables.has_class(class));
        for class in gone.cloned().collect::<Vec<_>>() {
            self.classes.remove_mut(&class);
        }
        let gone = self
            .sets
            .keys()
            .filter(|key| !tables.sets().contains_key(key));
        for key in gone.cloned().collect::<Vec<_>>() {
            self.sets.remove_mut(&key);
        }
        self.forget_rules(tables);
    }

    /// The same, where all but `difference` is there.
    pub(super) fn forget_old(&mut self, tables: &PolicyTables, difference: &Difference) {
        let classes = difference.classes.iter();
        for class in classes.filter(|class| !tables.has_class(class)) {
            self.classes.remove_mut(class);
        }
        let sets = difference.sets.iter();
        for key in sets.filter(|key| !tables.sets().contains_key(key)) {
            self.sets.remove_mut(key);
        }
        self.forget_rules(tables);
    }

    fn forget_rules(&mut self, tables: &PolicyTables) {
        if self.rules.size() <= self.remembered {
            return;
        }
        let sets = tables.sets().values();
        let entries = sets.flat_map(|set| set.classes.values().chain([&set.anybody]));
        let used: HashSet<&Reason> = entries
            .flat_map(|entries| entries.iter().map(|entry| &entry.verdict.by))
            .collect();
        let rules = self
            .rules
            .iter()
            .filter(|(reason, _)| used.contains(reason));
        let rules: Vec<_> = rules
            .map(|(reason, number)| (reason.clone(), *number))
            .collect();
        // All of them may be in use.
        self.remembered = REMEMBERED_RULES.max(2 * rules.len());
        self.rules = rules.iter().cloned().collect();
        let names = rules.into_iter().map(|(reason, number)| (number, reason));
        self.names = names.collect();
    }

    pub(super) fn class(&self, class: &Arc<Class>) -> u32 {
        self.classes.get(class).copied().unwrap_or(IDENTITY_ANYBODY)
    }

    pub fn set(&self, key: &SetKey) -> u32 {
        self.sets.get(key).map_or(NO_SET, |(number, _)| *number)
    }

    pub(super) fn rule(&self, reason: &Reason) -> u32 {
        self.rules.get(reason).copied().unwrap_or(NO_RULE)
    }
}

fn take(free: &mut u32) -> u32 {
    let number = *free;
    // A number a second lasts 136 years.
    *free = free.saturating_add(1);
    number
}
