//! Pinned longest-prefix tries.

use std::fmt;
use std::path::Path;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, MapError};

use super::{Raw, TableError, is};

/// A pinned longest-prefix trie. A key is its bits that count, and its data.
pub struct Trie<K: bytemuck::Pod, V: bytemuck::Pod = u32> {
    map: LpmTrie<MapData, Raw<K>, Raw<V>>,
    name: &'static str,
    max: u32,
}

/// A key, with the number of its bits that count, and its value.
pub type TrieEntry<K, V> = ((u32, K), V);

impl<K: bytemuck::Pod, V: bytemuck::Pod> fmt::Debug for Trie<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie")
            .field("name", &self.name)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl<K: bytemuck::Pod, V: bytemuck::Pod> Trie<K, V> {
    /// Opens the trie `name` pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where it is not there, or has another layout.
    pub fn open(pins: &Path, name: &'static str) -> Result<Self, TableError> {
        let failed = |source| TableError::Kernel {
            map: name,
            operation: "open",
            source,
        };
        let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
        let max = data.info().map_err(failed)?.max_entries();
        let map = LpmTrie::try_from(Map::LpmTrie(data)).map_err(failed)?;
        Ok(Self { map, name, max })
    }

    /// Most entries it can hold.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Entries in use, and most it can hold.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn usage(&self) -> Result<(u32, u32), TableError> {
        let used = self.keys()?.len();
        Ok((u32::try_from(used).unwrap_or(self.max), self.max))
    }

    /// Whether a key is there whose bits that count begin the first `bits` of `key`.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn matches(&self, bits: u32, key: K) -> Result<bool, TableError> {
        Ok(self.get(bits, key)?.is_some())
    }

    /// The value under the longest key whose bits that count begin the first `bits` of `key`.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn get(&self, bits: u32, key: K) -> Result<Option<V>, TableError> {
        match self.map.get(&Key::new(bits, Raw(key)), 0) {
            Ok(Raw(value)) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(self.failed("read", source)),
        }
    }

    /// Every key, with the number of its bits that count.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn keys(&self) -> Result<Vec<(u32, K)>, TableError> {
        let read = |key: Result<Key<Raw<K>>, MapError>| {
            let key = key.map_err(|source| self.failed("read", source))?;
            let Raw(data) = key.data();
            Ok((key.prefix_len(), data))
        };
        self.map.keys().map(read).collect()
    }

    /// Every key and its value.
    ///
    /// # Errors
    /// Where the kernel refuses; an entry deleted while reading is left out.
    pub fn entries(&self) -> Result<Vec<TrieEntry<K, V>>, TableError> {
        let read = |entry: Result<(Key<Raw<K>>, Raw<V>), MapError>| {
            let (key, Raw(value)) = entry.map_err(|source| self.failed("read", source))?;
            let Raw(data) = key.data();
            Ok(((key.prefix_len(), data), value))
        };
        self.map.iter().map(read).collect()
    }

    /// Writes an entry under a key of which `bits` count.
    ///
    /// # Errors
    /// [`TableError::Full`] where there is no room.
    pub fn put(&mut self, bits: u32, key: K, value: V) -> Result<(), TableError> {
        let inserted = self.map.insert(&Key::new(bits, Raw(key)), Raw(value), 0);
        inserted.map_err(|source| {
            if is(&source, rustix::io::Errno::NOSPC) {
                return TableError::Full {
                    map: self.name,
                    max: self.max,
                };
            }
            self.failed("write", source)
        })
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn delete(&mut self, bits: u32, key: K) -> Result<(), TableError> {
        match self.map.remove(&Key::new(bits, Raw(key))) {
            Err(source)
                if !is(&source, rustix::io::Errno::NOENT)
                    && !matches!(source, MapError::KeyNotFound) =>
            {
                Err(self.failed("delete", source))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, operation: &'static str, source: MapError) -> TableError {
        TableError::Kernel {
            map: self.name,
            operation,
            source,
        }
    }
}
