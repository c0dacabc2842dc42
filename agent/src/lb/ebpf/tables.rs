//! The content of the service maps, ordered by service.
//!
//! [`Tables::commit`] follows each write the kernel has done, so what is known here is what is
//! there. What should be there is `image`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use agent_abi::service::{
    BackendV2, FrontendKeyV1, FrontendV2, NEXT_BACKEND, NEXT_RING, NEXT_SERVICE, RingChunkV1,
    RingKeyV1, ServiceV2, SlotKeyV1, SourceKeyV1,
};

use super::entries::frontend_key;
use crate::desired::LbService;

/// One write to one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Moves the next free id of `NEXT_SERVICE`, `NEXT_BACKEND` or `NEXT_RING` on.
    Allocate {
        /// Index in the allocator.
        index: u32,
        /// The next free id.
        next: u32,
    },
    /// Writes a backend.
    PutBackend(u32, BackendV2),
    /// Writes a part of a ring.
    PutRing(RingKeyV1, RingChunkV1),
    /// Writes a slot.
    PutSlot(SlotKeyV1, u32),
    /// Writes a service.
    PutService(u32, ServiceV2),
    /// Lets a range of sources in.
    PutSource(SourceRange),
    /// Writes a frontend.
    PutFrontend(FrontendKeyV1, FrontendV2),
    /// Deletes a frontend.
    DeleteFrontend(FrontendKeyV1),
    /// Deletes a slot.
    DeleteSlot(SlotKeyV1),
    /// Deletes a range of sources.
    DeleteSource(SourceRange),
    /// Deletes a backend.
    DeleteBackend {
        /// Its service.
        service: u32,
        /// Its id.
        id: u32,
    },
    /// Deletes a service.
    DeleteService(u32),
    /// Deletes a part of a ring.
    DeleteRing(RingKeyV1),
}

/// A key of the map of sources, with the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRange {
    /// Bits of `key` that count.
    pub bits: u32,
    /// The key.
    pub key: SourceKeyV1,
}

/// What the maps hold of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The service itself.
    pub value: Option<ServiceV2>,
    /// Its frontends, in order. A list, as most have one or two.
    pub frontends: Vec<FrontendKeyV1>,
    /// Its slots, to backend ids.
    pub slots: BTreeMap<u32, u32>,
    /// Its backends, by id.
    pub backends: BTreeMap<u32, BackendV2>,
    /// Its ranges of sources.
    pub sources: BTreeSet<SourceRange>,
}

/// The content of the service maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    services: BTreeMap<u32, Held>,
    frontends: BTreeMap<FrontendKeyV1, FrontendV2>,
    pub(super) rings: BTreeMap<u32, HeldRing>,
    /// Rings in use, by their digests.
    shareable: BTreeMap<Vec<u64>, u32>,
    pub(super) slots: usize,
    pub(super) backends: usize,
    pub(super) declared: usize,
    pub(super) chunks: usize,
    pub(super) sources: usize,
    next_service: u32,
    next_backend: u32,
    next_ring: u32,
}

/// A ring, of which only digests are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldRing {
    pub(super) chunks: BTreeMap<u32, u64>,
    pools: usize,
}

impl Tables {
    /// Tables with nothing in them, whose next ids are these. Ids begin at 1.
    pub fn new(next_service: u32, next_backend: u32, next_ring: u32) -> Self {
        Self {
            next_service: next_service.max(1),
            next_backend: next_backend.max(1),
            next_ring: next_ring.max(1),
            services: BTreeMap::new(),
            frontends: BTreeMap::new(),
            rings: BTreeMap::new(),
            shareable: BTreeMap::new(),
            slots: 0,
            backends: 0,
            declared: 0,
            chunks: 0,
            sources: 0,
        }
    }

    /// Brings the tables in line with a write that the kernel has done.
    pub fn commit(&mut self, op: Op) {
        match op {
            Op::Allocate { index, next } => match index {
                NEXT_SERVICE => self.next_service = next,
                NEXT_BACKEND => self.next_backend = next,
                NEXT_RING => self.next_ring = next,
                _ => {}
            },
            Op::PutBackend(id, value) => {
                let held = self.services.entry(value.service).or_default();
                self.backends += usize::from(held.backends.insert(id, value).is_none());
            }
            Op::PutRing(key, value) => {
                let ring = self.rings.entry(key.ring).or_default();
                self.chunks += usize::from(ring.chunks.insert(key.chunk, digest(&value)).is_none());
            }
            Op::PutSlot(key, backend) => {
                let held = self.services.entry(key.service).or_default();
                self.slots += usize::from(held.slots.insert(key.slot, backend).is_none());
            }
            Op::PutService(id, value) => self.set_value(id, Some(value)),
            Op::PutSource(range) => {
                let held = self.services.entry(range.key.service).or_default();
                self.sources += usize::from(held.sources.insert(range));
            }
            Op::PutFrontend(key, value) => {
                if let Some(old) = self.frontends.insert(key, value) {
                    self.forget_frontend(key, old);
                }
                let held = self.services.entry(value.service).or_default();
                if let Err(at) = held.frontends.binary_search(&key) {
                    held.frontends.reserve_exact(1);
                    held.frontends.insert(at, key);
                }
            }
            Op::DeleteFrontend(key) => {
                if let Some(old) = self.frontends.remove(&key) {
                    self.forget_frontend(key, old);
                }
            }
            Op::DeleteSlot(key) => {
                let removed =
                    self.held_mut(key.service, |held| held.slots.remove(&key.slot).is_some());
                self.slots -= usize::from(removed);
            }
            Op::DeleteSource(range) => {
                let removed = self.held_mut(range.key.service, |held| held.sources.remove(&range));
                self.sources -= usize::from(removed);
            }
            Op::DeleteBackend { service, id } => {
                let removed = self.held_mut(service, |held| held.backends.remove(&id).is_some());
                self.backends -= usize::from(removed);
            }
            Op::DeleteService(id) => self.set_value(id, None),
            Op::DeleteRing(key) => {
                if let Some(ring) = self.rings.get_mut(&key.ring) {
                    self.chunks -= usize::from(ring.chunks.remove(&key.chunk).is_some());
                    if ring.chunks.is_empty() {
                        self.rings.remove(&key.ring);
                    }
                }
            }
        }
    }

    /// What is held, by service id.
    pub fn services(&self) -> &BTreeMap<u32, Held> {
        &self.services
    }

    /// Every frontend.
    pub fn frontends(&self) -> &BTreeMap<FrontendKeyV1, FrontendV2> {
        &self.frontends
    }

    /// The service id that one of a unit's frontends leads to.
    pub fn id_of(&self, unit: &LbService) -> Option<u32> {
        unit.frontends
            .iter()
            .find_map(|frontend| self.frontends.get(&frontend_key(frontend)))
            .map(|found| found.service)
    }

    /// The next free id at `index` of the allocator.
    pub fn next(&self, index: u32) -> u32 {
        match index {
            NEXT_SERVICE => self.next_service,
            NEXT_BACKEND => self.next_backend,
            _ => self.next_ring,
        }
    }

    /// A ring with this content that a pool uses, so that it stays.
    pub fn ring_of(&self, chunks: &[RingChunkV1]) -> Option<u32> {
        let digests: Vec<u64> = chunks.iter().map(digest).collect();
        self.shareable.get(&digests).copied()
    }

    /// Whether ring `id` has this content.
    pub fn has_ring(&self, id: u32, chunks: &[RingChunkV1]) -> bool {
        let digests: Vec<u64> = chunks.iter().map(digest).collect();
        self.rings.get(&id).is_some_and(|ring| ring.is(&digests))
    }

    /// Whether a part of a ring is known.
    pub fn has_chunk(&self, key: &RingKeyV1) -> bool {
        let ring = self.rings.get(&key.ring);
        ring.is_some_and(|ring| ring.chunks.contains_key(&key.chunk))
    }

    /// The parts of rings from ring `first` on, in order.
    pub fn chunks_from(&self, first: u32) -> impl Iterator<Item = RingKeyV1> {
        let rings = self.rings.range(first..);
        rings.flat_map(|(id, ring)| {
            let key = |chunk: &u32| RingKeyV1 {
                ring: *id,
                chunk: *chunk,
            };
            ring.chunks.keys().map(key)
        })
    }

    /// Whether this is what a part of a ring holds.
    pub fn is_chunk(&self, key: &RingKeyV1, value: &RingChunkV1) -> bool {
        let ring = self.rings.get(&key.ring);
        ring.and_then(|ring| ring.chunks.get(&key.chunk)) == Some(&digest(value))
    }

    /// The parts of rings that no pool uses.
    pub fn unused_rings(&self) -> Vec<RingKeyV1> {
        let unused = self.rings.iter().filter(|(_, ring)| ring.pools == 0);
        unused
            .flat_map(|(id, ring)| {
                ring.chunks.keys().map(|chunk| RingKeyV1 {
                    ring: *id,
                    chunk: *chunk,
                })
            })
            .collect()
    }

    fn set_value(&mut self, id: u32, value: Option<ServiceV2>) {
        let old = match value {
            Some(value) => {
                let held = self.services.entry(id).or_default();
                held.value.replace(value)
            }
            None => {
                let mut old = None;
                self.held_mut(id, |held| {
                    old = held.value.take();
                    old.is_some()
                });
                old
            }
        };
        self.declared += usize::from(value.is_some());
        self.declared -= usize::from(old.is_some());
        let pools = |value: Option<ServiceV2>| value.into_iter().flat_map(|value| value.pools);
        for pool in pools(value).filter(|pool| pool.ring != 0) {
            let ring = self.rings.entry(pool.ring).or_default();
            ring.pools += 1;
            let digests = ring.chunks.values().copied().collect();
            self.shareable.entry(digests).or_insert(pool.ring);
        }
        for pool in pools(old).filter(|pool| pool.ring != 0) {
            if let Some(ring) = self.rings.get_mut(&pool.ring) {
                ring.pools = ring.pools.saturating_sub(1);
                let digests: Vec<u64> = ring.chunks.values().copied().collect();
                if ring.pools == 0 && self.shareable.get(&digests) == Some(&pool.ring) {
                    self.shareable.remove(&digests);
                }
            }
        }
    }

    fn forget_frontend(&mut self, key: FrontendKeyV1, old: FrontendV2) {
        let new = self.frontends.get(&key);
        if new.is_none_or(|new| new.service != old.service) {
            self.held_mut(old.service, |held| {
                let found = held.frontends.binary_search(&key);
                found.map(|at| held.frontends.remove(at)).is_ok()
            });
        }
    }

    /// Changes what is held of a service, and forgets it where that was the last of it.
    fn held_mut(&mut self, id: u32, change: impl FnOnce(&mut Held) -> bool) -> bool {
        let Some(held) = self.services.get_mut(&id) else {
            return false;
        };
        let changed = change(held);
        if *held == Held::default() {
            self.services.remove(&id);
        }
        changed
    }
}

impl HeldRing {
    fn is(&self, digests: &[u64]) -> bool {
        self.chunks.len() == digests.len() && self.chunks.values().eq(digests)
    }
}

fn digest(chunk: &RingChunkV1) -> u64 {
    let mut hasher = DefaultHasher::new();
    chunk.hash(&mut hasher);
    hasher.finish()
}
