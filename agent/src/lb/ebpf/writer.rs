//! Units into the maps: what the kernel has written is known a moment later, and a unit that does not fit is not
//! begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_abi::Address;
use agent_abi::service::{BACKENDS_MAP, NEXT_SERVICE, RINGS_MAP, SLOTS_MAP};

use super::fullness::MAPS;
use super::image::{Op, dismantle, make, sweep};
use super::known::Known;
use super::maps::Maps;
use super::shares::Shares;
use crate::desired::{Desired, LbService, LbServiceKey};
use crate::sys::map::{Table, TableError};

/// The maps, and what is known of them.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) maps: &'a mut Maps,
    pub(super) addresses: &'a mut Table<Address, u32>,
    pub(super) known: Known,
    /// Writes so far.
    pub(super) operations: &'a mut u64,
}

/// What a unit lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// Index in [`MAPS`].
    map: usize,
    /// Entries of it that the unit needs.
    needed: usize,
    /// All that there are.
    of: u32,
}

impl Writer<'_> {
    /// Adds what is missing of a unit. Where there is no room for all of it, nothing is written and the answer
    /// says what lacks: what the unit had stays in force.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn make(
        &mut self,
        key: &LbServiceKey,
        unit: &LbService,
    ) -> Result<Option<Lack>, TableError> {
        let known = &mut self.known;
        let id = known.ids.get(key).copied();
        let id = id.unwrap_or_else(|| known.tables.next(NEXT_SERVICE));
        let ops = make(id, unit, &known.tables);
        let (used, growth) = (known.tables.usage(), known.tables.growth(&ops));
        for (map, of) in self.maps.room().into_iter().enumerate() {
            if growth[map] > 0 && used[map] + growth[map] > of as usize {
                let needed = growth[map];
                return Ok(Some(Lack { map, needed, of }));
            }
        }
        known.ids.insert(key.clone(), id);
        self.write_all(ops)?;
        Ok(None)
    }

    /// Removes what units hold beyond what is desired of them, `but` some, and services of nobody.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn remove_beyond(
        &mut self,
        keys: &BTreeSet<LbServiceKey>,
        but: &BTreeSet<LbServiceKey>,
        desired: &Desired,
    ) -> Result<(), TableError> {
        for id in self.known.strangers() {
            self.write_all(dismantle(id, None, &self.known.tables))?;
        }
        for key in keys.difference(but) {
            self.remove(key, desired.services.get(key))?;
        }
        self.write_all(sweep(&self.known.tables))
    }

    fn remove(
        &mut self,
        key: &LbServiceKey,
        unit: Option<&Arc<LbService>>,
    ) -> Result<(), TableError> {
        let Some(id) = self.known.ids.get(key).copied() else {
            return Ok(());
        };
        let unit = unit.map(AsRef::as_ref);
        self.write_all(dismantle(id, unit, &self.known.tables))?;
        if unit.is_none() {
            self.known.ids.remove(key);
        }
        Ok(())
    }

    fn write_all(&mut self, ops: Vec<Op>) -> Result<(), TableError> {
        for op in ops {
            self.maps.write(op)?;
            let Known {
                tables, addresses, ..
            } = &mut self.known;
            let change = addresses.follow(&op, tables);
            tables.commit(op);
            if let Some(change) = change {
                change.write(self.addresses)?;
            }
            *self.operations += 1;
        }
        Ok(())
    }
}

/// Who holds what of the maps that were full, by index in [`MAPS`].
#[derive(Debug, Default)]
pub(super) struct Crowd(BTreeMap<usize, Shares>);

impl Crowd {
    /// Makes units that there was no room for, in the place of others where `shares` finds that right. Those that
    /// have none after all are noted, as are those that went.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn make_room(
        mut self,
        lacking: &BTreeSet<LbServiceKey>,
        desired: &Desired,
        writer: &mut Writer<'_>,
    ) -> Result<(), TableError> {
        for key in lacking {
            let Some(unit) = desired.services.get(key) else {
                continue;
            };
            while let Some(lack) = writer.make(key, unit)? {
                let shares = self.0.entry(lack.map);
                let shares = shares.or_insert_with(|| Shares::of(lack.map, &writer.known));
                let goers = shares.who_makes_room(key, lack.needed);
                if goers.is_empty() {
                    writer.known.failures.insert(key.clone(), lack.told());
                    break;
                }
                for goer in goers {
                    writer.remove(&goer, None)?;
                    let told = lack.told_to_goer(&goer);
                    writer.known.failures.insert(goer.clone(), told);
                    self.note(&goer, &writer.known);
                }
                writer.write_all(sweep(&writer.known.tables))?;
            }
            if !writer.known.failures.contains_key(key) {
                writer.remove(key, Some(unit))?;
            }
            self.note(key, &writer.known);
        }
        writer.write_all(sweep(&writer.known.tables))
    }

    fn note(&mut self, key: &LbServiceKey, known: &Known) {
        for (map, shares) in &mut self.0 {
            shares.set(key, known.entries_of(key)[*map]);
        }
    }
}

impl Lack {
    fn told(self) -> String {
        let Self { map, needed, of } = self;
        format!(
            "{}: it needs {needed} more of {of} entries than are left, and no namespace has more of them than its own; {}",
            MAPS[map],
            self.remedy()
        )
    }

    fn told_to_goer(self, goer: &LbServiceKey) -> String {
        let Self { map, of, .. } = self;
        format!(
            "{}: {of} entries are not enough for all, and namespace {} has most of them; {}",
            MAPS[map],
            goer.owner.key().namespace,
            self.remedy()
        )
    }

    fn remedy(self) -> String {
        let flag = match MAPS[self.map] {
            SLOTS_MAP | BACKENDS_MAP | RINGS_MAP => "--max-backends",
            _ => "--max-services",
        };
        format!(
            "remove Services, or raise {flag} and make the tables anew with --cleanup-config and a restart"
        )
    }
}
