//! The service maps as a [`Facility`]: which unit has which id, and the order of writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use agent_abi::Address;
use agent_abi::service::{ADDRESSES_MAP, RINGS_MAP};
use agent_abi::settings::{SETTINGS_MAP, SettingsV2};
use model::Problem;

use super::audit::{Cursor, search_addresses};
use super::fill;
use super::fullness::MAPS;
use super::image::Op;
use super::known::{Known, nodes};
use super::maps::{Maps, configure};
use super::room::Room;
use super::settings::{Translation, settings};
use super::tables::Tables;
use super::writer::Writer;
use crate::applier::{Facility, Failure, Outcome, Pass, Usage, with_causes};
use crate::desired::{Desired, LbServiceKey, Owner};
use crate::divergence::{Divergence, Divergences};
use crate::sys::map::{Table, TableError};
use crate::sys::memory;

/// The service maps of this node and what is known of them.
#[derive(Debug)]
pub struct ServiceMaps {
    pins: PathBuf,
    maps: Maps,
    addresses: Table<Address, u32>,
    translation: Translation,
    settings: Option<SettingsV2>,
    known: Option<Known>,
    audited: Cursor,
}

impl ServiceMaps {
    /// The maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: PathBuf, translation: Translation) -> Result<Self, TableError> {
        Ok(Self {
            maps: Maps::open(&pins)?,
            addresses: Table::open(&pins, ADDRESSES_MAP)?,
            pins,
            translation,
            settings: None,
            known: None,
            audited: Cursor::default(),
        })
    }

    fn try_apply(
        &mut self,
        desired: &Desired,
        pass: Pass,
        operations: &mut u64,
    ) -> Result<(), TableError> {
        let settings = settings(&desired.node, &self.translation);
        configure(&self.pins, settings)?;
        self.settings = Some(settings);
        let mut known = match self.known.take() {
            Some(known) if pass == Pass::Changes => known,
            _ => self.read_back(desired)?,
        };
        for change in known.addresses.set_nodes(nodes(desired)) {
            change.write(&mut self.addresses)?;
        }
        let was_empty = known.is_empty();
        if was_empty && desired.services.size() >= fill::WORTHWHILE {
            match self.fill(&mut known, desired) {
                Ok(written) => *operations += written,
                // Which unit there is no room for shows when they are made one by one.
                Err(TableError::Full { .. }) => known = self.read_back(desired)?,
                Err(error) => return Err(error),
            }
        }
        let keys = known.touched(desired);
        let is_fresh = |key: &&LbServiceKey| was_empty || !known.ids.contains_key(key);
        let fresh = keys.iter().filter(is_fresh).cloned().collect();
        let mut writer = Writer {
            maps: &mut self.maps,
            addresses: &mut self.addresses,
            known,
            operations,
        };
        writer.known.failures.clear();
        let mut lacking = BTreeSet::new();
        for key in &keys {
            if let Some(unit) = desired.services.get(key)
                && writer.make(key, unit)?.is_some()
            {
                lacking.insert(key.clone());
            }
        }
        writer.remove_beyond(&keys, &lacking, desired)?;
        // Now that everything that goes is gone.
        Room::new(&fresh).make(&lacking, desired, &mut writer)?;
        let mut known = writer.known;
        known.generation = desired.generation;
        known.services = desired.services.clone();
        self.known = Some(known);
        Ok(())
    }

    /// What the maps hold.
    fn read_back(&mut self, desired: &Desired) -> Result<Known, TableError> {
        let known = Known::adopt(self.maps.read()?, desired);
        let entries = self.addresses.entries()?;
        for change in known.addresses.reconcile(&entries) {
            change.write(&mut self.addresses)?;
        }
        Ok(known)
    }

    fn fill(&mut self, known: &mut Known, desired: &Desired) -> Result<u64, TableError> {
        let plan = fill::Plan {
            tables: &mut known.tables,
            addresses: &mut known.addresses,
            ids: &mut known.ids,
        };
        let written = fill::fill(&mut self.maps, &mut self.addresses, desired, plan)?;
        known.generation = desired.generation;
        // What was read to compile all of it is gone by now.
        memory::give_back();
        Ok(written)
    }

    fn compare(&mut self, whole: bool, found: &mut Divergences) -> Result<(), String> {
        // What the kernel holds is unknown: the next apply reads it back.
        let Some(known) = &self.known else {
            return Ok(());
        };
        let explained = |error: TableError| with_causes(&error);
        if let Some(settings) = self.settings
            && configure(&self.pins, settings).map_err(explained)?
        {
            found.insert((SETTINGS_MAP, Divergence::Different), 1);
        }
        let (cursor, maps, tables) = (&mut self.audited, &mut self.maps, &known.tables);
        // Rings come before the services that ask them.
        for (key, wrong) in cursor.rings(maps, tables).map_err(explained)? {
            let value = known.chunk(key);
            let value = value.ok_or_else(|| format!("{RINGS_MAP}: {key:?} is no Service's"))?;
            maps.write(Op::PutRing(key, value)).map_err(explained)?;
            *found.entry((RINGS_MAP, wrong)).or_default() += 1;
        }
        cursor.step(maps, tables, found).map_err(explained)?;
        if whole {
            cursor.search(maps, tables, found).map_err(explained)?;
            let addresses = &mut self.addresses;
            search_addresses(addresses, &known.addresses, found).map_err(explained)?;
        }
        Ok(())
    }

    fn usage(&self, tables: &Tables) -> Vec<Usage> {
        let room = MAPS.into_iter().zip(self.maps.room());
        let used = tables.usage();
        room.zip(used)
            .map(|((map, max), used)| Usage {
                map,
                used: used as u64,
                max: max.into(),
            })
            .collect()
    }
}

impl Facility for ServiceMaps {
    fn audit(&mut self, whole: bool) -> Result<Divergences, String> {
        let mut found = Divergences::new();
        let compared = self.compare(whole, &mut found);
        if let Err(error) = compared {
            self.known = None;
            return Err(error);
        }
        Ok(found)
    }

    fn apply(&mut self, desired: &Desired, pass: Pass) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.try_apply(desired, pass, &mut outcome.operations) {
            // What the kernel holds is unknown now; the next apply reads it back.
            self.known = None;
            outcome.error = Some(with_causes(&error));
            return outcome;
        }
        if let Some(known) = &self.known {
            let failures = known.failures.iter();
            outcome.failures = failures
                .map(|(key, reason)| Failure {
                    key: key.clone(),
                    reason: reason.clone(),
                })
                .collect();
            outcome.problems = problems(&known.failures);
            outcome.usage = self.usage(&known.tables);
        }
        outcome
    }
}

/// One for each object, whatever the number of its ports.
fn problems(failures: &BTreeMap<LbServiceKey, String>) -> Vec<Problem> {
    let mut told: BTreeMap<&Owner, Problem> = BTreeMap::new();
    for (key, reason) in failures {
        told.entry(&key.owner).or_insert_with(|| {
            let effect = "on this node, a port of it is not balanced, or in part";
            let (kind, object) = (key.owner.kind(), key.owner.key().clone());
            Problem::new(
                kind,
                object,
                "",
                format!("no room for {key}: {reason}"),
                effect,
            )
        });
    }
    told.into_values().collect()
}
