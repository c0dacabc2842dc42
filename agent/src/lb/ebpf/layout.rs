//! Layouts of the pinned maps, of this build and of others.
//!
//! A layout is never edited in place: the version in the name of its map goes up. So a build finds
//! the maps of another one beside where its own would be. Older ones are converted ([`convert`]):
//! services are compiled anew in any case, connections are copied. A newer one cannot be read:
//! [`check`] refuses, and what runs is left alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent_abi::connection::{
    CONNECTIONS_MAP, ConnectionV2, FRAGMENTS_MAP, OLD_CONNECTIONS_MAP, OPENING_MAP, TupleV1,
};
use agent_abi::counters::{COUNTERS_MAP, TRAFFIC_MAP};
use agent_abi::service::{
    ADDRESSES_MAP, AFFINITY_MAP, ALLOCATOR_MAP, BACKENDS_MAP, FRONTENDS_MAP, RINGS_MAP,
    SERVICES_MAP, SLOTS_MAP, SOURCES_MAP,
};
use agent_abi::settings::{SETTINGS_MAP, TAKEOVER_MAP};

use super::takeover::Targets;
use crate::sys::map::{Table, TableError};

/// The maps of this build.
const MAPS: [&str; 16] = [
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
    FRAGMENTS_MAP,
    SETTINGS_MAP,
    TAKEOVER_MAP,
    COUNTERS_MAP,
    TRAFFIC_MAP,
];

/// Why this build may not touch what is there.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A map of a newer build.
    #[error(
        "{} is of a newer build, whose connections this one cannot read; start that build, or give \
         up its connections with --cleanup-config",
        path.display()
    )]
    Newer {
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

/// Refuses where a newer build has been.
///
/// # Errors
/// [`LayoutError::Newer`] then.
pub fn check(pins: &Path) -> Result<(), LayoutError> {
    let known: BTreeMap<&str, u32> = MAPS.iter().filter_map(|name| versioned(name)).collect();
    for name in names(pins)? {
        let newer = versioned(&name)
            .is_some_and(|(base, version)| known.get(base).is_some_and(|known| version > *known));
        if newer {
            return Err(LayoutError::Newer {
                path: pins.join(&name),
            });
        }
    }
    Ok(())
}

/// Removes the maps of older builds; nothing reads them once this one's programs are attached.
///
/// # Errors
/// Where the directory cannot be read. A pin that stays costs memory only.
pub fn remove_older(pins: &Path) -> Result<(), LayoutError> {
    let known: BTreeMap<&str, u32> = MAPS.iter().filter_map(|name| versioned(name)).collect();
    for name in names(pins)? {
        let older = versioned(&name)
            .is_some_and(|(base, version)| known.get(base).is_some_and(|known| version < *known));
        if older && let Err(error) = std::fs::remove_file(pins.join(&name)) {
            tracing::warn!(%error, map = name, "the map of an older build stays");
        }
    }
    Ok(())
}

/// Copies the connections of version 1. The answer is their number.
///
/// # Errors
/// Where a table cannot be read or written.
pub(super) fn convert(pins: &Path, targets: &Targets) -> Result<usize, TableError> {
    if !pins.join(OLD_CONNECTIONS_MAP).exists() {
        return Ok(0);
    }
    // Version 1 had two zeros more where this one has the service, and is read as it.
    let old: Table<TupleV1, ConnectionV2> = Table::open_lru(pins, OLD_CONNECTIONS_MAP)?;
    let mut connections: Table<TupleV1, ConnectionV2> = Table::open_lru(pins, CONNECTIONS_MAP)?;
    let mut copied = 0;
    for (key, value) in old.entries()? {
        connections.put(key, targets.convert(&key, value))?;
        copied += 1;
    }
    Ok(copied)
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
    fn maps_of_a_newer_build_are_left_alone_and_those_of_an_older_one_removed() {
        let directory = tempfile::tempdir().unwrap();
        let pin = |name: &str| std::fs::write(directory.path().join(name), "").unwrap();
        for name in [
            "FRONTENDS_V1",
            "CONNECTIONS_V1",
            CONNECTIONS_MAP,
            "FOREIGN_V9",
        ] {
            pin(name);
        }
        check(directory.path()).unwrap();
        remove_older(directory.path()).unwrap();
        assert_eq!(
            names(directory.path()).unwrap(),
            [CONNECTIONS_MAP, "FOREIGN_V9"]
        );
        pin("CONNECTIONS_V3");
        let refused = check(directory.path()).unwrap_err();
        assert!(matches!(refused, LayoutError::Newer { path } if path.ends_with("CONNECTIONS_V3")));
        check(&directory.path().join("absent")).unwrap();
    }
}
