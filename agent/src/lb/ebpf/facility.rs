//! The service maps as a [`Facility`]: which unit has which id, and the order of writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_abi::Address;
use agent_abi::service::{
    ADDRESSES_MAP, BACKENDS_MAP, FRONTENDS_MAP, NEXT_SERVICE, POOL_CLUSTER, POOL_LOCAL, RINGS_MAP,
    RingChunkV1, RingKeyV1, SERVICES_MAP, SLOTS_MAP, SOURCES_MAP,
};
use agent_abi::settings::{
    SETTING_KEEP_CONNECTIONS, SETTING_MASQUERADE_ALL, SETTING_POD_EGRESS, SETTING_POLICED,
    SETTINGS_MAP, SettingsV2,
};
use ipnet::IpNet;
use model::IpFamily;
use rpds::RedBlackTreeMapSync;

use super::addresses::Addresses;
use super::audit::{Cursor, search_addresses};
use super::fill;
use super::image::{Op, Tables, address, dismantle, make, prefix_bits, sweep};
use super::maps::{Maps, configure};
use super::pool::ring_of;
use crate::applier::{Facility, Failure, Outcome, Pass, Usage, with_causes};
use crate::desired::route::{Encapsulation, OverlayUse, RouterOptions};
use crate::desired::{Changed, Desired, LbService, LbServiceKey, NodeContext, Pool};
use crate::divergence::{Divergence, Divergences};
use crate::sys::map::{Table, TableError};
use crate::sys::memory;

/// What the operator decides about connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// `--masquerade-all`.
    pub masquerade_all: bool,
    /// `--cluster-cidr`, one of each family at most.
    pub cluster_cidrs: Vec<IpNet>,
    /// When connections that nothing is heard of are forgotten.
    pub timeouts: Timeouts,
    /// `--netpol-keep-connections`.
    pub keep_connections: bool,
    /// Whether network policy is on.
    pub policed: bool,
}

/// When connections that nothing is heard of are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `--service-tcp-timeout`.
    pub tcp: Duration,
    /// `--service-tcpfin-timeout`.
    pub tcp_closing: Duration,
    /// `--service-udp-timeout`.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // As kube-proxy sets netfilter.
            tcp: Duration::from_secs(86_400),
            tcp_closing: Duration::from_secs(10),
            // netfilter's `udp_timeout_stream`.
            udp: Duration::from_secs(120),
        }
    }
}

/// The service maps of this node and what is known of them.
#[derive(Debug)]
pub struct ServiceMaps {
    pins: PathBuf,
    maps: Maps,
    addresses: Table<Address, u32>,
    translation: Translation,
    settings: Option<SettingsV2>,
    known: Option<Known>,
    audited: Cursor,
}

/// What the maps hold, as far as this process has read and written them.
#[derive(Debug)]
struct Known {
    tables: Tables,
    addresses: Addresses,
    ids: BTreeMap<LbServiceKey, u32>,
    /// What was desired last; rings are made anew from it.
    services: RedBlackTreeMapSync<LbServiceKey, Arc<LbService>>,
    generation: u64,
    failures: BTreeMap<LbServiceKey, String>,
}

impl ServiceMaps {
    /// The maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: PathBuf, translation: Translation) -> Result<Self, TableError> {
        Ok(Self {
            maps: Maps::open(&pins)?,
            addresses: Table::open(&pins, ADDRESSES_MAP)?,
            pins,
            translation,
            settings: None,
            known: None,
            audited: Cursor::default(),
        })
    }

    fn try_apply(
        &mut self,
        desired: &Desired,
        pass: Pass,
        operations: &mut u64,
    ) -> Result<(), TableError> {
        let settings = settings(&desired.node, &self.translation);
        configure(&self.pins, settings)?;
        self.settings = Some(settings);
        let mut known = match self.known.take() {
            Some(known) if pass == Pass::Changes => known,
            _ => self.read_back(desired)?,
        };
        for change in known.addresses.set_nodes(nodes(desired)) {
            change.write(&mut self.addresses)?;
        }
        if known.is_empty() && desired.services.size() >= fill::WORTHWHILE {
            match self.fill(&mut known, desired) {
                Ok(written) => *operations += written,
                // Which unit there is no room for shows when they are made one by one.
                Err(TableError::Full { .. }) => known = self.read_back(desired)?,
                Err(error) => return Err(error),
            }
        }
        let keys = known.touched(desired);
        let mut write = |op: Op, tables: &mut Tables, addresses: &mut Addresses| {
            self.maps.write(op)?;
            let change = addresses.follow(&op, tables);
            tables.commit(op);
            if let Some(change) = change {
                change.write(&mut self.addresses)?;
            }
            *operations += 1;
            Ok::<(), TableError>(())
        };
        for key in &keys {
            known.failures.remove(key);
            let Some(unit) = desired.services.get(key) else {
                continue;
            };
            let id = *known
                .ids
                .entry(key.clone())
                .or_insert_with(|| known.tables.next(NEXT_SERVICE));
            for op in make(id, unit, &known.tables) {
                match write(op, &mut known.tables, &mut known.addresses) {
                    Err(error @ TableError::Full { .. }) => {
                        known.failures.insert(key.clone(), full(&error));
                        break;
                    }
                    other => other?,
                }
            }
            if known.tables.next(NEXT_SERVICE) <= id {
                known.ids.remove(key);
            }
        }
        let strangers = known.strangers();
        let settled = keys.iter().filter(|key| !known.failures.contains_key(key));
        let mut remaining: Vec<(u32, Option<&LbServiceKey>)> =
            strangers.into_iter().map(|id| (id, None)).collect();
        remaining.extend(settled.filter_map(|key| known.ids.get(key).map(|id| (*id, Some(key)))));
        for (id, key) in remaining {
            let unit = key.and_then(|key| desired.services.get(key));
            for op in dismantle(id, unit.map(AsRef::as_ref), &known.tables) {
                write(op, &mut known.tables, &mut known.addresses)?;
            }
            if let (Some(key), None) = (key, unit) {
                known.ids.remove(key);
            }
        }
        for op in sweep(&known.tables) {
            write(op, &mut known.tables, &mut known.addresses)?;
        }
        known.generation = desired.generation;
        known.services = desired.services.clone();
        self.known = Some(known);
        Ok(())
    }

    /// What the maps hold.
    fn read_back(&mut self, desired: &Desired) -> Result<Known, TableError> {
        let known = Known::adopt(self.maps.read()?, desired);
        let entries = self.addresses.entries()?;
        for change in known.addresses.reconcile(&entries) {
            change.write(&mut self.addresses)?;
        }
        Ok(known)
    }

    fn fill(&mut self, known: &mut Known, desired: &Desired) -> Result<u64, TableError> {
        let plan = fill::Plan {
            tables: &mut known.tables,
            addresses: &mut known.addresses,
            ids: &mut known.ids,
        };
        let written = fill::fill(&mut self.maps, &mut self.addresses, desired, plan)?;
        known.generation = desired.generation;
        // What was read to compile all of it is gone by now.
        memory::give_back();
        Ok(written)
    }

    fn compare(&mut self, whole: bool, found: &mut Divergences) -> Result<(), String> {
        // What the kernel holds is unknown: the next apply reads it back.
        let Some(known) = &self.known else {
            return Ok(());
        };
        let explained = |error: TableError| with_causes(&error);
        if let Some(settings) = self.settings
            && configure(&self.pins, settings).map_err(explained)?
        {
            found.insert((SETTINGS_MAP, Divergence::Different), 1);
        }
        let (cursor, maps, tables) = (&mut self.audited, &mut self.maps, &known.tables);
        // Rings come before the services that ask them.
        for (key, wrong) in cursor.rings(maps, tables).map_err(explained)? {
            let value = known.chunk(key);
            let value = value.ok_or_else(|| format!("{RINGS_MAP}: {key:?} is no Service's"))?;
            maps.write(Op::PutRing(key, value)).map_err(explained)?;
            *found.entry((RINGS_MAP, wrong)).or_default() += 1;
        }
        cursor.step(maps, tables, found).map_err(explained)?;
        if whole {
            cursor.search(maps, tables, found).map_err(explained)?;
            let addresses = &mut self.addresses;
            search_addresses(addresses, &known.addresses, found).map_err(explained)?;
        }
        Ok(())
    }

    fn usage(&self, tables: &Tables) -> Vec<Usage> {
        let maps = [
            (FRONTENDS_MAP, self.maps.frontends.max()),
            (SERVICES_MAP, self.maps.services.max()),
            (SLOTS_MAP, self.maps.slots.max()),
            (BACKENDS_MAP, self.maps.backends.max()),
            (RINGS_MAP, self.maps.rings.max()),
        ];
        let used = tables.usage();
        maps.into_iter()
            .zip(used)
            .map(|((map, max), used)| Usage {
                map,
                used: used as u64,
                max: max.into(),
            })
            .collect()
    }
}

impl Facility for ServiceMaps {
    fn audit(&mut self, whole: bool) -> Result<Divergences, String> {
        let mut found = Divergences::new();
        let compared = self.compare(whole, &mut found);
        if let Err(error) = compared {
            self.known = None;
            return Err(error);
        }
        Ok(found)
    }

    fn apply(&mut self, desired: &Desired, pass: Pass) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.try_apply(desired, pass, &mut outcome.operations) {
            // What the kernel holds is unknown now; the next apply reads it back.
            self.known = None;
            outcome.error = Some(with_causes(&error));
            return outcome;
        }
        if let Some(known) = &self.known {
            let failures = known.failures.iter();
            outcome.failures = failures
                .map(|(key, reason)| Failure {
                    key: key.clone(),
                    reason: reason.clone(),
                })
                .collect();
            outcome.usage = self.usage(&known.tables);
        }
        outcome
    }
}

impl Known {
    /// Finds the ids of the units in tables just read, through their frontends.
    fn adopt(tables: Tables, desired: &Desired) -> Self {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeMap::new();
        for (key, unit) in &desired.services {
            if let Some(id) = tables.id_of(unit).filter(|id| taken.insert(*id)) {
                ids.insert(key.clone(), id);
            }
        }
        // Generation 0 is nobody's, so every unit is compared.
        Self {
            addresses: Addresses::of(&tables, nodes(desired)),
            tables,
            ids,
            services: RedBlackTreeMapSync::new_sync(),
            generation: 0,
            failures: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.tables.services().is_empty() && self.tables.frontends().is_empty()
    }

    /// The content of a part of a ring, from a unit whose pool uses it.
    fn chunk(&self, key: RingKeyV1) -> Option<RingChunkV1> {
        self.ids.iter().find_map(|(unit, id)| {
            let value = self.tables.services().get(id)?.value?;
            let used = |pool: usize| value.pools[pool].ring == key.ring;
            let pool = match (used(POOL_CLUSTER), used(POOL_LOCAL)) {
                (true, _) => Pool::Cluster,
                (_, true) => Pool::Local,
                _ => return None,
            };
            let chunks = ring_of(self.services.get(unit)?, pool);
            let chunk = chunks.get(usize::try_from(key.chunk).ok()?)?;
            self.tables.is_chunk(&key, chunk).then_some(*chunk)
        })
    }

    /// The units to look at: those that changed, and those that failed before.
    fn touched(&self, desired: &Desired) -> BTreeSet<LbServiceKey> {
        let changed = if self.generation == 0 {
            Changed::All
        } else {
            desired.changed_since(self.generation)
        };
        let mut keys = match changed {
            Changed::Keys(keys) => keys,
            Changed::All => desired
                .services
                .keys()
                .chain(self.ids.keys())
                .cloned()
                .collect(),
        };
        keys.extend(self.failures.keys().cloned());
        keys
    }

    /// Services in the tables that no unit has; there are none but after reading the tables back.
    fn strangers(&self) -> Vec<u32> {
        if self.generation != 0 {
            return Vec::new();
        }
        let owned: BTreeSet<u32> = self.ids.values().copied().collect();
        self.tables
            .services()
            .keys()
            .filter(|id| !owned.contains(id))
            .copied()
            .collect()
    }
}

fn nodes(desired: &Desired) -> BTreeSet<Address> {
    desired.nodes.iter().copied().map(address).collect()
}

/// What the programs should know of the node.
pub fn settings(node: &NodeContext, translation: &Translation) -> SettingsV2 {
    let timeouts = &translation.timeouts;
    let own = |family| node.address(family).map_or([0; 16], address);
    let cidr = |family| {
        let found = translation
            .cluster_cidrs
            .iter()
            .find(|cidr| IpFamily::of(cidr.addr()) == family);
        found.map_or(([0; 16], 0), |cidr| {
            (address(cidr.network()), prefix_bits(cidr))
        })
    };
    let ((cluster_v4, cluster_v4_bits), (cluster_v6, cluster_v6_bits)) =
        (cidr(IpFamily::V4), cidr(IpFamily::V6));
    SettingsV2 {
        node_v4: own(IpFamily::V4),
        node_v6: own(IpFamily::V6),
        cluster_v4,
        cluster_v6,
        cluster_v4_bits,
        cluster_v6_bits,
        flags: flag(translation.masquerade_all, SETTING_MASQUERADE_ALL)
            | flag(translation.keep_connections, SETTING_KEEP_CONNECTIONS)
            | flag(translation.policed, SETTING_POLICED)
            | flag(node.egress.is_some(), SETTING_POD_EGRESS),
        tcp_seconds: seconds(timeouts.tcp),
        tcp_closing_seconds: seconds(timeouts.tcp_closing),
        udp_seconds: seconds(timeouts.udp),
        mtu: node.mtu,
        overlay_port: overlay_port(node).to_be_bytes(),
        _pad: [0; 2],
    }
}

/// Where the overlay's packets go to; 0 for none that has a port.
fn overlay_port(node: &NodeContext) -> u16 {
    match node.router {
        Some(RouterOptions {
            overlay: OverlayUse::Subnet | OverlayUse::Full,
            encapsulation: Encapsulation::Vxlan { port, .. },
            ..
        }) => port,
        _ => 0,
    }
}

fn flag(given: bool, bit: u32) -> u32 {
    if given { bit } else { 0 }
}

fn seconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).max(1)
}

fn full(error: &TableError) -> String {
    let flag = match error {
        TableError::Full { map, .. }
            if [SLOTS_MAP, BACKENDS_MAP, RINGS_MAP, SOURCES_MAP].contains(map) =>
        {
            "--max-backends"
        }
        TableError::Full { .. } | TableError::Kernel { .. } => "--max-services",
    };
    format!(
        "{error}; remove Services, or raise {flag} and make the tables anew with --cleanup-config and a restart"
    )
}
