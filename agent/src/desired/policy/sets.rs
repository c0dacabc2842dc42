//! One list of rules, and what it says to each class of peers.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{PortName, Protocol};
use rpds::HashTrieMapSync;

use super::difference::Difference;
use super::entries::{Concerning, Entries, Traffic, Verdict, entries, look_up};
use super::index::TermIndex;
use super::rules::{Rule, SetKey};
use super::term::{Class, PortOfName};

/// Verdicts for one direction of all pods to which the same rules go. Entries for a class are
/// complete: whoever finds the class need not look at those for anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    /// The rules, in the order in which they are asked.
    pub rules: Arc<[Rule]>,
    /// For every peer that no class with entries of its own has.
    pub anybody: Entries,
    /// For classes of which something else is said than of anybody.
    pub classes: HashTrieMapSync<Arc<Class>, Entries>,
}

impl PolicySet {
    /// What it says of a packet from or to one of a class.
    pub fn verdict(&self, class: &Arc<Class>, traffic: Traffic) -> Option<&Verdict> {
        look_up(self.classes.get(class).unwrap_or(&self.anybody), traffic)
    }

    /// Entries in all.
    pub fn size(&self) -> usize {
        self.anybody.len()
            + self
                .classes
                .values()
                .map(|entries| entries.len())
                .sum::<usize>()
    }
}

/// The lists of all sets, by what they say about peers.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: Vec<(SetKey, List)>,
    by_term: HashMap<u32, Vec<usize>>,
    by_name: HashMap<PortOfName, Vec<usize>>,
}

/// Rules by the peers they are about.
#[derive(Debug)]
struct List {
    rules: Arc<[Rule]>,
    everybody: Vec<usize>,
    by_term: HashMap<u32, Vec<usize>>,
    uses_names: bool,
    anybody: Option<Entries>,
    /// Entries by the rules that concern a peer, and its ports where names are used.
    made: HashMap<(Vec<usize>, Ports), Entries>,
}

type Ports = Vec<(PortName, Protocol, NonZeroU16)>;

/// The sets.
pub(super) type Known = HashTrieMapSync<SetKey, Arc<PolicySet>>;

impl Lists {
    pub(super) fn new<'a>(
        sets: impl Iterator<Item = (&'a SetKey, &'a Arc<[Rule]>)>,
        index: &TermIndex,
    ) -> Self {
        let mut all = Self::default();
        for (number, (key, rules)) in sets.enumerate() {
            let list = List::new(Arc::clone(rules), index);
            for term in list.by_term.keys() {
                all.by_term.entry(*term).or_default().push(number);
            }
            if list.uses_names {
                for name in super::rules::names(&**rules) {
                    all.by_name.entry(name).or_default().push(number);
                }
            }
            all.lists.push((key.clone(), list));
        }
        all
    }

    /// Makes the sets of `fresh` lists from all `classes`, with what they say to anybody.
    pub(super) fn make(&mut self, sets: &mut Known) {
        for (key, list) in &mut self.lists {
            let set = PolicySet {
                rules: Arc::clone(&list.rules),
                anybody: list.anybody(),
                classes: HashTrieMapSync::new_sync(),
            };
            sets.insert_mut(key.clone(), Arc::new(set));
        }
    }

    /// Adds what the sets say to some classes.
    pub(super) fn add<'a, Classes: IntoIterator<Item = &'a Arc<Class>>>(
        &mut self,
        sets: &mut Known,
        classes: Classes,
        index: &TermIndex,
        difference: &mut Difference,
    ) {
        let mut added: HashMap<usize, Vec<(Arc<Class>, Entries)>> = HashMap::new();
        for class in classes {
            let ids: Vec<u32> = class
                .terms
                .iter()
                .filter_map(|term| index.id(term))
                .collect();
            for number in self.concerned(&ids, class) {
                let Some((_, list)) = self.lists.get_mut(number) else {
                    continue;
                };
                let entries = list.entries(&ids, class);
                if *list.anybody() != *entries {
                    let of_set = added.entry(number).or_default();
                    of_set.push((Arc::clone(class), entries));
                }
            }
        }
        for (number, of_set) in added {
            let Some((key, _)) = self.lists.get(number) else {
                continue;
            };
            for (class, _) in &of_set {
                difference.of_class(key, class);
            }
            change(sets, key, |set| {
                for (class, entries) in of_set {
                    set.classes.insert_mut(class, entries);
                }
            });
        }
    }

    /// The lists that say anything about a class.
    fn concerned(&self, ids: &[u32], class: &Class) -> BTreeSet<usize> {
        let by_term = ids.iter().filter_map(|id| self.by_term.get(id));
        let names = class.ports.iter();
        let by_name = names.filter_map(|(name, of, _)| self.by_name.get(&(name.clone(), *of)));
        by_term.chain(by_name).flatten().copied().collect()
    }
}

/// Forgets classes that nobody is of any more.
pub(super) fn forget(sets: &mut Known, classes: &[Arc<Class>], difference: &mut Difference) {
    if classes.is_empty() {
        return;
    }
    let has_any = |set: &&PolicySet| classes.iter().any(|class| set.classes.contains_key(class));
    let concerned: Vec<SetKey> = sets
        .iter()
        .filter(|(_, set)| has_any(&&***set))
        .map(|(key, _)| key.clone())
        .collect();
    for key in concerned {
        change(sets, &key, |set| {
            for class in classes {
                if set.classes.remove_mut(class) {
                    difference.of_class(&key, class);
                }
            }
        });
    }
}

fn change(sets: &mut Known, key: &SetKey, change: impl FnOnce(&mut PolicySet)) {
    if let Some(known) = sets.get(key) {
        let mut set = PolicySet::clone(known);
        change(&mut set);
        sets.insert_mut(key.clone(), Arc::new(set));
    }
}

impl List {
    fn new(rules: Arc<[Rule]>, index: &TermIndex) -> Self {
        let mut everybody = Vec::new();
        let mut by_term: HashMap<u32, Vec<usize>> = HashMap::new();
        for (number, rule) in rules.iter().enumerate() {
            match &rule.peers {
                None => everybody.push(number),
                Some(terms) => {
                    for id in terms.iter().filter_map(|term| index.id(term)) {
                        by_term.entry(id).or_default().push(number);
                    }
                }
            }
        }
        Self {
            uses_names: !super::rules::names(&*rules).is_empty(),
            rules,
            everybody,
            by_term,
            anybody: None,
            made: HashMap::new(),
        }
    }

    /// What it says of who is in no class. Kept: each of many classes is compared with it, and to
    /// find it by the set's key takes as long as the key has policies.
    fn anybody(&mut self) -> Entries {
        let known = self.anybody.clone();
        let entries = known.unwrap_or_else(|| self.entries(&[], &Class::default()));
        Arc::clone(self.anybody.insert(entries))
    }

    fn entries(&mut self, ids: &[u32], class: &Class) -> Entries {
        let by_term = ids.iter().filter_map(|id| self.by_term.get(id)).flatten();
        let mut numbers: Vec<usize> = self.everybody.iter().chain(by_term).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let ports = if self.uses_names {
            class.ports.clone()
        } else {
            Vec::new()
        };
        let rules = &self.rules;
        let made = self.made.entry((numbers, ports));
        let made = made.or_insert_with_key(|(numbers, ports)| {
            let rules = numbers.iter().filter_map(|number| rules.get(*number));
            let concerning: Vec<Concerning<'_>> = rules
                .map(|rule| Concerning {
                    rule,
                    ports: rule.ports.as_ref().map(|of_rule| of_rule.resolved(ports)),
                })
                .collect();
            entries(&concerning)
        });
        Arc::clone(made)
    }
}
