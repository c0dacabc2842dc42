//! What differed in the last generations, so that an applier which skipped some need not compare
//! everything.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::unit::LbServiceKey;

/// Generations whose changes are remembered: an applier that skipped more compares everything.
const REMEMBERED: usize = 64;

/// Which units differ between two generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Keys(BTreeSet<LbServiceKey>),
    /// It is not known any more: compare all.
    All,
}

/// The units that differed in each of the last generations, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    recent: VecDeque<(u64, Arc<BTreeSet<LbServiceKey>>)>,
}

impl History {
    /// Remembers what differs in `generation`, the one after the last.
    pub(super) fn remember(&mut self, generation: u64, differing: BTreeSet<LbServiceKey>) {
        self.recent.push_back((generation, Arc::new(differing)));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// What differs between `generation` and `current`, which was remembered last.
    pub(super) fn since(&self, generation: u64, current: u64) -> Changed {
        let remembered = self
            .recent
            .front()
            .is_some_and(|(oldest, _)| *oldest <= generation.saturating_add(1));
        if generation == current {
            return Changed::Keys(BTreeSet::new());
        }
        if !remembered || generation > current {
            return Changed::All;
        }
        let since = self.recent.iter().filter(|(at, _)| *at > generation);
        Changed::Keys(since.flat_map(|(_, keys)| keys.iter().cloned()).collect())
    }
}
