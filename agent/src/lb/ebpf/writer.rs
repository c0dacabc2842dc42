//! Units into the maps: what the kernel has written is known a moment later, and a unit that does not fit is not
//! begun.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_abi::Address;
use agent_abi::service::{BACKENDS_MAP, NEXT_SERVICE, RINGS_MAP, SLOTS_MAP};

use super::fullness::{MAPS, of_one_owner};
use super::image::{Op, dismantle, make, sweep};
use super::known::Known;
use super::maps::Maps;
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
    pub(super) map: usize,
    /// Entries of it that the unit needs.
    pub(super) needed: usize,
    /// All that there are, or that one owner may have.
    of: usize,
    is_of_owner: bool,
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
        let growth = known.tables.growth(&ops);
        if let Some(lack) = lack(key, growth, known, self.maps.room()) {
            return Ok(Some(lack));
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
            self.remove(key, desired.services.get(key).map(Arc::as_ref))?;
        }
        self.sweep()
    }

    /// Removes what a unit holds beyond what it should; all of it where it should have nothing.
    pub(super) fn remove(
        &mut self,
        key: &LbServiceKey,
        unit: Option<&LbService>,
    ) -> Result<(), TableError> {
        let Some(id) = self.known.ids.get(key).copied() else {
            return Ok(());
        };
        self.write_all(dismantle(id, unit, &self.known.tables))?;
        if unit.is_none() {
            self.known.ids.remove(key);
        }
        Ok(())
    }

    /// Removes rings that nobody uses any more.
    pub(super) fn sweep(&mut self) -> Result<(), TableError> {
        self.write_all(sweep(&self.known.tables))
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

/// The first map without room for what a unit would add.
fn lack(
    key: &LbServiceKey,
    growth: [usize; MAPS.len()],
    known: &Known,
    room: [u32; MAPS.len()],
) -> Option<Lack> {
    let used = known.tables.usage();
    (0..MAPS.len()).find_map(|map| {
        let (needed, of) = (growth[map], room[map] as usize);
        if needed == 0 {
            return None;
        }
        let most = of_one_owner(MAPS[map], of);
        // Where all together have no more, one has not.
        let is_of_owner = used[map] + needed > most && known.owned(key, map) + needed > most;
        let is_full = used[map] + needed > of;
        (is_full || is_of_owner).then_some(Lack {
            map,
            needed,
            of: if is_of_owner { most } else { of },
            is_of_owner,
        })
    })
}

impl Lack {
    /// Whether others could make room.
    pub(super) fn is_of_all(self) -> bool {
        !self.is_of_owner
    }

    /// Why, and what to do.
    pub(super) fn told(self, what: &str) -> String {
        let Self {
            map,
            needed,
            of,
            is_of_owner,
        } = self;
        let map = MAPS[map];
        let (whose, remedy) = if is_of_owner {
            (
                "one object may have",
                "use fewer endpoints, ports or ranges",
            )
        } else {
            ("there are", "remove Services")
        };
        let flag = match map {
            SLOTS_MAP | BACKENDS_MAP | RINGS_MAP => "--max-backends",
            _ => "--max-services",
        };
        format!(
            "{map}: {needed} more are needed than are left of the {of} entries that {whose}; {what}; {remedy}, or raise {flag} and make the tables anew with --cleanup-config and a restart"
        )
    }
}
