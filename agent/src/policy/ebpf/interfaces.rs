//! The table of who may send from behind an interface; the only writer of it.

use std::collections::BTreeMap;
use std::path::Path;

use agent_abi::policy::{INTERFACES_MAP, InterfaceAddressV1, SOURCE_STRANGE};

use crate::divergence::{self, Divergences};
use crate::sys::map::{TableError, Trie};

/// Contents: prefixes, and what goes for what is in them.
pub type Sources = BTreeMap<(u32, InterfaceAddressV1), u32>;

/// `POLICY_INTERFACES` and what is known of it.
#[derive(Debug)]
pub struct Interfaces {
    trie: Trie<InterfaceAddressV1>,
    known: Option<Sources>,
}

impl Interfaces {
    /// The map pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        let trie = Trie::open(pins, INTERFACES_MAP)?;
        Ok(Self { trie, known: None })
    }

    /// Makes it hold `wanted`. What is said of everybody comes after what is said of single
    /// addresses, and goes before it, so nobody's own packets are dropped meanwhile.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the table back.
    pub fn follow(&mut self, wanted: Sources) -> Result<(), TableError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.trie.entries()?.into_iter().collect(),
        };
        let is_strange = |value: u32| value == SOURCE_STRANGE;
        let mut gone: Vec<_> = known
            .iter()
            .filter(|(key, _)| !wanted.contains_key(key))
            .collect();
        gone.sort_by_key(|(_, value)| !is_strange(**value));
        let fresh = wanted
            .iter()
            .filter(|(key, value)| known.get(key) != Some(value));
        let (strange, own): (Vec<_>, Vec<_>) = fresh.partition(|(_, value)| is_strange(**value));
        for ((bits, key), value) in own {
            self.trie.put(*bits, *key, *value)?;
        }
        for ((bits, key), _) in gone {
            self.trie.delete(*bits, *key)?;
        }
        for ((bits, key), value) in strange {
            self.trie.put(*bits, *key, *value)?;
        }
        self.known = Some(wanted);
        Ok(())
    }
    /// Reads it back, and counts what is not as it was written; the next [`Self::follow`] mends it.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the table back.
    pub fn audit(&mut self, found: &mut Divergences) -> Result<(), TableError> {
        let Some(written) = self.known.take() else {
            return Ok(());
        };
        let there = self.trie.entries()?.into_iter().collect();
        divergence::compare(INTERFACES_MAP, &written, &there, found);
        self.known = Some(there);
        Ok(())
    }
}
