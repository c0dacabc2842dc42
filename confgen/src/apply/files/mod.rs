//! Versions of a proxy's files on disk: written beside, switched at once, the last good one kept.
//!
//! ```text
//! root/versions/<checksum>/…   every file of one version, and its manifest
//! root/current   -> versions/…   what the proxy reads
//! root/last-good -> versions/…   what the proxy was last seen running
//! ```
//!
//! A set of files is switched by renaming one symbolic link over another, so that a reader sees the
//! old set or the new one whole, wherever a run is killed. Files name one another relative to the
//! main file, so that a version can be checked before it is `current`. Where an operator wants one
//! file at a path of his own ([`Place::File`]), it is renamed into place, and the versions are kept
//! beside it for what was last good.

mod manifest;
mod store;
#[cfg(test)]
mod tests;
mod versions;
mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use manifest::hexadecimal;
pub use manifest::{Entry, Manifest};
pub use write::Ownership;

const VERSIONS: &str = "versions";
const CURRENT: &str = "current";
const LAST_GOOD: &str = "last-good";

/// Versions kept beside `current` and `last-good`, for people who look what changed.
const HISTORY: usize = 3;

/// Where the proxy reads its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `<root>/current/`: any number of files, switched together.
    Directory,
    /// This one file; the set must have no other.
    File(PathBuf),
}

/// The versions of one proxy's files.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    place: Place,
    ownership: Ownership,
}

/// How much a version serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Hosts and ports.
    pub hosts: usize,
    /// Backends.
    pub backends: usize,
    /// Servers of all backends.
    pub servers: usize,
}

/// A version that is written and not yet what the proxy reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it contains.
    pub manifest: Manifest,
    /// The file that a check is run on.
    pub main: PathBuf,
}

/// What stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// No version was installed yet.
    Nothing,
    /// A version with every checksum right.
    Good(Manifest),
    /// A version that must not be used, and why.
    Corrupt(String),
}

/// What [`Store::restore`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// There is nothing to start from.
    Nothing,
    /// `current` is good.
    Current(Manifest),
    /// `current` was corrupt or gone, and the last good version is in its place.
    LastGood {
        /// What is read now.
        manifest: Manifest,
        /// What was wrong with `current`.
        corrupt: String,
    },
    /// Neither can be used; both findings.
    Corrupt(String),
}

/// Something could not be done to a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}{remedy}", path = path.display(), remedy = remedy(source))]
pub struct FilesError {
    /// What was tried, as a verb.
    what: &'static str,
    /// On what.
    path: PathBuf,
    source: io::Error,
}

impl FilesError {
    fn of(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self { what, path, source }
    }

    fn refused(what: &'static str, path: &Path, message: impl fmt::Display) -> Self {
        let source = io::Error::new(io::ErrorKind::InvalidInput, message.to_string());
        Self::of(what, path, source)
    }

    /// What the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other kind of error speaks for itself"
)]
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there, what is live stays until then"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; let this user write there, what is live stays until then"
        }
        _ => "",
    }
}
