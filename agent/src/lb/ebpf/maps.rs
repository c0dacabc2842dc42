//! The service maps as they are in the kernel; the only writer of them.
//!
//! What to write is decided in `image`; here it is one system call each.

use std::path::Path;

use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV1, TupleV1};
use agent_abi::counters::{COUNTERS, COUNTERS_MAP, Counter};
use agent_abi::service::{
    ALLOCATOR_MAP, BACKENDS_MAP, BackendV1, FRONTENDS_MAP, FrontendKeyV1, FrontendV1, SERVICES_MAP,
    SLOTS_MAP, ServiceV1, SlotKeyV1,
};
use agent_abi::settings::{SETTINGS_MAP, SettingsV1};

use crate::sys::map::{List, Table, TableError, lru_usage, per_cpu_sums};

/// The open service maps.
#[derive(Debug)]
pub struct Maps {
    /// Address and port to service.
    pub frontends: Table<FrontendKeyV1, FrontendV1>,
    /// Services.
    pub services: Table<u32, ServiceV1>,
    /// Slots of services.
    pub slots: Table<SlotKeyV1, u32>,
    /// Backends.
    pub backends: Table<u32, BackendV1>,
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
            allocator: List::open(pins, ALLOCATOR_MAP)?,
        })
    }
}

/// Writes what the programs know of their node.
///
/// # Errors
/// Where the map is not there.
pub fn configure(pins: &Path, settings: SettingsV1) -> Result<(), TableError> {
    let mut map: List<SettingsV1> = List::open(pins, SETTINGS_MAP)?;
    if map.get(0)? == settings {
        return Ok(());
    }
    map.set(0, settings)
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
    lru_usage::<TupleV1, ConnectionV1>(pins, CONNECTIONS_MAP)
}
