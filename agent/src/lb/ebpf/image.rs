//! What the service maps should contain, and the writes that get there.
//!
//! [`Tables`] is the content of the maps, ordered by service. [`make`] and [`dismantle`] turn one
//! unit of `Desired` into writes: first everything that adds, for all units, then everything that
//! removes. A packet that walks frontend → service → slot → backend at any moment between two
//! writes finds a whole path, but for one race: having read a service's number of slots, it may
//! look for a slot that is gone a moment later, and asks again (`agent-ebpf`, `services`).
//!
//! Ids found in the maps are kept, so an established flow survives a change elsewhere, and a
//! restart with an unchanged cluster writes nothing. Nothing here talks to the kernel; see `maps`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_abi::Address;
use agent_abi::service::{
    BACKEND_LOCAL, BackendV1, FRONTEND_NODE_PORT, FrontendKeyV1, FrontendV1, NEXT_BACKEND,
    NEXT_SERVICE, ServiceV1, SlotKeyV1,
};

use crate::desired::{Backend, Frontend, LbService, Scope};

/// One write to one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Moves the next free id of `NEXT_SERVICE` or `NEXT_BACKEND` on.
    Allocate {
        /// Index in the allocator.
        index: u32,
        /// The next free id.
        next: u32,
    },
    /// Writes a backend.
    PutBackend(u32, BackendV1),
    /// Writes a slot.
    PutSlot(SlotKeyV1, u32),
    /// Writes a service.
    PutService(u32, ServiceV1),
    /// Writes a frontend.
    PutFrontend(FrontendKeyV1, FrontendV1),
    /// Deletes a frontend.
    DeleteFrontend(FrontendKeyV1),
    /// Deletes a slot.
    DeleteSlot(SlotKeyV1),
    /// Deletes a backend.
    DeleteBackend {
        /// Its service.
        service: u32,
        /// Its id.
        id: u32,
    },
    /// Deletes a service.
    DeleteService(u32),
}

/// What the maps hold of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Slots in use; `None` where the service itself is missing.
    pub slots_in_use: Option<u32>,
    /// Its frontends.
    pub frontends: BTreeSet<FrontendKeyV1>,
    /// Its slots, to backend ids.
    pub slots: BTreeMap<u32, u32>,
    /// Its backends, by id.
    pub backends: BTreeMap<u32, BackendV1>,
}

/// The content of the service maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    services: BTreeMap<u32, Held>,
    frontends: BTreeMap<FrontendKeyV1, FrontendV1>,
    slots: usize,
    backends: usize,
    declared: usize,
    next_service: u32,
    next_backend: u32,
}

impl Tables {
    /// Tables with nothing in them, whose next ids are these. Ids begin at 1.
    pub fn new(next_service: u32, next_backend: u32) -> Self {
        Self {
            next_service: next_service.max(1),
            next_backend: next_backend.max(1),
            ..Self::default()
        }
    }

    /// Brings the tables in line with a write that the kernel has done.
    pub fn commit(&mut self, op: Op) {
        match op {
            Op::Allocate { index, next } if index == NEXT_SERVICE => self.next_service = next,
            Op::Allocate { next, .. } => self.next_backend = next,
            Op::PutBackend(id, value) => {
                let held = self.services.entry(value.service).or_default();
                self.backends += usize::from(held.backends.insert(id, value).is_none());
            }
            Op::PutSlot(key, backend) => {
                let held = self.services.entry(key.service).or_default();
                self.slots += usize::from(held.slots.insert(key.slot, backend).is_none());
            }
            Op::PutService(id, value) => {
                let held = self.services.entry(id).or_default();
                self.declared += usize::from(held.slots_in_use.replace(value.slots).is_none());
            }
            Op::PutFrontend(key, value) => {
                if let Some(old) = self.frontends.insert(key, value) {
                    self.forget_frontend(key, old);
                }
                self.services
                    .entry(value.service)
                    .or_default()
                    .frontends
                    .insert(key);
            }
            Op::DeleteFrontend(key) => {
                if let Some(old) = self.frontends.remove(&key) {
                    self.forget_frontend(key, old);
                }
            }
            Op::DeleteSlot(key) => {
                let held = self.services.get_mut(&key.service);
                self.slots -=
                    usize::from(held.is_some_and(|held| held.slots.remove(&key.slot).is_some()));
                self.drop_if_empty(key.service);
            }
            Op::DeleteBackend { service, id } => {
                let held = self.services.get_mut(&service);
                self.backends -=
                    usize::from(held.is_some_and(|held| held.backends.remove(&id).is_some()));
                self.drop_if_empty(service);
            }
            Op::DeleteService(id) => {
                let held = self.services.get_mut(&id);
                self.declared -=
                    usize::from(held.is_some_and(|held| held.slots_in_use.take().is_some()));
                self.drop_if_empty(id);
            }
        }
    }

    /// What is held, by service id.
    pub fn services(&self) -> &BTreeMap<u32, Held> {
        &self.services
    }

    /// Every frontend.
    pub fn frontends(&self) -> &BTreeMap<FrontendKeyV1, FrontendV1> {
        &self.frontends
    }

    /// Entries in use of the maps of frontends, services, slots and backends.
    pub fn usage(&self) -> [usize; 4] {
        [
            self.frontends.len(),
            self.declared,
            self.slots,
            self.backends,
        ]
    }

    /// The service id that one of a unit's frontends leads to.
    pub fn id_of(&self, unit: &LbService) -> Option<u32> {
        unit.frontends
            .iter()
            .find_map(|frontend| self.frontends.get(&frontend_key(frontend)))
            .map(|found| found.service)
    }

    /// The next free service id.
    pub fn next_service(&self) -> u32 {
        self.next_service
    }

    fn forget_frontend(&mut self, key: FrontendKeyV1, old: FrontendV1) {
        if self
            .frontends
            .get(&key)
            .is_some_and(|new| new.service == old.service)
        {
            return;
        }
        if let Some(held) = self.services.get_mut(&old.service) {
            held.frontends.remove(&key);
        }
        self.drop_if_empty(old.service);
    }

    fn drop_if_empty(&mut self, id: u32) {
        if self
            .services
            .get(&id)
            .is_some_and(|held| *held == Held::default())
        {
            self.services.remove(&id);
        }
    }
}

/// The writes that add what is missing of `unit`, as service `id`.
pub fn make(id: u32, unit: &LbService, tables: &Tables) -> Vec<Op> {
    let nothing = Held::default();
    let held = tables.services.get(&id).unwrap_or(&nothing);
    let mut ops = Vec::new();
    if id >= tables.next_service {
        ops.push(Op::Allocate {
            index: NEXT_SERVICE,
            next: id + 1,
        });
    }
    if held.slots_in_use.is_none() {
        // The first to be refused when there is no room, so that nothing else is left behind.
        ops.push(Op::PutService(id, ServiceV1 { slots: 0 }));
    }
    let layout = Layout::of(id, unit, held, tables.next_backend);
    if layout.next_backend != tables.next_backend {
        ops.push(Op::Allocate {
            index: NEXT_BACKEND,
            next: layout.next_backend,
        });
    }
    let fresh = |(backend, value): &(&u32, &BackendV1)| held.backends.get(backend) != Some(value);
    ops.extend(
        layout
            .backends
            .iter()
            .filter(fresh)
            .map(|(backend, value)| Op::PutBackend(*backend, *value)),
    );
    ops.extend(layout.fill.iter().map(|(slot, backend)| {
        Op::PutSlot(
            SlotKeyV1 {
                service: id,
                slot: *slot,
            },
            *backend,
        )
    }));
    if layout.slots > held.slots_in_use.unwrap_or(0) {
        ops.push(Op::PutService(
            id,
            ServiceV1 {
                slots: layout.slots,
            },
        ));
    }
    for frontend in &unit.frontends {
        let (key, value) = (frontend_key(frontend), frontend_value(id, frontend));
        if tables.frontends.get(&key) != Some(&value) {
            ops.push(Op::PutFrontend(key, value));
        }
    }
    ops
}

/// The writes that remove what service `id` holds beyond `unit`; all of it where there is no unit.
/// To be called when every unit has been made, since frontends may have changed hands.
pub fn dismantle(id: u32, unit: Option<&LbService>, tables: &Tables) -> Vec<Op> {
    let Some(held) = tables.services.get(&id) else {
        return Vec::new();
    };
    let wanted: BTreeSet<FrontendKeyV1> = unit
        .iter()
        .flat_map(|unit| &unit.frontends)
        .map(frontend_key)
        .collect();
    let mut ops: Vec<Op> = held
        .frontends
        .difference(&wanted)
        .map(|key| Op::DeleteFrontend(*key))
        .collect();
    let layout = match unit {
        Some(unit) => Layout::of(id, unit, held, tables.next_backend),
        None => Layout::default(),
    };
    ops.extend(layout.moves.iter().map(|(slot, backend)| {
        Op::PutSlot(
            SlotKeyV1 {
                service: id,
                slot: *slot,
            },
            *backend,
        )
    }));
    match unit {
        Some(_) if held.slots_in_use.is_some_and(|slots| slots > layout.slots) => {
            ops.push(Op::PutService(
                id,
                ServiceV1 {
                    slots: layout.slots,
                },
            ));
        }
        None if held.slots_in_use.is_some() => ops.push(Op::DeleteService(id)),
        _ => {}
    }
    let beyond = held.slots.keys().filter(|slot| **slot >= layout.slots);
    ops.extend(beyond.map(|slot| {
        Op::DeleteSlot(SlotKeyV1 {
            service: id,
            slot: *slot,
        })
    }));
    let gone = held
        .backends
        .keys()
        .filter(|backend| !layout.backends.contains_key(backend));
    ops.extend(gone.map(|backend| Op::DeleteBackend {
        service: id,
        id: *backend,
    }));
    ops
}

/// Which backend goes where in one service.
#[derive(Debug, Default)]
struct Layout {
    /// Backends by id, those that are held under their id.
    backends: BTreeMap<u32, BackendV1>,
    /// Slots to write while adding.
    fill: Vec<(u32, u32)>,
    /// Slots to write before shrinking: backends from the end take the place of those that go.
    moves: Vec<(u32, u32)>,
    /// Slots in use in the end.
    slots: u32,
    next_backend: u32,
}

impl Layout {
    fn of(id: u32, unit: &LbService, held: &Held, next_backend: u32) -> Self {
        let mut layout = Self {
            next_backend,
            ..Self::default()
        };
        let mut known: BTreeMap<(Address, [u8; 2]), u32> = BTreeMap::new();
        for (backend, value) in held.backends.iter().rev() {
            known.insert((value.address, value.port), *backend);
        }
        for backend in &unit.backends {
            let value = backend_value(id, backend);
            let backend = known
                .get(&(value.address, value.port))
                .copied()
                .unwrap_or_else(|| {
                    layout.next_backend += 1;
                    layout.next_backend - 1
                });
            layout.backends.insert(backend, value);
        }
        layout.place(held);
        layout
    }

    fn place(&mut self, held: &Held) {
        let in_use = held.slots_in_use.unwrap_or(0);
        let mut unplaced: BTreeSet<u32> = self.backends.keys().copied().collect();
        let mut kept = BTreeMap::new();
        let mut holes = Vec::new();
        for slot in 0..in_use {
            match held
                .slots
                .get(&slot)
                .filter(|backend| unplaced.remove(backend))
            {
                Some(backend) => drop(kept.insert(slot, *backend)),
                None => holes.push(slot),
            }
        }
        let mut unplaced = unplaced.into_iter();
        let mut free = holes.into_iter().chain(in_use..);
        for backend in unplaced.by_ref() {
            // The chain has no end, as there are more numbers than backends.
            let Some(slot) = free.next() else { break };
            kept.insert(slot, backend);
            if held.slots.get(&slot) != Some(&backend) {
                self.fill.push((slot, backend));
            }
        }
        self.slots = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        let tail = kept.range(self.slots..).map(|(_, backend)| *backend);
        self.moves = (0..self.slots)
            .filter(|slot| !kept.contains_key(slot))
            .zip(tail)
            .collect();
    }
}

/// The key of a frontend.
pub fn frontend_key(frontend: &Frontend) -> FrontendKeyV1 {
    FrontendKeyV1 {
        address: address(frontend.address),
        port: frontend.port.get().to_be_bytes(),
        protocol: frontend.protocol.number(),
        _pad: 0,
    }
}

fn frontend_value(service: u32, frontend: &Frontend) -> FrontendV1 {
    let flags = match frontend.scope {
        Scope::ClusterIp => 0,
        Scope::NodePort => FRONTEND_NODE_PORT,
    };
    FrontendV1 { service, flags }
}

fn backend_value(service: u32, backend: &Backend) -> BackendV1 {
    BackendV1 {
        address: address(backend.address),
        port: backend.port.get().to_be_bytes(),
        flags: if backend.local { BACKEND_LOCAL } else { 0 },
        service,
    }
}

/// An address as the maps have it.
pub fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
