//! How full the tables of Services are, and who fills them.

use std::collections::BTreeSet;

use agent_abi::service::{
    BACKENDS_MAP, FRONTENDS_MAP, RINGS_MAP, SERVICES_MAP, SLOTS_MAP, SOURCES_MAP,
};

use super::entries::{address, frontend_key};
use super::tables::{Held, Op, Tables};
use crate::desired::{Backend, Frontend};

/// The maps that have as many entries as there are Services, in the order of [`Tables::usage`].
pub(super) const MAPS: [&str; 6] = [
    FRONTENDS_MAP,
    SERVICES_MAP,
    SLOTS_MAP,
    BACKENDS_MAP,
    RINGS_MAP,
    SOURCES_MAP,
];

/// Entries that one object, with all of its ports, may have of a map.
pub(super) fn of_one_owner(map: &str, of: usize) -> usize {
    match map {
        // Its ports are counted by the API server's own limits, and by quotas.
        FRONTENDS_MAP | SERVICES_MAP => of,
        _ => (of / 4).max(LEAST),
    }
}

/// Of small tables an object may have more than a quarter.
const LEAST: usize = 4096;

impl Held {
    /// Whether a frontend leads here.
    pub(super) fn leads(&self, frontend: &Frontend) -> bool {
        self.frontends
            .binary_search(&frontend_key(frontend))
            .is_ok()
    }

    /// Whether an endpoint is one of the backends.
    pub(super) fn has(&self, backend: &Backend) -> bool {
        let name = (address(backend.address), backend.port.get().to_be_bytes());
        let mut held = self.backends.values();
        held.any(|held| (held.address, held.port) == name)
    }
}

impl Tables {
    /// Entries in use of [`MAPS`].
    pub(super) fn usage(&self) -> [usize; MAPS.len()] {
        [
            self.frontends().len(),
            self.declared,
            self.slots,
            self.backends,
            self.chunks,
            self.sources,
        ]
    }

    /// Entries that a service has of [`MAPS`]. A ring counts for each that uses it.
    pub(super) fn usage_of(&self, id: u32) -> [usize; MAPS.len()] {
        let Some(held) = self.services().get(&id) else {
            return [0; MAPS.len()];
        };
        let pools = held.value.iter().flat_map(|value| value.pools);
        let rings = pools.filter_map(|pool| self.rings.get(&pool.ring));
        [
            held.frontends.len(),
            usize::from(held.value.is_some()),
            held.slots.len(),
            held.backends.len(),
            rings.map(|ring| ring.chunks.len()).sum(),
            held.sources.len(),
        ]
    }

    /// Entries of [`MAPS`] that writes would add, where none deletes.
    pub(super) fn growth(&self, ops: &[Op]) -> [usize; MAPS.len()] {
        let nothing = Held::default();
        let held = |id: &u32| self.services().get(id).unwrap_or(&nothing);
        let mut services = BTreeSet::new();
        let mut growth = [0; MAPS.len()];
        for op in ops {
            let (map, is_new) = match op {
                Op::PutFrontend(key, _) => (0, !self.frontends().contains_key(key)),
                Op::PutService(id, _) => (1, held(id).value.is_none() && services.insert(*id)),
                Op::PutSlot(key, _) => (2, !held(&key.service).slots.contains_key(&key.slot)),
                Op::PutBackend(id, value) => (3, !held(&value.service).backends.contains_key(id)),
                Op::PutRing(key, _) => (4, !self.has_chunk(key)),
                Op::PutSource(range) => (5, !held(&range.key.service).sources.contains(range)),
                Op::Allocate { .. }
                | Op::DeleteFrontend(_)
                | Op::DeleteSlot(_)
                | Op::DeleteSource(_)
                | Op::DeleteBackend { .. }
                | Op::DeleteService(_)
                | Op::DeleteRing(_) => continue,
            };
            growth[map] += usize::from(is_new);
        }
        growth
    }
}
