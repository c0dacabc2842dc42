//! What the maps hold, as far as this process has read and written them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_abi::Address;
use agent_abi::service::{POOL_CLUSTER, POOL_LOCAL, RingChunkV1, RingKeyV1};
use model::{IpFamily, PortName, Protocol};
use rpds::RedBlackTreeMapSync;

use super::addresses::Addresses;
use super::entries::address;
use super::fullness::MAPS;
use super::image::Tables;
use super::pool::ring_of;
use crate::desired::{Changed, Desired, LbService, LbServiceKey, Pool};

/// Tables, the ids of units in them, and what has no room there.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) tables: Tables,
    pub(super) addresses: Addresses,
    pub(super) ids: BTreeMap<LbServiceKey, u32>,
    /// What was desired last; rings are made anew from it.
    pub(super) services: RedBlackTreeMapSync<LbServiceKey, Arc<LbService>>,
    pub(super) generation: u64,
    /// Units without room, and why.
    pub(super) failures: BTreeMap<LbServiceKey, String>,
}

impl Known {
    /// Finds the ids of the units in tables just read, through their frontends.
    pub(super) fn adopt(tables: Tables, desired: &Desired) -> Self {
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

    /// Entries that a unit has of `fullness::MAPS`.
    pub(super) fn entries_of(&self, key: &LbServiceKey) -> [usize; MAPS.len()] {
        self.ids
            .get(key)
            .map_or([0; MAPS.len()], |id| self.tables.usage_of(*id))
    }

    /// Entries of the map at `map` of `fullness::MAPS` that all units of a unit's owner have.
    pub(super) fn owned(&self, key: &LbServiceKey, map: usize) -> usize {
        let first = LbServiceKey {
            owner: key.owner.clone(),
            port: PortName::default(),
            protocol: Protocol::Tcp,
            family: IpFamily::V4,
        };
        let ids = self.ids.range(first..);
        let ids = ids.take_while(|(other, _)| other.owner == key.owner);
        ids.map(|(_, id)| self.tables.usage_of(*id)[map]).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.services().is_empty() && self.tables.frontends().is_empty()
    }

    /// The content of a part of a ring, from a unit whose pool uses it.
    pub(super) fn chunk(&self, key: RingKeyV1) -> Option<RingChunkV1> {
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
    pub(super) fn touched(&self, desired: &Desired) -> BTreeSet<LbServiceKey> {
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
    pub(super) fn strangers(&self) -> Vec<u32> {
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

pub(super) fn nodes(desired: &Desired) -> BTreeSet<Address> {
    desired.nodes.iter().copied().map(address).collect()
}
