//! The kernel's tables, asked key by key as the programs do.

use std::fmt;
use std::path::Path;

use agent_abi::Address;
use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, OPENING_MAP, TupleV1};
use agent_abi::egress::{EGRESS_MAP, EGRESS_SOURCES_MAP, EgressAddressV1, EgressSourceV1};
use agent_abi::service::{
    AFFINITY_MAP, AffinityKeyV1, AffinityV1, BackendV2, FrontendKeyV1, FrontendV2, RingChunkV1,
    RingKeyV1, ServiceV2, SlotKeyV1, SourceKeyV1,
};
use agent_abi::settings::{SETTINGS_MAP, SettingsV2};
use rustix::time::{ClockId, clock_gettime};

use crate::lb::ebpf::maps::Maps;
use crate::sys::map::{List, Table, TableError, Trie};

/// Bits of a whole key of the map of sources.
const WHOLE_SOURCE: u32 = 32 + 128;
/// Bits of a whole address.
const WHOLE_ADDRESS: u32 = 128;

/// An entry, where there is one.
pub type Looked<T> = Result<Option<T>, TableError>;

/// What can be asked.
pub trait Lookups: fmt::Debug {
    /// `FRONTENDS_V2`.
    fn frontend(&self, key: FrontendKeyV1) -> Looked<FrontendV2>;
    /// `SERVICES_V2`.
    fn service(&self, id: u32) -> Looked<ServiceV2>;
    /// `SLOTS_V2`.
    fn slot(&self, key: SlotKeyV1) -> Looked<u32>;
    /// `BACKENDS_V2`.
    fn backend(&self, id: u32) -> Looked<BackendV2>;
    /// `RINGS_V2`.
    fn ring(&self, key: RingKeyV1) -> Looked<RingChunkV1>;
    /// `AFFINITY_V2`.
    fn affinity(&self, key: AffinityKeyV1) -> Looked<AffinityV1>;
    /// `CONNECTIONS_V3`.
    fn connection(&self, key: TupleV1) -> Looked<ConnectionV3>;
    /// `OPENING_V3`.
    fn opening(&self, key: TupleV1) -> Looked<ConnectionV3>;
    /// Whether `SOURCES_V2` has a range of a service that holds an address.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn is_source_allowed(&self, service: u32, address: Address) -> Result<bool, TableError>;
    /// Bits of the longest prefix of `EGRESS_V1`.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn egress(&self, address: Address) -> Looked<u32>;
    /// The values of `EGRESS_SOURCES_V1`.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn egress_sources(&self) -> Result<Vec<EgressSourceV1>, TableError>;
    /// `SETTINGS_V2`.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn settings(&self) -> Result<SettingsV2, TableError>;
    /// `CLOCK_MONOTONIC` in nanoseconds.
    fn now(&self) -> u64;
}

/// The tables pinned by the agent.
#[derive(Debug)]
pub struct Kernel {
    maps: Maps,
    affinity: Table<AffinityKeyV1, AffinityV1>,
    connections: Table<TupleV1, ConnectionV3>,
    opening: Table<TupleV1, ConnectionV3>,
    egress: Trie<EgressAddressV1>,
    sources: Table<u32, EgressSourceV1>,
    settings: List<SettingsV2>,
}

impl Kernel {
    /// Opens the maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        Ok(Self {
            maps: Maps::open(pins)?,
            affinity: Table::open_lru(pins, AFFINITY_MAP)?,
            connections: Table::open_lru(pins, CONNECTIONS_MAP)?,
            opening: Table::open_lru(pins, OPENING_MAP)?,
            egress: Trie::open(pins, EGRESS_MAP)?,
            sources: Table::open(pins, EGRESS_SOURCES_MAP)?,
            settings: List::open(pins, SETTINGS_MAP)?,
        })
    }
}

impl Lookups for Kernel {
    fn frontend(&self, key: FrontendKeyV1) -> Looked<FrontendV2> {
        self.maps.frontends.get(key)
    }

    fn service(&self, id: u32) -> Looked<ServiceV2> {
        self.maps.services.get(id)
    }

    fn slot(&self, key: SlotKeyV1) -> Looked<u32> {
        self.maps.slots.get(key)
    }

    fn backend(&self, id: u32) -> Looked<BackendV2> {
        self.maps.backends.get(id)
    }

    fn ring(&self, key: RingKeyV1) -> Looked<RingChunkV1> {
        self.maps.rings.get(key)
    }

    fn affinity(&self, key: AffinityKeyV1) -> Looked<AffinityV1> {
        self.affinity.get(key)
    }

    fn connection(&self, key: TupleV1) -> Looked<ConnectionV3> {
        self.connections.get(key)
    }

    fn opening(&self, key: TupleV1) -> Looked<ConnectionV3> {
        self.opening.get(key)
    }

    fn is_source_allowed(&self, service: u32, address: Address) -> Result<bool, TableError> {
        let key = SourceKeyV1 { service, address };
        self.maps.sources.matches(WHOLE_SOURCE, key)
    }

    fn egress(&self, address: Address) -> Looked<u32> {
        self.egress.get(WHOLE_ADDRESS, EgressAddressV1 { address })
    }

    fn egress_sources(&self) -> Result<Vec<EgressSourceV1>, TableError> {
        let entries = self.sources.entries()?.into_iter();
        Ok(entries.map(|(_, source)| source).collect())
    }

    fn settings(&self) -> Result<SettingsV2, TableError> {
        self.settings.get(0)
    }

    fn now(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        // Since boot, so neither part is negative.
        let [seconds, nanoseconds] =
            [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
        seconds * 1_000_000_000 + nanoseconds
    }
}
