//! From an address and port to a backend.

use agent_abi::Address;
use agent_abi::connection::TupleV1;
use agent_abi::hash;
use agent_abi::service::{
    AffinityKeyV1, AffinityV1, BACKEND_IN_CLUSTER, BACKEND_IN_LOCAL, BACKEND_LOCAL, BackendV2,
    FRONTEND_LOCAL_INSIDE, FRONTEND_LOCAL_OUTSIDE, FrontendKeyV1, FrontendV2, POOL_CLUSTER,
    POOL_LOCAL, PoolV1, RING_CHUNK, RingKeyV1, SERVICE_AFFINITY, SERVICE_BY_PACKET,
    SERVICE_DROP_LOCAL, SERVICE_HASH, ServiceV2, SlotKeyV1, SourceKeyV1,
};
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::maps::lpm_trie::Key;

use crate::kernel;
use crate::maps::{
    AFFINITY_V2, BACKENDS_V2, FRONTENDS_V2, RINGS_V2, SERVICES_V2, SLOTS_V2, SOURCES_V2,
};
use crate::packet::{Hook, same_address};
use crate::source;

/// How often a choice is repeated when the agent shrinks the service at the same moment: between
/// reading the number of slots and reading the slot, at most one write of the agent fits.
const ATTEMPTS: u32 = 3;

/// Backends of this node that are looked at for one that the process may be: `connect` is to cost the same
/// whatever there are.
const LOOKED_AT: u32 = 16;

const SECOND: u64 = 1_000_000_000;

/// Where a new connection goes.
pub(crate) enum Choice {
    /// To this backend.
    Backend {
        id: u32,
        backend: &'static BackendV2,
    },
    /// Nowhere: the Service has no endpoint.
    NoEndpoint,
    /// Nowhere: the Service has endpoints, but this node has none.
    NoLocalEndpoint,
    /// The tables changed under every attempt.
    Unsettled,
    /// The packet has to be seen first.
    ByPacket,
}

/// The frontend at an address and port.
#[inline(always)]
pub(crate) fn frontend(
    address: Address,
    port: [u8; 2],
    protocol: u8,
) -> Option<&'static FrontendV2> {
    let key = FrontendKeyV1 {
        address,
        port,
        protocol,
        _pad: 0,
    };
    read(FRONTENDS_V2.get_ptr(&key))
}

/// Whether a Service's source ranges hold an address.
#[inline(always)]
pub(crate) fn is_source_allowed(service: u32, address: &Address) -> bool {
    let key = Key::new(
        32 + 128,
        SourceKeyV1 {
            service,
            address: *address,
        },
    );
    SOURCES_V2.get(&key).is_some()
}

/// The pool a client is given a backend from.
#[inline(always)]
fn pool_of(frontend: &FrontendV2, is_inside: bool) -> usize {
    let local = if is_inside {
        FRONTEND_LOCAL_INSIDE
    } else {
        FRONTEND_LOCAL_OUTSIDE
    };
    if frontend.flags & local != 0 {
        POOL_LOCAL
    } else {
        POOL_CLUSTER
    }
}

/// Chooses for a `connect`, before there is a packet. Who may be a backend itself is left to the packets, where
/// it sees the Service's address: that is settled first, since to leave some choices to another one would
/// change how often each backend is chosen.
#[inline(always)]
pub(crate) fn choose_at_connect(context: *mut bpf_sock_addr, frontend: &FrontendV2) -> Choice {
    let index = pool_of(frontend, true);
    for _ in 0..ATTEMPTS {
        let Some(service) = read(SERVICES_V2.get_ptr(&frontend.service)) else {
            return Choice::NoEndpoint;
        };
        if service.flags & SERVICE_BY_PACKET != 0 {
            return Choice::ByPacket;
        }
        if may_be_backend(context, frontend.service, service) {
            return Choice::ByPacket;
        }
        if let Some(chosen) = try_choose(frontend.service, service, index, None, kernel::random()) {
            return chosen;
        }
    }
    Choice::Unsettled
}

/// Whether somebody where the process runs listens as a backend of this node does: at its address and port, or
/// at the port of every address, as most do.
#[inline(always)]
fn may_be_backend(context: *mut bpf_sock_addr, id: u32, service: &ServiceV2) -> bool {
    let pool = &service.pools[POOL_LOCAL];
    for slot in 0..LOOKED_AT {
        if slot >= pool.slots {
            break;
        }
        let key = SlotKeyV1 {
            service: id,
            slot: pool.first_slot.wrapping_add(slot),
        };
        let found = read(SLOTS_V2.get_ptr(&key)).and_then(|id| backend(*id));
        if let Some(found) = found
            && kernel::has_listener(context, &found.address, found.port)
        {
            return true;
        }
    }
    false
}

/// Chooses for the first packet of a connection. `affinity` is room for a key.
#[inline(always)]
pub(crate) fn choose(
    frontend: &FrontendV2,
    is_inside: bool,
    tuple: &TupleV1,
    affinity: &mut AffinityKeyV1,
    now: u64,
) -> Choice {
    let index = pool_of(frontend, is_inside);
    // A packet that is sent again before anything is known of its connection gets the same.
    let lot = hash::of_connection(tuple, frontend.service);
    for _ in 0..ATTEMPTS {
        let Some(service) = read(SERVICES_V2.get_ptr(&frontend.service)) else {
            return Choice::NoEndpoint;
        };
        let sticky = service.flags & SERVICE_AFFINITY != 0;
        if sticky {
            affinity.address = tuple.source;
            affinity.service = frontend.service;
            affinity.pool = index as u32;
            if let Some(kept) = keep(affinity, service, index, now) {
                return kept;
            }
        }
        if let Some(chosen) = try_choose(frontend.service, service, index, Some(tuple), lot) {
            if let Choice::Backend { id, .. } = chosen
                && sticky
            {
                let value = AffinityV1 {
                    backend: id,
                    _pad: 0,
                    last_seen: now,
                };
                // Where it cannot be kept, the ring gives the same answer next time.
                let _kept = AFFINITY_V2.insert(&*affinity, &value, 0);
            }
            return chosen;
        }
    }
    Choice::Unsettled
}

/// Chooses for a packet from another machine where its headers alone decide; `None` where they do
/// not, where there is nothing to choose, and where the tables change at this moment.
#[inline(always)]
fn choose_by_hash(frontend: &FrontendV2, tuple: &TupleV1) -> Option<(u32, &'static BackendV2)> {
    let service = read(SERVICES_V2.get_ptr(&frontend.service))?;
    if service.flags & SERVICE_HASH == 0 || service.flags & SERVICE_AFFINITY != 0 {
        return None;
    }
    let is_inside = source::is_inside(Hook::UplinkIngress, &tuple.source);
    let index = pool_of(frontend, is_inside);
    match try_choose(frontend.service, service, index, Some(tuple), 0)? {
        Choice::Backend { id, backend } => Some((id, backend)),
        _ => None,
    }
}

/// The backend that [`choose_by_hash`] finds, and its node; `None` where that is this one, or none that
/// packets may be sent to as they are.
#[inline(always)]
pub(crate) fn node_by_hash(
    frontend: &FrontendV2,
    tuple: &TupleV1,
) -> Option<(u32, &'static Address)> {
    let (id, backend) = choose_by_hash(frontend, tuple)?;
    let elsewhere = backend.flags & BACKEND_LOCAL == 0 && !same_address(&backend.node, &[0; 16]);
    elsewhere.then_some((id, &backend.node))
}

/// The backend a client had, while it is still in the pool.
#[inline(always)]
fn keep(key: &AffinityKeyV1, service: &ServiceV2, index: usize, now: u64) -> Option<Choice> {
    let entry = kernel::affinity(AFFINITY_V2.get_ptr_mut(key)?);
    let idle = now.saturating_sub(entry.last_seen);
    if idle > u64::from(service.affinity_seconds) * SECOND {
        return None;
    }
    let found = backend(entry.backend)?;
    let in_pool = if index == POOL_LOCAL {
        BACKEND_IN_LOCAL
    } else {
        BACKEND_IN_CLUSTER
    };
    if found.flags & in_pool == 0 {
        return None;
    }
    entry.last_seen = now;
    Some(Choice::Backend {
        id: entry.backend,
        backend: found,
    })
}

/// One attempt; `None` where the tables changed under it. `lot` decides where a Service leaves it to
/// chance.
#[inline(always)]
fn try_choose(
    id: u32,
    service: &ServiceV2,
    index: usize,
    tuple: Option<&TupleV1>,
    lot: u32,
) -> Option<Choice> {
    let pool = if index == POOL_LOCAL {
        &service.pools[POOL_LOCAL]
    } else {
        &service.pools[POOL_CLUSTER]
    };
    if pool.slots == 0 {
        let drop = index == POOL_LOCAL && service.flags & SERVICE_DROP_LOCAL != 0;
        return Some(if drop {
            Choice::NoLocalEndpoint
        } else {
            Choice::NoEndpoint
        });
    }
    let slot = match tuple {
        Some(tuple) if pool.ring != 0 && service.flags & SERVICE_HASH != 0 => {
            entry(pool, hash::of_packet(tuple, service.flags))?
        }
        _ if pool.ring != 0 => entry(pool, lot)?,
        _ => lot % pool.slots,
    };
    let key = SlotKeyV1 {
        service: id,
        slot: pool.first_slot.wrapping_add(slot),
    };
    let id = *read(SLOTS_V2.get_ptr(&key))?;
    let backend = backend(id)?;
    Some(Choice::Backend { id, backend })
}

/// What the ring of a pool says to a number.
#[inline(always)]
fn entry(pool: &PoolV1, number: u32) -> Option<u32> {
    let at = number.checked_rem(pool.ring_size)?;
    let key = RingKeyV1 {
        ring: pool.ring,
        chunk: at / RING_CHUNK as u32,
    };
    let chunk = read(RINGS_V2.get_ptr(&key))?;
    let within = at as usize % RING_CHUNK;
    Some(u32::from(chunk.slots[within]))
}

/// A backend that is still in force.
#[inline(always)]
pub(crate) fn backend(id: u32) -> Option<&'static BackendV2> {
    read(BACKENDS_V2.get_ptr(&id))
}

#[expect(unsafe_code, reason = "map values are raw pointers")]
#[inline(always)]
pub(crate) fn read<T>(value: Option<*const T>) -> Option<&'static T> {
    // SAFETY: the pointer comes from a lookup of this program run in a map that is not
    // preallocated, so its memory is not reused before the run ends (RCU); the agent replaces
    // elements whole and the programs do not write them.
    value.map(|value| unsafe { &*value })
}
