//! Compares the kernel's maps with what is known to be in them, a little at a time, and mends single
//! entries. Nobody but the agent should write them; bugs and people do.

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::Address;
use agent_abi::service::{
    ADDRESSES_MAP, BACKENDS_MAP, FRONTENDS_MAP, RINGS_MAP, RingKeyV1, SERVICES_MAP, SLOTS_MAP,
    SOURCES_MAP, SlotKeyV1,
};

use super::addresses::{Addresses, Change};
use super::maps::Maps;
use super::tables::{Held, Op, SourceRange, Tables};
use crate::divergence::{Divergence, Divergences};
use crate::sys::map::{Table, TableError};

/// Services looked at in one step: a few thousand system calls at most, a few milliseconds.
const SERVICES_A_STEP: usize = 64;

/// Parts of rings looked at in one step, and those of the last ring to its end.
const CHUNKS_A_STEP: usize = 256;

/// Maps whose strange entries are looked for, one after the other.
const SEARCHED: [&str; 6] = [
    FRONTENDS_MAP,
    SERVICES_MAP,
    SLOTS_MAP,
    BACKENDS_MAP,
    RINGS_MAP,
    SOURCES_MAP,
];

/// How far the comparison has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    next_service: u32,
    next_ring: u32,
    next_map: usize,
}

impl Cursor {
    /// Compares the entries of the next few services.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn step(
        &mut self,
        maps: &mut Maps,
        tables: &Tables,
        found: &mut Divergences,
    ) -> Result<(), TableError> {
        let next: Vec<(u32, &Held)> = tables
            .services()
            .range(self.next_service..)
            .take(SERVICES_A_STEP)
            .map(|(id, held)| (*id, held))
            .collect();
        self.next_service = match next.last() {
            Some((id, _)) if next.len() == SERVICES_A_STEP => id + 1,
            _ => 0,
        };
        for (id, held) in next {
            let mut repairs = Vec::new();
            for key in &held.frontends {
                let wanted = tables.frontends().get(key).copied();
                let wrong = compare(maps.frontends.get(*key)?, wanted);
                let op = wanted.map(|value| Op::PutFrontend(*key, value));
                repairs.push((FRONTENDS_MAP, wrong, op));
            }
            let wrong = compare(maps.services.get(id)?, held.value);
            let op = held.value.map(|value| Op::PutService(id, value));
            repairs.push((SERVICES_MAP, wrong, op));
            for (slot, backend) in &held.slots {
                let key = SlotKeyV1 {
                    service: id,
                    slot: *slot,
                };
                let wrong = compare(maps.slots.get(key)?, Some(*backend));
                repairs.push((SLOTS_MAP, wrong, Some(Op::PutSlot(key, *backend))));
            }
            for (backend, value) in &held.backends {
                let wrong = compare(maps.backends.get(*backend)?, Some(*value));
                repairs.push((BACKENDS_MAP, wrong, Some(Op::PutBackend(*backend, *value))));
            }
            for SourceRange { bits, key } in &held.sources {
                // A wider range of the Service answers for one that is missing; the search sees it.
                let there = maps.sources.matches(*bits, *key)?;
                let wrong = (!there).then_some(Divergence::Missing);
                let range = SourceRange {
                    bits: *bits,
                    key: *key,
                };
                repairs.push((SOURCES_MAP, wrong, Some(Op::PutSource(range))));
            }
            // Backends come before what leads to them.
            for (map, wrong, op) in repairs.into_iter().rev() {
                if let (Some(wrong), Some(op)) = (wrong, op) {
                    maps.write(op)?;
                    *found.entry((map, wrong)).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// Compares the next few rings. The answer are the parts to be written anew, whose content is
    /// nowhere but in the Services that use them.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn rings(
        &mut self,
        maps: &Maps,
        tables: &Tables,
    ) -> Result<Vec<(RingKeyV1, Divergence)>, TableError> {
        let mut wrong = Vec::new();
        let first = std::mem::take(&mut self.next_ring);
        for (number, key) in tables.chunks_from(first).enumerate() {
            if number >= CHUNKS_A_STEP && key.chunk == 0 {
                self.next_ring = key.ring;
                break;
            }
            match maps.rings.get(key)? {
                None => wrong.push((key, Divergence::Missing)),
                Some(value) if !tables.is_chunk(&key, &value) => {
                    wrong.push((key, Divergence::Different));
                }
                Some(_) => {}
            }
        }
        Ok(wrong)
    }

    /// Looks for strange entries in the next map.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn search(
        &mut self,
        maps: &mut Maps,
        tables: &Tables,
        found: &mut Divergences,
    ) -> Result<(), TableError> {
        let map = SEARCHED[self.next_map % SEARCHED.len()];
        self.next_map = (self.next_map + 1) % SEARCHED.len();
        let services = tables.services();
        let strange: Vec<Op> = match map {
            FRONTENDS_MAP => strange(maps.frontends.keys()?, |key| {
                !tables.frontends().contains_key(key)
            })
            .map(Op::DeleteFrontend)
            .collect(),
            SERVICES_MAP => strange(maps.services.keys()?, |id| {
                services.get(id).is_none_or(|held| held.value.is_none())
            })
            .map(Op::DeleteService)
            .collect(),
            SLOTS_MAP => strange(maps.slots.keys()?, |key| {
                let held = services.get(&key.service);
                held.is_none_or(|held| !held.slots.contains_key(&key.slot))
            })
            .map(Op::DeleteSlot)
            .collect(),
            BACKENDS_MAP => {
                let known: BTreeSet<u32> = services
                    .values()
                    .flat_map(|held| held.backends.keys().copied())
                    .collect();
                let ids = strange(maps.backends.keys()?, |id| !known.contains(id));
                ids.map(|id| Op::DeleteBackend { service: 0, id }).collect()
            }
            RINGS_MAP => strange(maps.rings.keys()?, |key| !tables.has_chunk(key))
                .map(Op::DeleteRing)
                .collect(),
            _ => return search_sources(maps, tables, found),
        };
        for op in strange {
            maps.write(op)?;
            *found.entry((map, Divergence::Extra)).or_default() += 1;
        }
        Ok(())
    }
}

/// Compares the ranges of sources, all of them: a look-up cannot tell a range from a wider one.
fn search_sources(
    maps: &mut Maps,
    tables: &Tables,
    found: &mut Divergences,
) -> Result<(), TableError> {
    let there = maps.sources.keys()?.into_iter();
    let there: BTreeSet<SourceRange> = there.map(|(bits, key)| SourceRange { bits, key }).collect();
    let services = tables.services().values();
    let wanted: BTreeSet<SourceRange> = services
        .flat_map(|held| held.sources.iter().copied())
        .collect();
    for range in there.symmetric_difference(&wanted) {
        let (op, wrong) = if wanted.contains(range) {
            (Op::PutSource(*range), Divergence::Missing)
        } else {
            (Op::DeleteSource(*range), Divergence::Extra)
        };
        maps.write(op)?;
        *found.entry((SOURCES_MAP, wrong)).or_default() += 1;
    }
    Ok(())
}

/// Compares what the programs know of addresses, all of it: an entry is some bytes.
///
/// # Errors
/// Where the kernel refuses.
pub fn search_addresses(
    map: &mut Table<Address, u32>,
    addresses: &Addresses,
    found: &mut Divergences,
) -> Result<(), TableError> {
    let entries = map.entries()?;
    let there: BTreeMap<Address, u32> = entries.iter().copied().collect();
    for change in addresses.reconcile(&entries) {
        let wrong = match change {
            Change::Delete(_) => Divergence::Extra,
            Change::Put(address, _) if there.contains_key(&address) => Divergence::Different,
            Change::Put(..) => Divergence::Missing,
        };
        change.write(map)?;
        *found.entry((ADDRESSES_MAP, wrong)).or_default() += 1;
    }
    Ok(())
}

fn compare<V: PartialEq>(there: Option<V>, wanted: Option<V>) -> Option<Divergence> {
    match (there, wanted) {
        (None, Some(_)) => Some(Divergence::Missing),
        (Some(there), Some(wanted)) if there != wanted => Some(Divergence::Different),
        _ => None,
    }
}

fn strange<K>(keys: Vec<K>, is_strange: impl Fn(&K) -> bool) -> impl Iterator<Item = K> {
    keys.into_iter().filter(move |key| is_strange(key))
}
