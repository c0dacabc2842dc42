//! Typed access to the pinned maps.
//!
//! Keys and values are `agent_abi`'s; whoever reads or writes through here decides nothing.
#![expect(unsafe_code, reason = "aya's marker for plain data is an unsafe trait")]

pub mod foreign;
mod owned;
mod per_cpu;
mod ring;
mod trie;

use std::fmt;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::sys::SyscallError;

pub use owned::Owned;
pub use per_cpu::{per_cpu_delete, per_cpu_sums, per_cpu_sums_by_key};
pub use ring::{Awaited, Ring};
pub use trie::{Trie, TrieEntry};

/// A value that may be copied from and to the kernel byte by byte.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Raw<T>(T);

// SAFETY: `bytemuck::Pod` promises that every bit pattern is a value and that there is no padding;
// `repr(transparent)` keeps both.
unsafe impl<T: bytemuck::Pod> Pod for Raw<T> {}

/// Why a map could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Every entry is in use. What is there keeps working.
    #[error("{map}: all {max} entries are in use")]
    Full {
        /// Name of the map.
        map: &'static str,
        /// Its size.
        max: u32,
    },
    /// Anything else the kernel says.
    #[error("{map}: {operation}")]
    Kernel {
        /// Name of the map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
}

/// A pinned hash.
pub struct Table<K, V> {
    map: HashMap<MapData, Raw<K>, Raw<V>>,
    name: &'static str,
    max: u32,
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl<K: bytemuck::Pod, V: bytemuck::Pod> Table<K, V> {
    /// Opens the LRU hash `name` pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where it is not there, or has another layout.
    pub fn open_lru(pins: &Path, name: &'static str) -> Result<Self, TableError> {
        Self::of_kind(pins, name, Map::LruHashMap)
    }

    fn of_kind(
        pins: &Path,
        name: &'static str,
        kind: fn(MapData) -> Map,
    ) -> Result<Self, TableError> {
        let failed = |source| TableError::Kernel {
            map: name,
            operation: "open",
            source,
        };
        let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
        let max = data.info().map_err(failed)?.max_entries();
        let map = HashMap::try_from(kind(data)).map_err(failed)?;
        Ok(Self { map, name, max })
    }

    /// One entry, where it is there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn get(&self, key: K) -> Result<Option<V>, TableError> {
        match self.map.get(&Raw(key), 0) {
            Ok(Raw(value)) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(TableError::Kernel {
                map: self.name,
                operation: "read",
                source,
            }),
        }
    }

    /// Opens the map `name` pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where it is not there, or has another layout.
    pub fn open(pins: &Path, name: &'static str) -> Result<Self, TableError> {
        Self::of_kind(pins, name, Map::HashMap)
    }

    /// Most entries it can hold.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Every entry, in the kernel's order. Of a table that changes meanwhile some may come twice, or
    /// be left out: where the last key is gone, the kernel begins anew. So no more are read than
    /// twice what the table holds; else packets that drive entries out would keep this from its end.
    ///
    /// # Errors
    /// Where the kernel refuses; an entry deleted while reading is left out.
    pub fn entries(&self) -> Result<Vec<(K, V)>, TableError> {
        let read = |result: Result<(Raw<K>, Raw<V>), MapError>| match result {
            Ok((Raw(key), Raw(value))) => Ok((key, value)),
            Err(source) => Err(TableError::Kernel {
                map: self.name,
                operation: "read",
                source,
            }),
        };
        self.map.iter().take(self.most()).map(read).collect()
    }

    /// Every key, in the kernel's order; as of [`Self::entries`].
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn keys(&self) -> Result<Vec<K>, TableError> {
        let read = |key: Result<Raw<K>, MapError>| match key {
            Ok(Raw(key)) => Ok(key),
            Err(source) => Err(TableError::Kernel {
                map: self.name,
                operation: "read",
                source,
            }),
        };
        self.map.keys().take(self.most()).map(read).collect()
    }

    fn most(&self) -> usize {
        usize::try_from(self.max).map_or(usize::MAX, |max| max.saturating_mul(2))
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// [`TableError::Full`] where there is no room.
    pub fn put(&mut self, key: K, value: V) -> Result<(), TableError> {
        self.map.insert(Raw(key), Raw(value), 0).map_err(|source| {
            if is(&source, rustix::io::Errno::TOOBIG) {
                return TableError::Full {
                    map: self.name,
                    max: self.max,
                };
            }
            TableError::Kernel {
                map: self.name,
                operation: "write",
                source,
            }
        })
    }

    /// Deletes an entry, if it is there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn delete(&mut self, key: K) -> Result<(), TableError> {
        match self.map.remove(&Raw(key)) {
            Err(source)
                if !is(&source, rustix::io::Errno::NOENT)
                    && !matches!(source, MapError::KeyNotFound) =>
            {
                Err(TableError::Kernel {
                    map: self.name,
                    operation: "delete",
                    source,
                })
            }
            _ => Ok(()),
        }
    }
}

/// A pinned array.
pub struct List<V: bytemuck::Pod> {
    map: Array<MapData, Raw<V>>,
    name: &'static str,
}

impl<V: bytemuck::Pod> fmt::Debug for List<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<V: bytemuck::Pod> List<V> {
    /// Opens the array `name` pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where it is not there, or has another layout.
    pub fn open(pins: &Path, name: &'static str) -> Result<Self, TableError> {
        Self::at(&pins.join(name), name)
    }

    fn at(path: &Path, name: &'static str) -> Result<Self, TableError> {
        let failed = |source| TableError::Kernel {
            map: name,
            operation: "open",
            source,
        };
        let data = MapData::from_pin(path).map_err(failed)?;
        Ok(Self {
            map: Array::try_from(Map::Array(data)).map_err(failed)?,
            name,
        })
    }

    /// Reads one element.
    ///
    /// # Errors
    /// Where there is no such element.
    pub fn get(&self, index: u32) -> Result<V, TableError> {
        let Raw(value) = self
            .map
            .get(&index, 0)
            .map_err(|source| TableError::Kernel {
                map: self.name,
                operation: "read",
                source,
            })?;
        Ok(value)
    }

    /// Writes one element.
    ///
    /// # Errors
    /// Where there is no such element.
    pub fn set(&mut self, index: u32, value: V) -> Result<(), TableError> {
        self.map
            .set(index, Raw(value), 0)
            .map_err(|source| TableError::Kernel {
                map: self.name,
                operation: "write",
                source,
            })
    }
}

/// Most entries of the pinned map `name`.
///
/// # Errors
/// Where it is not there.
pub fn max_entries(pins: &Path, name: &'static str) -> Result<u32, TableError> {
    let read = || {
        MapData::from_pin(pins.join(name))?
            .info()
            .map(|info| info.max_entries())
    };
    read().map_err(|source| TableError::Kernel {
        map: name,
        operation: "open",
        source,
    })
}

/// Whether an LRU hash with so many entries drives others out for a new one.
///
/// Each CPU takes free entries, and evicts, by the 128 (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.c),
/// for its own use alone; since 6.16 all CPUs together keep no more than half. So a full one never is.
pub fn evicts(used: u32, max: u32) -> bool {
    let cpus = aya::util::nr_cpus().unwrap_or(1);
    let kept = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(128);
    used >= max - kept.min(max / 2)
}

/// Number of entries of the pinned LRU hash `name`, counted one by one, and its size.
///
/// # Errors
/// Where it is not there, or has another layout.
pub fn lru_usage<K: bytemuck::Pod, V: bytemuck::Pod>(
    pins: &Path,
    name: &'static str,
) -> Result<(u32, u32), TableError> {
    let failed = |source| TableError::Kernel {
        map: name,
        operation: "read",
        source,
    };
    let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
    let max = data.info().map_err(failed)?.max_entries();
    let map: HashMap<MapData, Raw<K>, Raw<V>> =
        HashMap::try_from(Map::LruHashMap(data)).map_err(failed)?;
    // The walk begins anew where the entry it stands on is driven out meanwhile.
    let most = usize::try_from(max).unwrap_or(usize::MAX);
    let used = map.keys().take(most).filter(Result::is_ok).count();
    Ok((u32::try_from(used).unwrap_or(max), max))
}

fn is(error: &MapError, errno: rustix::io::Errno) -> bool {
    matches!(error, MapError::SyscallError(SyscallError { io_error, .. })
        if io_error.raw_os_error() == Some(errno.raw_os_error()))
}
