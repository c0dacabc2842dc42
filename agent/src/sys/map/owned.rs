//! A hash that this process alone writes.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Table, TableError};
use crate::divergence::{self, Divergences};

/// A pinned hash and what is known of it.
#[derive(Debug)]
pub struct Owned<K, V> {
    name: &'static str,
    table: Table<K, V>,
    known: Option<BTreeMap<K, V>>,
}

impl<K: bytemuck::Pod + Ord, V: bytemuck::Pod + PartialEq> Owned<K, V> {
    /// The map pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: &Path, name: &'static str) -> Result<Self, TableError> {
        let table = Table::open(pins, name)?;
        Ok(Self {
            name,
            table,
            known: None,
        })
    }

    /// Makes it hold `wanted`. What is no longer so goes first: an interface's index may be another's.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the map back.
    pub fn follow(&mut self, wanted: BTreeMap<K, V>) -> Result<(), TableError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.table.entries()?.into_iter().collect(),
        };
        for key in known.keys().filter(|key| !wanted.contains_key(key)) {
            self.table.delete(*key)?;
        }
        for (key, value) in &wanted {
            if known.get(key) != Some(value) {
                self.table.put(*key, *value)?;
            }
        }
        self.known = Some(wanted);
        Ok(())
    }
    /// Reads it back, and counts what is not as it was written; the next [`Self::follow`] mends it.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the map back.
    pub fn audit(&mut self, found: &mut Divergences) -> Result<(), TableError> {
        let Some(written) = self.known.take() else {
            return Ok(());
        };
        let there = self.table.entries()?.into_iter().collect();
        divergence::compare(self.name, &written, &there, found);
        self.known = Some(there);
        Ok(())
    }
}
