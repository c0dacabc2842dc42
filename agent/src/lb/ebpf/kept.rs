//! Programs that an earlier agent of this very build has loaded.
//!
//! The verifier takes most of an agent's start. A loaded tc program is pinned under its name and a
//! digest of the object it came from; an agent with the same object takes it from there, provided
//! that the maps it uses are those pinned now.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use agent_abi::connection::HELD_MAP;
use aya::maps::MapInfo;
use aya::programs::SchedClassifier;

/// The kernel keeps this much of a map's name.
const NAME: usize = 15;
/// The tables that are not pinned: what they hold is worth nothing a moment later.
const PASSING: [&str; 6] = [
    "SCRATCH",
    "ROOM",
    "ROUTES",
    "FAST_ROUTES",
    "DECISIONS",
    HELD_MAP,
];

/// Where programs are kept.
#[derive(Debug)]
pub(super) struct Kept {
    directory: PathBuf,
    digest: String,
    maps: BTreeMap<String, u32>,
}

impl Kept {
    /// Those of `object` in a directory, which use the maps pinned in `pins`. Those of other
    /// objects are let go of; they live on where they are attached.
    pub(super) fn open(directory: &Path, object: &[u8], pins: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut hasher = DefaultHasher::new();
        object.hash(&mut hasher);
        let digest = format!("{:016x}", hasher.finish());
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().ends_with(&digest) {
                fs::remove_file(entry.path())?;
            }
        }
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(pins)? {
            let entry = entry?;
            let name: String = entry
                .file_name()
                .to_string_lossy()
                .chars()
                .take(NAME)
                .collect();
            let info = MapInfo::from_pin(entry.path()).map_err(io::Error::other)?;
            maps.insert(name, info.id());
        }
        Ok(Self {
            directory: directory.into(),
            digest,
            maps,
        })
    }

    /// A program that is there and fits.
    pub(super) fn find(&self, name: &str) -> Option<SchedClassifier> {
        let program = SchedClassifier::from_pin(self.place(name)).ok()?;
        let used = program.info().ok()?.map_ids().ok()??;
        let fits = |id: &u32| {
            let Ok(info) = MapInfo::from_id(*id) else {
                return false;
            };
            info.name_as_str()
                .is_some_and(|name| PASSING.contains(&name) || self.maps.get(name) == Some(id))
        };
        used.iter().all(fits).then_some(program)
    }

    /// Keeps a program that was loaded. Where it cannot be kept, the next start takes longer.
    pub(super) fn keep(&self, name: &str, program: &mut SchedClassifier) {
        let place = self.place(name);
        let removed = super::attach::remove_if_there(&place);
        if let Err(error) = removed.and_then(|()| program.pin(&place).map_err(io::Error::other)) {
            tracing::debug!(%error, program = name, "is loaded anew at the next start");
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-{}", self.digest))
    }
}
