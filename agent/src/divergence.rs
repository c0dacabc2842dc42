//! What somebody else changed in the agent's tables.

use std::collections::BTreeMap;

/// What was found wrong, by map and by what was wrong.
pub type Divergences = BTreeMap<(&'static str, Divergence), u64>;

/// What was wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Divergence {
    /// It was not there.
    Missing,
    /// It had another value.
    Different,
    /// It should not have been there.
    Extra,
}

impl Divergence {
    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Extra => "extra",
        }
    }
}

/// Counts in `found` what of a map is not as it was written.
pub fn compare<K: Ord, V: PartialEq>(
    map: &'static str,
    written: &BTreeMap<K, V>,
    there: &BTreeMap<K, V>,
    found: &mut Divergences,
) {
    let wrong = written
        .iter()
        .filter_map(|(key, value)| match there.get(key) {
            None => Some(Divergence::Missing),
            Some(there) if there != value => Some(Divergence::Different),
            Some(_) => None,
        });
    let extra = there.keys().filter(|key| !written.contains_key(key));
    for wrong in wrong.chain(extra.map(|_| Divergence::Extra)) {
        *found.entry((map, wrong)).or_default() += 1;
    }
}

/// Adds what an audit found and mended, and logs it.
pub fn add(all: &mut Divergences, found: Divergences) {
    for ((map, divergence), count) in found {
        let kind = divergence.as_str();
        tracing::warn!(map, kind, count, "somebody else changed the tables; mended");
        *all.entry((map, divergence)).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::{Divergence, Divergences, compare};

    #[test]
    fn each_entry_is_wrong_in_one_way() {
        let written = [(1, 'a'), (2, 'b'), (3, 'c')].into();
        let there = [(1, 'a'), (2, 'x'), (4, 'd')].into();
        let mut found = Divergences::new();
        compare("M", &written, &there, &mut found);
        let expected = [
            Divergence::Missing,
            Divergence::Different,
            Divergence::Extra,
        ];
        assert_eq!(found, expected.map(|wrong| (("M", wrong), 1)).into());
    }
}
