//! What the service maps should contain, and the writes that get there.
//!
//! [`make`] and [`dismantle`] turn one unit of `Desired` into writes: first everything that adds,
//! for all units, then everything that removes. A packet that walks frontend → service → slot →
//! backend at any moment between two writes finds a whole path, but for one race: having read a
//! pool's number of slots, it may look for a slot that is gone a moment later, and asks again
//! (`agent-ebpf`, `services`).
//!
//! Ids found in the maps are kept, so an established flow survives a change elsewhere, and a
//! restart with an unchanged cluster writes nothing. Nothing here talks to the kernel; see `maps`.

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::Address;
use agent_abi::service::{
    BackendV2, FrontendKeyV1, NEXT_BACKEND, NEXT_RING, NEXT_SERVICE, POOL_CLUSTER, POOL_LOCAL,
    SERVICE_AFFINITY, SERVICE_BY_PACKET, SERVICE_DROP_LOCAL, SERVICE_HASH_DESTINATION,
    SERVICE_HASH_PORT, SERVICE_HASH_SOURCE, ServiceV2, SlotKeyV1, SourceKeyV1,
};
use model::{SessionAffinity, SourceRanges};

use super::entries::{address, backend_value, frontend_key, frontend_value, prefix_bits};
use super::pool::{self, Plan};
pub use super::tables::{Held, Op, SourceRange, Tables};
use crate::desired::{Choice, LbService, Pool, Scope};

/// The writes that add what is missing of `unit`, as service `id`.
pub fn make(id: u32, unit: &LbService, tables: &Tables) -> Vec<Op> {
    let nothing = Held::default();
    let held = tables.services().get(&id).unwrap_or(&nothing);
    let mut ops = Vec::new();
    if id >= tables.next(NEXT_SERVICE) {
        ops.push(Op::Allocate {
            index: NEXT_SERVICE,
            next: id + 1,
        });
    }
    let flags = flags(unit);
    if held.value.is_none() {
        // The first to be refused when there is no room, so that nothing else is left behind.
        ops.push(Op::PutService(
            id,
            ServiceV2 {
                flags,
                ..ServiceV2::default()
            },
        ));
    }
    let (backends, next_backend) = numbered(id, unit, held, tables.next(NEXT_BACKEND));
    if next_backend != tables.next(NEXT_BACKEND) {
        ops.push(Op::Allocate {
            index: NEXT_BACKEND,
            next: next_backend,
        });
    }
    let fresh = |(backend, value): &(&u32, &BackendV2)| held.backends.get(backend) != Some(value);
    ops.extend(
        backends
            .iter()
            .filter(fresh)
            .map(|(backend, value)| Op::PutBackend(*backend, *value)),
    );
    let mut plans = plans(unit, held, &backends, tables);
    let mut next_ring = tables.next(NEXT_RING);
    let mut ids_of_new = BTreeMap::new();
    for plan in &mut plans {
        if plan.new_ring.is_empty() {
            continue;
        }
        let ring = *ids_of_new.entry(plan.new_ring.clone()).or_insert_with(|| {
            ops.push(Op::Allocate {
                index: NEXT_RING,
                next: next_ring + 1,
            });
            ops.extend(plan.ring_ops(next_ring));
            next_ring += 1;
            next_ring - 1
        });
        plan.grown.ring = ring;
    }
    for plan in &plans {
        ops.extend(
            plan.fill
                .iter()
                .map(|(slot, backend)| put_slot(id, *slot, *backend)),
        );
    }
    let grown = ServiceV2 {
        pools: [plans[POOL_CLUSTER].grown, plans[POOL_LOCAL].grown],
        flags,
        affinity_seconds: affinity_seconds(unit),
    };
    let known = held.value.unwrap_or(ServiceV2 {
        flags,
        ..ServiceV2::default()
    });
    if grown != known {
        ops.push(Op::PutService(id, grown));
    }
    let sources = sources(id, unit);
    ops.extend(
        sources
            .difference(&held.sources)
            .map(|range| Op::PutSource(*range)),
    );
    for frontend in unit.frontends.iter() {
        let (key, value) = (frontend_key(frontend), frontend_value(id, frontend, unit));
        if tables.frontends().get(&key) != Some(&value) {
            ops.push(Op::PutFrontend(key, value));
        }
    }
    ops
}

/// The writes that remove what service `id` holds beyond `unit`; all of it where there is no unit.
/// To be called when every unit has been made, since frontends may have changed hands.
pub fn dismantle(id: u32, unit: Option<&LbService>, tables: &Tables) -> Vec<Op> {
    let Some(held) = tables.services().get(&id) else {
        return Vec::new();
    };
    let frontends = unit.iter().flat_map(|unit| unit.frontends.iter());
    let wanted: BTreeSet<FrontendKeyV1> = frontends.map(frontend_key).collect();
    let mut ops: Vec<Op> = held
        .frontends
        .iter()
        .filter(|key| !wanted.contains(key))
        .map(|key| Op::DeleteFrontend(*key))
        .collect();
    let (backends, _) = match unit {
        Some(unit) => numbered(id, unit, held, tables.next(NEXT_BACKEND)),
        None => (BTreeMap::new(), 0),
    };
    let plans = unit.map(|unit| plans(unit, held, &backends, tables));
    for plan in plans.iter().flatten() {
        ops.extend(
            plan.moves
                .iter()
                .map(|(slot, backend)| put_slot(id, *slot, *backend)),
        );
    }
    let pools = match (&plans, held.value) {
        (Some([cluster, local]), Some(value)) => {
            let pools = [cluster.last, local.last];
            if value.pools != pools {
                ops.push(Op::PutService(id, ServiceV2 { pools, ..value }));
            }
            pools
        }
        (None, Some(_)) => {
            ops.push(Op::DeleteService(id));
            Default::default()
        }
        (_, None) => Default::default(),
    };
    let in_use = |slot: u32| {
        pools
            .iter()
            .any(|pool| slot >= pool.first_slot && slot - pool.first_slot < pool.slots)
    };
    ops.extend(
        held.slots
            .keys()
            .filter(|slot| !in_use(**slot))
            .map(|slot| {
                Op::DeleteSlot(SlotKeyV1 {
                    service: id,
                    slot: *slot,
                })
            }),
    );
    let sources = unit.map(|unit| sources(id, unit)).unwrap_or_default();
    ops.extend(
        held.sources
            .difference(&sources)
            .map(|range| Op::DeleteSource(*range)),
    );
    let gone = held
        .backends
        .keys()
        .filter(|backend| !backends.contains_key(backend));
    ops.extend(gone.map(|backend| Op::DeleteBackend {
        service: id,
        id: *backend,
    }));
    ops
}

/// The writes that remove rings which no pool uses any more.
pub fn sweep(tables: &Tables) -> Vec<Op> {
    tables
        .unused_rings()
        .into_iter()
        .map(Op::DeleteRing)
        .collect()
}

fn put_slot(service: u32, slot: u32, backend: u32) -> Op {
    Op::PutSlot(SlotKeyV1 { service, slot }, backend)
}

/// The backends of a unit by id; those that are held keep theirs. And the next free id.
fn numbered(
    id: u32,
    unit: &LbService,
    held: &Held,
    mut next: u32,
) -> (BTreeMap<u32, BackendV2>, u32) {
    let mut known: BTreeMap<(Address, [u8; 2]), u32> = BTreeMap::new();
    for (backend, value) in held.backends.iter().rev() {
        known.insert((value.address, value.port), *backend);
    }
    let mut numbered = BTreeMap::new();
    for backend in unit.backends.iter() {
        let value = backend_value(id, backend);
        let found = known.get(&(value.address, value.port)).copied();
        let number = found.unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        numbered.insert(number, value);
    }
    (numbered, next)
}

/// How each pool gets from what is held to what is wanted.
fn plans(
    unit: &LbService,
    held: &Held,
    backends: &BTreeMap<u32, BackendV2>,
    tables: &Tables,
) -> [Plan; 2] {
    let by_name: BTreeMap<(Address, [u8; 2]), u32> = backends
        .iter()
        .map(|(id, value)| ((value.address, value.port), *id))
        .collect();
    let is_hashed = unit.choice != Choice::Random || unit.affinity != SessionAffinity::None;
    // Where no client is given the local pool, `connect` still asks it who may be a backend itself; what is
    // hashed is not chosen there.
    let (chosen_from, looked_at) = (unit.uses_local_pool(), !is_hashed);
    let members = |pool: Pool| -> Vec<pool::Member> {
        let is_chosen_from = pool == Pool::Cluster || chosen_from;
        let backends = unit.pool(pool).filter(|_| is_chosen_from || looked_at);
        backends
            .filter_map(|backend| {
                let name = (address(backend.address), backend.port.get().to_be_bytes());
                Some(pool::Member {
                    backend: *by_name.get(&name)?,
                    name,
                    // One for all needs no ring.
                    weight: if is_chosen_from { backend.weight } else { 1 },
                })
            })
            .collect()
    };
    let current = held.value.unwrap_or_default().pools;
    [
        Plan::new(
            POOL_CLUSTER,
            current[POOL_CLUSTER],
            &members(Pool::Cluster),
            is_hashed,
            held,
            tables,
        ),
        Plan::new(
            POOL_LOCAL,
            current[POOL_LOCAL],
            &members(Pool::Local),
            is_hashed,
            held,
            tables,
        ),
    ]
}

fn flags(unit: &LbService) -> u32 {
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let hashed = match unit.choice {
        Choice::Random => 0,
        Choice::Hash {
            source,
            port,
            destination,
        } => {
            bit(source, SERVICE_HASH_SOURCE)
                | bit(port, SERVICE_HASH_PORT)
                | bit(destination, SERVICE_HASH_DESTINATION)
        }
    };
    let affinity = bit(unit.affinity != SessionAffinity::None, SERVICE_AFFINITY);
    // The client's address is not known before its packet is there.
    let by_packet = bit(hashed | affinity != 0, SERVICE_BY_PACKET);
    let has_endpoints = unit.pool(Pool::Cluster).next().is_some();
    let drop_local = bit(unit.uses_local_pool() && has_endpoints, SERVICE_DROP_LOCAL);
    hashed | affinity | by_packet | drop_local
}

fn affinity_seconds(unit: &LbService) -> u32 {
    match unit.affinity {
        SessionAffinity::None => 0,
        SessionAffinity::ClientIp { timeout } => {
            u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)
        }
    }
}

fn sources(id: u32, unit: &LbService) -> BTreeSet<SourceRange> {
    let SourceRanges::Only(ranges) = &unit.sources else {
        return BTreeSet::new();
    };
    let has_balancer = unit
        .frontends
        .iter()
        .any(|frontend| frontend.scope == Scope::LoadBalancer);
    let ranges = ranges.iter().filter(|_| has_balancer);
    ranges
        .map(|range| SourceRange {
            bits: 32 + prefix_bits(range),
            key: SourceKeyV1 {
                service: id,
                address: address(range.network()),
            },
        })
        .collect()
}
