//! The tables of egress; the only writers of them.

use std::path::Path;

use agent_abi::egress::{EGRESS_MAP, EGRESS_POD, EgressAddressV1, EgressSourceV1};

use super::image::Entries;
use crate::applier::Usage;
use crate::divergence::{self, Divergences};
use crate::sys::map::{Owned, TableError, Trie};

/// `EGRESS_SOURCES_V1`: under which addresses connections leave, by the index of the interface.
pub type SourceMap = Owned<u32, EgressSourceV1>;

/// `EGRESS_V1` and what is known of it.
#[derive(Debug)]
pub struct EgressMap {
    trie: Trie<EgressAddressV1>,
    known: Option<Entries>,
}

impl EgressMap {
    /// The map pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        let trie = Trie::open(pins, EGRESS_MAP)?;
        Ok(Self { trie, known: None })
    }

    /// Forgets what is known, so that the next [`EgressMap::follow`] reads the map.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Makes it hold `wanted`; the answer is the number of writes. What adds comes first, and whose
    /// packets are looked at comes last and goes first: a connection that begins meanwhile keeps the
    /// pod's address rather than lose it.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the map back.
    pub fn follow(&mut self, wanted: Entries) -> Result<u64, TableError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.trie.entries()?.into_iter().collect(),
        };
        let mut writes = 0;
        let is_of_pods = |bits: u32| bits & EGRESS_POD != 0;
        let mut fresh: Vec<_> = wanted
            .iter()
            .filter(|(key, bits)| known.get(key) != Some(bits))
            .collect();
        fresh.sort_by_key(|(_, bits)| is_of_pods(**bits));
        let mut gone: Vec<_> = known
            .iter()
            .filter(|(key, _)| !wanted.contains_key(key))
            .collect();
        gone.sort_by_key(|(_, bits)| !is_of_pods(**bits));
        for ((length, key), bits) in fresh {
            self.trie.put(*length, *key, *bits)?;
            writes += 1;
        }
        for ((length, key), _) in gone {
            self.trie.delete(*length, *key)?;
            writes += 1;
        }
        self.known = Some(wanted);
        Ok(writes)
    }

    /// Compares all of it with what was written, and mends what differs.
    ///
    /// # Errors
    /// Where the kernel refuses; the next [`EgressMap::follow`] reads the map back.
    pub fn audit(&mut self, found: &mut Divergences) -> Result<(), TableError> {
        let Some(wanted) = self.known.take() else {
            return Ok(());
        };
        let there: Entries = self.trie.entries()?.into_iter().collect();
        divergence::compare(EGRESS_MAP, &wanted, &there, found);
        self.known = Some(there);
        self.follow(wanted).map(|_writes| ())
    }

    /// How full it is.
    pub fn usage(&self) -> Option<Usage> {
        self.known.as_ref().map(|known| Usage {
            map: EGRESS_MAP,
            used: known.len() as u64,
            max: self.trie.max().into(),
        })
    }
}
