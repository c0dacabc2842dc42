//! Of what tables that follow one another say something else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::rules::SetKey;
use super::term::Class;

/// Revisions whose differences are remembered: who skipped more compares everything.
const REMEMBERED: usize = 64;

/// Things that a difference names before it is no shorter than the tables.
const LONGEST: usize = 4096;

/// What may differ. All else is the same.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Prefixes whose identity may differ.
    pub networks: BTreeSet<IpNet>,
    /// Classes that may have come or gone.
    pub classes: BTreeSet<Arc<Class>>,
    /// Addresses of endpoints.
    pub endpoints: BTreeSet<IpAddr>,
    /// Sets whose rules may differ.
    pub sets: BTreeSet<SetKey>,
    /// What a set says of some classes.
    pub of_classes: BTreeMap<SetKey, BTreeSet<Arc<Class>>>,
}

impl Difference {
    pub(super) fn of_class(&mut self, set: &SetKey, class: &Arc<Class>) {
        match self.of_classes.get_mut(set) {
            Some(classes) => drop(classes.insert(Arc::clone(class))),
            None => {
                let classes = [Arc::clone(class)].into();
                self.of_classes.insert(set.clone(), classes);
            }
        }
    }

    fn size(&self) -> usize {
        let of_classes = self.of_classes.values().map(BTreeSet::len);
        self.networks.len()
            + self.classes.len()
            + self.endpoints.len()
            + self.sets.len()
            + of_classes.sum::<usize>()
    }

    fn add(&mut self, other: &Self) {
        self.networks.extend(&other.networks);
        self.classes.extend(other.classes.iter().cloned());
        self.endpoints.extend(&other.endpoints);
        self.sets.extend(other.sets.iter().cloned());
        for (set, classes) in &other.of_classes {
            let known = self.of_classes.entry(set.clone()).or_default();
            known.extend(classes.iter().cloned());
        }
    }
}

/// The differences of the last revisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// The last one's comes last. Without one, anything may differ.
    differences: VecDeque<Option<Arc<Difference>>>,
}

impl Recent {
    /// Notes how one more revision differs from that before; `None` where anything may differ.
    pub(super) fn note(&mut self, difference: Option<Difference>) {
        let difference = difference.filter(|difference| difference.size() <= LONGEST);
        self.differences.push_back(difference.map(Arc::new));
        if self.differences.len() > REMEMBERED {
            self.differences.pop_front();
        }
    }

    /// How the last revision differs from one so many before.
    pub(super) fn since(&self, revisions: u64) -> Option<Difference> {
        let revisions = usize::try_from(revisions).ok()?;
        let first = self.differences.len().checked_sub(revisions)?;
        let mut all = Difference::default();
        for difference in self.differences.range(first..) {
            all.add(difference.as_deref()?);
        }
        Some(all)
    }
}
