//! What the rules of all sets speak of, and how often, so that a change of one list does not ask the
//! others.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::index::TermIndex;
use super::rules::{Rule, names};
use super::term::{PortOfName, Term};

/// Statements about peers, and names of peers' ports.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    terms: RedBlackTreeMapSync<Arc<Term>, usize>,
    names: RedBlackTreeMapSync<PortOfName, usize>,
    /// Whether one came or went since the last look.
    is_news: bool,
}

impl InForce {
    /// Counts one list of rules in place of another.
    pub(super) fn replace(&mut self, before: &[Rule], after: &[Rule]) {
        // Of many policies' rules, those of one differ.
        let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
        let (before, after) = (&before[same..], &after[same..]);
        let pairs = before.iter().rev().zip(after.iter().rev());
        let same = pairs.take_while(|(a, b)| a == b).count();
        let (before, after) = (&before[..before.len() - same], &after[..after.len() - same]);
        for (rules, more) in [(after, true), (before, false)] {
            let peers = rules.iter().filter_map(|rule| rule.peers.as_ref());
            for term in peers.flatten() {
                self.is_news |= count(&mut self.terms, term, more);
            }
            for rule in rules {
                for name in names([rule]) {
                    self.is_news |= count(&mut self.names, &name, more);
                }
            }
        }
    }

    /// All of it, where it is not what `known` has.
    pub(super) fn take_news(
        &mut self,
        known: &TermIndex,
    ) -> Option<(BTreeSet<Arc<Term>>, BTreeSet<PortOfName>)> {
        if !std::mem::take(&mut self.is_news) {
            return None;
        }
        let terms = self.terms.keys().cloned().collect();
        let names = self.names.keys().cloned().collect();
        (!known.is_of(&terms, &names)).then_some((terms, names))
    }
}

/// Counts one more, or one fewer; answers whether it came or went.
fn count<K: Ord + Clone>(counts: &mut RedBlackTreeMapSync<K, usize>, key: &K, more: bool) -> bool {
    let before = counts.get(key).copied().unwrap_or(0);
    let after = if more {
        before + 1
    } else {
        before.saturating_sub(1)
    };
    if after == 0 {
        counts.remove_mut(key);
    } else {
        counts.insert_mut(key.clone(), after);
    }
    (before == 0) != (after == 0)
}
