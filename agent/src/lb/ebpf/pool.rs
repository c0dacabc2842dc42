//! How one pool gets from what the maps hold to what is wanted.
//!
//! A pool whose members are chosen at random and alike keeps its slots in any order, and changes in
//! place: a constant number of writes an endpoint. A pool with a ring has its slots in the order of
//! its members, in one of two banks; a change writes the other bank, and one write of the service
//! switches to it.

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::service::{
    POOL_LOCAL, PoolV1, RING_CHUNK, RingChunkV1, RingKeyV1, SLOTS_OF_LOCAL, SLOTS_OTHER_BANK,
};

use super::entries::address;
use super::tables::{Held, Op, Tables};
use crate::desired::{LbService, Pool};
use crate::lb::ring::{self, Name};

/// One backend of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its id.
    pub(super) backend: u32,
    /// What it is known by on every node.
    pub(super) name: Name,
    /// Its share.
    pub(super) weight: u16,
}

/// The way of one pool.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The pool when everything has been added.
    pub(super) grown: PoolV1,
    /// The pool in the end.
    pub(super) last: PoolV1,
    /// Slots to write while adding.
    pub(super) fill: Vec<(u32, u32)>,
    /// Slots to write before shrinking: backends from the end take the place of those that go.
    pub(super) moves: Vec<(u32, u32)>,
    /// A ring to make; its id goes to `grown`. Empty where there is one, or none is needed.
    pub(super) new_ring: Vec<RingChunkV1>,
}

impl Plan {
    /// Plans pool number `index`, which is `current` now.
    pub(super) fn new(
        index: usize,
        current: PoolV1,
        members: &[Member],
        is_hashed: bool,
        held: &Held,
        tables: &Tables,
    ) -> Self {
        let first = if index == POOL_LOCAL {
            SLOTS_OF_LOCAL
        } else {
            0
        };
        if members.is_empty() {
            // A frontend may lead here until it has changed hands.
            return Self {
                grown: current,
                last: PoolV1::default(),
                fill: Vec::new(),
                moves: Vec::new(),
                new_ring: Vec::new(),
            };
        }
        let alike = members
            .windows(2)
            .all(|pair| pair[0].weight == pair[1].weight);
        if !is_hashed && alike {
            // A pool that had a ring begins anew beside its old slots.
            let in_place = current.ring == 0 && current.slots > 0;
            let base = if in_place {
                current.first_slot
            } else {
                other_bank(first, current)
            };
            let current = if in_place { current } else { empty_pool(base) };
            return Self::in_place(current, members, held);
        }
        Self::switch(first, current, members, held, tables)
    }

    fn in_place(current: PoolV1, members: &[Member], held: &Held) -> Self {
        let base = current.first_slot;
        let mut unplaced: BTreeSet<u32> = members.iter().map(|member| member.backend).collect();
        let mut kept = BTreeMap::new();
        let mut holes = Vec::new();
        for slot in 0..current.slots {
            let found = held.slots.get(&(base + slot));
            match found.filter(|backend| unplaced.remove(backend)) {
                Some(backend) => drop(kept.insert(slot, *backend)),
                None => holes.push(slot),
            }
        }
        let mut fill = Vec::new();
        // The chain has no end, as there are more numbers than backends.
        let mut free = holes.into_iter().chain(current.slots..);
        for (backend, slot) in unplaced.into_iter().zip(free.by_ref()) {
            kept.insert(slot, backend);
            if held.slots.get(&(base + slot)) != Some(&backend) {
                fill.push((base + slot, backend));
            }
        }
        let slots = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        let tail = kept.range(slots..).map(|(_, backend)| *backend);
        let moves = (0..slots)
            .filter(|slot| !kept.contains_key(slot))
            .map(|slot| base + slot)
            .zip(tail)
            .collect();
        let with = |slots| PoolV1 {
            slots,
            ring: 0,
            ring_size: 0,
            first_slot: base,
        };
        Self {
            grown: with(slots.max(current.slots)),
            last: with(slots),
            fill,
            moves,
            new_ring: Vec::new(),
        }
    }

    fn switch(
        first: u32,
        current: PoolV1,
        members: &[Member],
        held: &Held,
        tables: &Tables,
    ) -> Self {
        let slots = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let entries = ring::ring(&ring_members(members));
        let chunks = chunks(&entries);
        let ring_size = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let in_order = |base: u32| {
            members
                .iter()
                .zip(base..)
                .map(|(member, slot)| (slot, member.backend))
        };
        let stays = current.slots == slots
            && current.ring_size == ring_size
            && in_order(current.first_slot)
                .all(|(slot, backend)| held.slots.get(&slot) == Some(&backend))
            && (chunks.is_empty() || tables.has_ring(current.ring, &chunks));
        if stays {
            return Self {
                grown: current,
                last: current,
                fill: Vec::new(),
                moves: Vec::new(),
                new_ring: Vec::new(),
            };
        }
        let base = other_bank(first, current);
        let shared = if chunks.is_empty() {
            Some(0)
        } else {
            tables.ring_of(&chunks)
        };
        let pool = PoolV1 {
            slots,
            first_slot: base,
            ring: shared.unwrap_or(0),
            ring_size,
        };
        Self {
            grown: pool,
            last: pool,
            fill: in_order(base)
                .filter(|(slot, backend)| held.slots.get(slot) != Some(backend))
                .collect(),
            moves: Vec::new(),
            new_ring: if shared.is_some() { Vec::new() } else { chunks },
        }
    }

    /// The writes of the new ring, as ring `id`.
    pub(super) fn ring_ops(&self, id: u32) -> impl Iterator<Item = Op> {
        let chunks = self.new_ring.iter().zip(0..);
        chunks.map(move |(value, chunk)| Op::PutRing(RingKeyV1 { ring: id, chunk }, *value))
    }
}

/// The ring of one of a unit's pools, made anew: the tables keep digests alone.
pub(super) fn ring_of(unit: &LbService, pool: Pool) -> Vec<RingChunkV1> {
    let members: Vec<Member> = unit
        .pool(pool)
        .map(|backend| Member {
            backend: 0,
            name: (address(backend.address), backend.port.get().to_be_bytes()),
            weight: backend.weight,
        })
        .collect();
    chunks(&ring::ring(&ring_members(&members)))
}

fn other_bank(first: u32, current: PoolV1) -> u32 {
    if current.slots > 0 {
        first | (!current.first_slot & SLOTS_OTHER_BANK)
    } else {
        first
    }
}

/// Where every member has an address of its own, ports are left out: the ports of a Service share
/// a ring then.
fn ring_members(members: &[Member]) -> Vec<ring::Member> {
    let addresses: BTreeSet<_> = members.iter().map(|member| member.name.0).collect();
    let unique = addresses.len() == members.len();
    let members = members.iter().map(|member| ring::Member {
        name: (member.name.0, if unique { [0; 2] } else { member.name.1 }),
        weight: member.weight,
    });
    members.collect()
}

fn chunks(entries: &[u16]) -> Vec<RingChunkV1> {
    let chunk = |entries: &[u16]| {
        let mut slots = [0; RING_CHUNK];
        slots[..entries.len()].copy_from_slice(entries);
        RingChunkV1 { slots }
    };
    entries.chunks(RING_CHUNK).map(chunk).collect()
}

/// Fields of a pool that a plan begins with.
fn empty_pool(first_slot: u32) -> PoolV1 {
    PoolV1 {
        first_slot,
        ..PoolV1::default()
    }
}
