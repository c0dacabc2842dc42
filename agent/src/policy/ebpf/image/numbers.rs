//! Which number stands for what in the maps. Numbers are never used twice.

mod recover;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use agent_abi::policy::{FIRST_IDENTITY, IDENTITY_ANYBODY, NO_RULE, NO_SET};

use rpds::RedBlackTreeMapSync;

use crate::desired::policy::{Class, Identity, PolicyTables, Reason, Rule, SetKey};

/// What decides, by the number of a rule.
pub type RuleNames = RedBlackTreeMapSync<u32, Reason>;

/// Rules that are known by their numbers before those are forgotten that are in no table any more.
const REMEMBERED_RULES: usize = 65_536;

/// Numbers of classes, sets and rules. They are the node's own: a class has other numbers on other
/// nodes and at other times.
#[derive(Clone, Debug)]
pub struct Numbers {
    classes: HashMap<Arc<Class>, u32>,
    sets: HashMap<SetKey, (u32, Arc<[Rule]>)>,
    rules: HashMap<Reason, u32>,
    /// The same the other way round.
    names: RuleNames,
    /// The next free ones.
    free: [u32; 3],
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            classes: HashMap::new(),
            sets: HashMap::new(),
            rules: HashMap::new(),
            names: RuleNames::new_sync(),
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
        self.rules.insert(reason, number);
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
        let classes: BTreeSet<&Arc<Class>> = classes.collect();
        for class in classes {
            if !self.classes.contains_key(class) {
                let number = self.identity();
                self.classes.insert(Arc::clone(class), number);
            }
        }
        // In order, so that equal tables get equal numbers on the first start.
        let mut sets: Vec<_> = tables.sets().iter().collect();
        sets.sort_unstable_by_key(|(key, _)| *key);
        for (key, set) in sets {
            let known = self.sets.get(key);
            if known.is_none_or(|(_, rules)| *rules != set.rules) {
                let number = take(&mut self.free[1]);
                self.sets
                    .insert(key.clone(), (number, Arc::clone(&set.rules)));
            }
            let entries = set.classes.values().chain([&set.anybody]);
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
    }

    /// Gives other numbers to sets.
    pub(super) fn give_sets_anew(&mut self, sets: &BTreeSet<u32>) {
        let mut renumbered: Vec<_> = self
            .sets
            .iter_mut()
            .filter(|(_, (number, _))| sets.contains(number))
            .collect();
        renumbered.sort_unstable_by_key(|(key, _)| *key);
        for (_, (number, _)) in renumbered {
            *number = take(&mut self.free[1]);
        }
    }

    /// A number for an identity.
    pub(super) fn identity(&mut self) -> u32 {
        take(&mut self.free[0])
    }

    /// Forgets what is not in the tables. Rules are kept until there are many: reports of a moment ago
    /// name them.
    pub(super) fn forget(&mut self, tables: &PolicyTables) {
        let used = tables
            .identities()
            .values()
            .filter_map(|identity| match identity {
                Identity::Class(class) => Some(class),
                Identity::Host => None,
            });
        let used: HashSet<&Arc<Class>> = used.collect();
        self.classes.retain(|class, _| used.contains(class));
        self.sets.retain(|key, _| tables.sets().contains_key(key));
        if self.rules.len() > REMEMBERED_RULES {
            self.forget_rules(tables);
        }
    }

    fn forget_rules(&mut self, tables: &PolicyTables) {
        let sets = tables.sets().values();
        let entries = sets.flat_map(|set| set.classes.values().chain([&set.anybody]));
        let used: HashSet<&Reason> = entries
            .flat_map(|entries| entries.iter().map(|entry| &entry.verdict.by))
            .collect();
        self.rules.retain(|reason, _| used.contains(reason));
        let rules = self.rules.iter();
        self.names = rules
            .map(|(reason, number)| (*number, reason.clone()))
            .collect();
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
