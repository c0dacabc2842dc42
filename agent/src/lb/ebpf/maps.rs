//! The service maps as they are in the kernel; the only writer of them.
//!
//! What to write is decided in `image`; here it is one system call each.

use std::path::Path;

use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, TupleV1};
use agent_abi::counters::{COUNTERS, COUNTERS_MAP, Counter};
use agent_abi::service::{
    ALLOCATOR_MAP, BACKENDS_MAP, BackendV2, FRONTENDS_MAP, FrontendKeyV1, FrontendV2, NEXT_BACKEND,
    NEXT_RING, NEXT_SERVICE, RINGS_MAP, RingChunkV1, RingKeyV1, SERVICES_MAP, SLOTS_MAP,
    SOURCES_MAP, ServiceV2, SlotKeyV1, SourceKeyV1,
};
use agent_abi::settings::{SETTING_POLICED, SETTINGS_MAP, SettingsV2};

use super::fullness::MAPS;
use super::tables::{Op, SourceRange, Tables};
use crate::sys::map::{List, Table, TableError, Trie, lru_usage, per_cpu_sums};

/// Value of a source: that its key is there says all.
const SOURCE: u32 = 1;

/// The open service maps.
#[derive(Debug)]
pub struct Maps {
    /// Address and port to service.
    pub frontends: Table<FrontendKeyV1, FrontendV2>,
    /// Services.
    pub services: Table<u32, ServiceV2>,
    /// Slots of services.
    pub slots: Table<SlotKeyV1, u32>,
    /// Backends.
    pub backends: Table<u32, BackendV2>,
    /// Parts of rings.
    pub rings: Table<RingKeyV1, RingChunkV1>,
    /// Sources that load balancers' addresses are open to.
    pub sources: Trie<SourceKeyV1>,
    /// The next free ids.
    pub allocator: List<u32>,
}

impl Maps {
    /// Opens the maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where one of them is not there: the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        Ok(Self {
            frontends: Table::open(pins, FRONTENDS_MAP)?,
            services: Table::open(pins, SERVICES_MAP)?,
            slots: Table::open(pins, SLOTS_MAP)?,
            backends: Table::open(pins, BACKENDS_MAP)?,
            rings: Table::open(pins, RINGS_MAP)?,
            sources: Trie::open(pins, SOURCES_MAP)?,
            allocator: List::open(pins, ALLOCATOR_MAP)?,
        })
    }
}

impl Maps {
    /// Reads the maps.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn read(&self) -> Result<Tables, TableError> {
        let next = |index| self.allocator.get(index);
        let mut tables = Tables::new(next(NEXT_SERVICE)?, next(NEXT_BACKEND)?, next(NEXT_RING)?);
        let mut commit = |op| tables.commit(op);
        // A ring comes before the services that use it.
        for (key, value) in self.rings.entries()? {
            commit(Op::PutRing(key, value));
        }
        for (id, value) in self.services.entries()? {
            commit(Op::PutService(id, value));
        }
        for (id, value) in self.backends.entries()? {
            commit(Op::PutBackend(id, value));
        }
        for (key, backend) in self.slots.entries()? {
            commit(Op::PutSlot(key, backend));
        }
        for (bits, key) in self.sources.keys()? {
            commit(Op::PutSource(SourceRange { bits, key }));
        }
        for (key, value) in self.frontends.entries()? {
            commit(Op::PutFrontend(key, value));
        }
        Ok(tables)
    }

    /// Most entries of `fullness::MAPS`.
    pub fn room(&self) -> [u32; MAPS.len()] {
        [
            self.frontends.max(),
            self.services.max(),
            self.slots.max(),
            self.backends.max(),
            self.rings.max(),
            self.sources.max(),
        ]
    }

    /// Does one write.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn write(&mut self, op: Op) -> Result<(), TableError> {
        match op {
            Op::Allocate { index, next } => self.allocator.set(index, next),
            Op::PutBackend(id, value) => self.backends.put(id, value),
            Op::PutRing(key, value) => self.rings.put(key, value),
            Op::PutSlot(key, backend) => self.slots.put(key, backend),
            Op::PutService(id, value) => self.services.put(id, value),
            Op::PutSource(SourceRange { bits, key }) => self.sources.put(bits, key, SOURCE),
            Op::PutFrontend(key, value) => self.frontends.put(key, value),
            Op::DeleteFrontend(key) => self.frontends.delete(key),
            Op::DeleteSlot(key) => self.slots.delete(key),
            Op::DeleteSource(SourceRange { bits, key }) => self.sources.delete(bits, key),
            Op::DeleteBackend { id, .. } => self.backends.delete(id),
            Op::DeleteService(id) => self.services.delete(id),
            Op::DeleteRing(key) => self.rings.delete(key),
        }
    }
}

/// Writes what the programs know of their node; answers whether it was something else.
///
/// # Errors
/// Where the map is not there.
pub fn configure(pins: &Path, settings: SettingsV2) -> Result<bool, TableError> {
    let mut map: List<SettingsV2> = List::open(pins, SETTINGS_MAP)?;
    let differs = map.get(0)? != settings;
    if differs {
        map.set(0, settings)?;
    }
    Ok(differs)
}

/// Whether the last agent that had these tables enforced network policy.
///
/// # Errors
/// Where the map is not there.
pub fn was_policed(pins: &Path) -> Result<bool, TableError> {
    let settings = List::<SettingsV2>::open(pins, SETTINGS_MAP)?.get(0)?;
    Ok(settings.flags & SETTING_POLICED != 0)
}

/// Every counter of the programs, summed over the CPUs.
///
/// # Errors
/// Where the map is not there.
pub fn counters(pins: &Path) -> Result<Vec<(Counter, &'static str, u64)>, TableError> {
    let sums = per_cpu_sums(pins, COUNTERS_MAP)?;
    Ok(COUNTERS
        .iter()
        .zip(sums)
        .map(|((counter, name), sum)| (*counter, *name, sum))
        .collect())
}

/// Entries in use and size of the connection table.
///
/// # Errors
/// Where the map is not there.
pub fn connections(pins: &Path) -> Result<(u32, u32), TableError> {
    lru_usage::<TupleV1, ConnectionV3>(pins, CONNECTIONS_MAP)
}
