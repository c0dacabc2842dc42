//! Layouts of the pinned maps, of this build and of others.
//!
//! A layout is never edited in place: the version in the name of its map goes up. So a build finds
//! the maps of another one, older or newer, beside where its own would be. Services are compiled
//! anew in any case; connections are copied ([`convert`]) by what the other build says of them
//! (`shape`). Where they cannot be read, [`check`] refuses, and what runs is left alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, FRAGMENTS_MAP, OPENING_MAP, TupleV1};
use agent_abi::counters::{COUNTERS_MAP, TRAFFIC_MAP};
use agent_abi::flow;
use agent_abi::layout::LAYOUT_MAP;
use agent_abi::policy;
use agent_abi::service::{
    ADDRESSES_MAP, AFFINITY_MAP, ALLOCATOR_MAP, BACKENDS_MAP, FRONTENDS_MAP, RINGS_MAP,
    SERVICES_MAP, SLOTS_MAP, SOURCES_MAP,
};
use agent_abi::settings::{SETTINGS_MAP, TAKEOVER_MAP};

use super::shape::Shape;
use super::takeover::Targets;
use crate::sys::map::{Table, TableError, foreign};

/// The maps of this build.
const MAPS: [&str; 27] = [
    ADDRESSES_MAP,
    FRONTENDS_MAP,
    SERVICES_MAP,
    SLOTS_MAP,
    BACKENDS_MAP,
    RINGS_MAP,
    SOURCES_MAP,
    AFFINITY_MAP,
    ALLOCATOR_MAP,
    CONNECTIONS_MAP,
    OPENING_MAP,
    LAYOUT_MAP,
    FRAGMENTS_MAP,
    SETTINGS_MAP,
    TAKEOVER_MAP,
    COUNTERS_MAP,
    TRAFFIC_MAP,
    policy::IDENTITIES_MAP,
    policy::VERDICTS_MAP,
    policy::ENDPOINTS_MAP,
    policy::ALLOCATOR_MAP,
    policy::EPOCH_MAP,
    policy::RULES_MAP,
    flow::FLOWS_MAP,
    flow::ASKED_MAP,
    flow::LIMITS_MAP,
    policy::INTERFACES_MAP,
];

/// Maps of earlier builds that have no successor of their own.
const FORMER: [&str; 1] = ["POLICY_CONNECTIONS_V1"];

/// Why this build may not touch what is there.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A map of another build.
    #[error(
        "{} is of another build, whose connections this one cannot read; start that build, or give \
         up its connections with --cleanup-config",
        path.display()
    )]
    Strange {
        /// Its pin.
        path: PathBuf,
    },
    /// The directory.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Refuses where a build has been whose connections cannot be read.
///
/// # Errors
/// [`LayoutError::Strange`] then.
pub fn check(pins: &Path) -> Result<(), LayoutError> {
    let others = others(pins)?;
    let strange = |other: &&Other| match other.base {
        CONNECTIONS | OPENING => other.shape(pins).is_none(),
        // Its connections hold ids of a table that this build does not read.
        _ => {
            let has_connections =
                |also: &Other| also.base == CONNECTIONS && also.version > other.ours;
            other.version > other.ours && !others.iter().any(has_connections)
        }
    };
    match others.iter().find(strange) {
        None => Ok(()),
        Some(other) => Err(LayoutError::Strange {
            path: pins.join(&other.name),
        }),
    }
}

/// Whether another build has left connections.
///
/// # Errors
/// Where the directory cannot be read.
pub fn is_due(pins: &Path) -> Result<bool, LayoutError> {
    let has_connections = |other: &Other| matches!(other.base, CONNECTIONS | OPENING);
    Ok(others(pins)?.iter().any(has_connections))
}

/// Removes the maps of other builds; nothing reads them once this one's programs are attached.
///
/// # Errors
/// Where the directory cannot be read. A pin that stays costs memory only.
pub fn remove_others(pins: &Path) -> Result<(), LayoutError> {
    let mut others = others(pins)?;
    // The description last, so that a build that is interrupted here can start again.
    others.sort_by_key(|other| other.base == LAYOUT);
    let former = FORMER.iter().filter(|name| pins.join(name).exists());
    let former = former.map(|name| (*name).to_owned());
    let names = others.into_iter().map(|other| other.name);
    for name in names.chain(former) {
        if let Err(error) = std::fs::remove_file(pins.join(&name)) {
            tracing::warn!(%error, map = name, "the map of another build stays");
        }
    }
    Ok(())
}

/// Copies the connections of other builds that this one does not know, or knows less of. The answer
/// is their number.
///
/// # Errors
/// Where a table cannot be read or written.
pub(super) fn convert(pins: &Path, targets: &Targets) -> Result<usize, ConvertError> {
    let mut copied = 0;
    for (base, map) in [(CONNECTIONS, CONNECTIONS_MAP), (OPENING, OPENING_MAP)] {
        let mut ours: Table<TupleV1, ConnectionV3> = Table::open_lru(pins, map)?;
        for other in others(pins)?.iter().filter(|other| other.base == base) {
            let Some(shape) = other.shape(pins) else {
                continue;
            };
            for (key, bytes) in foreign::entries(&pins.join(&other.name))? {
                let Some(theirs) = shape.read(&bytes) else {
                    continue;
                };
                let known = ours.get(key)?;
                if known.is_none_or(|known| known.last_seen < theirs.last_seen) {
                    ours.put(key, targets.convert(&key, theirs))?;
                    copied += 1;
                }
            }
        }
    }
    Ok(copied)
}

/// Why connections were not copied.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The directory.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The names of the tables of connections, without their versions.
const CONNECTIONS: &str = "CONNECTIONS";
const OPENING: &str = "OPENING";
/// That of their description.
const LAYOUT: &str = "LAYOUT";

/// A map of another build.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    name: String,
    base: &'static str,
    version: u32,
    /// The version of this build.
    ours: u32,
}

impl Other {
    /// How its connections are to be read.
    fn shape(&self, pins: &Path) -> Option<Shape> {
        let shape = Shape::of_version(pins, self.version)?;
        shape.fits(&pins.join(&self.name)).then_some(shape)
    }
}

fn others(pins: &Path) -> Result<Vec<Other>, LayoutError> {
    let known: BTreeMap<&str, u32> = MAPS.iter().filter_map(|name| versioned(name)).collect();
    let other = |name: String| {
        let (base, version) = versioned(&name)?;
        let (base, ours) = known.get_key_value(base)?;
        let (base, ours) = (*base, *ours);
        (version != ours).then_some(Other {
            name,
            base,
            version,
            ours,
        })
    };
    Ok(names(pins)?.into_iter().filter_map(other).collect())
}

fn names(pins: &Path) -> Result<Vec<String>, LayoutError> {
    let unreadable = |source| LayoutError::Unreadable {
        path: pins.into(),
        source,
    };
    let entries = match std::fs::read_dir(pins) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// `FRONTENDS_V2` is version 2 of `FRONTENDS`.
fn versioned(name: &str) -> Option<(&str, u32)> {
    let (base, version) = name.rsplit_once("_V")?;
    Some((base, version.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_other_builds_are_removed_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let pin = |name: &str| std::fs::write(directory.path().join(name), "").unwrap();
        for name in [
            "FRONTENDS_V1",
            "CONNECTIONS_V1",
            "CONNECTIONS_V9",
            "LAYOUT_V9",
            FORMER[0],
            CONNECTIONS_MAP,
            "FOREIGN_V9",
        ] {
            pin(name);
        }
        assert!(is_due(directory.path()).unwrap());
        remove_others(directory.path()).unwrap();
        assert_eq!(
            names(directory.path()).unwrap(),
            [CONNECTIONS_MAP, "FOREIGN_V9"]
        );
        assert!(!is_due(directory.path()).unwrap());
    }

    #[test]
    fn maps_that_cannot_be_read_are_refused_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        check(&path.join("absent")).unwrap();
        std::fs::write(path.join("FRONTENDS_V1"), "").unwrap();
        check(path).unwrap();
        for name in ["BACKENDS_V9", "CONNECTIONS_V9", "OPENING_V1"] {
            std::fs::write(path.join(name), "").unwrap();
            let refused = check(path).unwrap_err();
            assert!(matches!(refused, LayoutError::Strange { path } if path.ends_with(name)));
            std::fs::remove_file(path.join(name)).unwrap();
        }
    }
}
