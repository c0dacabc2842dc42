//! What becomes of units that there is no room for.
//!
//! What is in force stays: nothing that somebody adds takes it away, and its endpoints are followed, as many of them
//! as fit. Of what comes in one apply, on a node that starts above all, `shares` decides who has to wait.

use std::collections::{BTreeMap, BTreeSet};

use super::shares::Shares;
use super::writer::{Lack, Writer};
use crate::desired::{Desired, LbService, LbServiceKey};
use crate::sys::map::TableError;

/// Units that lack room, and those that may go for them.
#[derive(Debug)]
pub(super) struct Room<'a> {
    /// Those that were not in force before this apply.
    fresh: &'a BTreeSet<LbServiceKey>,
    /// Who holds what of the maps that were full, by index in `fullness::MAPS`.
    shares: BTreeMap<usize, Shares>,
}

impl<'a> Room<'a> {
    pub(super) fn new(fresh: &'a BTreeSet<LbServiceKey>) -> Self {
        Self {
            fresh,
            shares: BTreeMap::new(),
        }
    }

    /// Makes the units that lacked room, as far as it can be. The others are noted, as are those that went.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn make(
        mut self,
        lacking: &BTreeSet<LbServiceKey>,
        desired: &Desired,
        writer: &mut Writer<'_>,
    ) -> Result<(), TableError> {
        for key in lacking {
            let Some(unit) = desired.services.get(key) else {
                continue;
            };
            let is_in_force = !self.fresh.contains(key);
            if is_in_force {
                // First what goes: others may come in its place.
                let kept = within(unit, 0, key, writer);
                make_whole(key, &kept, writer)?;
            }
            let lack = self.make_in_place_of_others(key, unit, writer)?;
            if let Some(lack) = lack {
                let what = if is_in_force {
                    match self.make_in_part(key, unit, writer)? {
                        0 => "not all of its addresses are served".to_owned(),
                        left_out => format!("{left_out} of its endpoints get nothing new"),
                    }
                } else {
                    "it is not balanced".to_owned()
                };
                writer.known.failures.insert(key.clone(), lack.told(&what));
            }
            self.note(key, writer);
        }
        writer.sweep()
    }

    fn make_in_place_of_others(
        &mut self,
        key: &LbServiceKey,
        unit: &LbService,
        writer: &mut Writer<'_>,
    ) -> Result<Option<Lack>, TableError> {
        while let Some(lack) = make_whole(key, unit, writer)? {
            let shares = self.shares.entry(lack.map);
            let shares = shares.or_insert_with(|| Shares::of(lack.map, &writer.known, self.fresh));
            let goers = match lack.is_of_all() {
                true => shares.who_makes_room(key, lack.needed),
                false => Vec::new(),
            };
            if goers.is_empty() {
                return Ok(Some(lack));
            }
            for goer in goers {
                writer.remove(&goer, None)?;
                let namespace = &goer.owner.key().namespace;
                let what =
                    format!("namespace {namespace} asks for most of them, and it is not balanced");
                writer.known.failures.insert(goer.clone(), lack.told(&what));
                self.note(&goer, writer);
            }
            writer.sweep()?;
        }
        Ok(None)
    }

    /// Adds as many of a unit's new endpoints as fit, to within a half; answers how many are left out.
    fn make_in_part(
        &self,
        key: &LbServiceKey,
        unit: &LbService,
        writer: &mut Writer<'_>,
    ) -> Result<usize, TableError> {
        let all = unit.backends.len();
        let mut more = all - within(unit, 0, key, writer).backends.len();
        while more > 0 {
            more /= 2;
            let part = within(unit, more, key, writer);
            if make_whole(key, &part, writer)?.is_none() {
                return Ok(all - part.backends.len());
            }
        }
        Ok(all)
    }

    fn note(&mut self, key: &LbServiceKey, writer: &Writer<'_>) {
        let has = writer.known.entries_of(key);
        for (map, shares) in &mut self.shares {
            shares.set(key, has[*map], self.fresh.contains(key));
        }
    }
}

/// Makes a unit and removes what it has beyond that.
fn make_whole(
    key: &LbServiceKey,
    unit: &LbService,
    writer: &mut Writer<'_>,
) -> Result<Option<Lack>, TableError> {
    let lack = writer.make(key, unit)?;
    if lack.is_none() {
        writer.remove(key, Some(unit))?;
    }
    Ok(lack)
}

/// A unit with those of its frontends and endpoints that the tables hold, and so many more endpoints.
fn within(unit: &LbService, more: usize, key: &LbServiceKey, writer: &Writer<'_>) -> LbService {
    let known = &writer.known;
    let held = known.ids.get(key);
    let held = held.and_then(|id| known.tables.services().get(id));
    let frontends = unit.frontends.iter();
    let frontends = frontends.filter(|frontend| held.is_some_and(|held| held.leads(frontend)));
    let (old, new): (Vec<_>, Vec<_>) = unit
        .backends
        .iter()
        .partition(|backend| held.is_some_and(|held| held.has(backend)));
    let mut backends: Vec<_> = old
        .into_iter()
        .chain(new.into_iter().take(more))
        .cloned()
        .collect();
    backends.sort_unstable();
    LbService {
        frontends: frontends.copied().collect(),
        backends: backends.into(),
        ..unit.clone()
    }
}
