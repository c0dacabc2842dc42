//! What the agent has put on the node that cannot be recognised by its place: written down before
//! it is made, so that cleanup can take it back however the agent ended.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::file;

const FILE: &str = "ownership.json";

/// The record, in the order in which it is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Programs are attached as clsact filters, which no pin shows.
    pub clsact: bool,
    /// Interfaces whose clsact qdisc is the agent's.
    pub qdiscs: BTreeSet<String>,
    /// Settings that were changed.
    pub sysctls: Vec<Sysctl>,
    /// Unix sockets.
    pub sockets: BTreeSet<PathBuf>,
    /// Files.
    pub files: BTreeSet<PathBuf>,
    /// CNI configurations; those that are the agent's can be told by what is in them.
    pub cni_configs: BTreeSet<PathBuf>,
    /// CNI plugins, as well.
    pub cni_plugins: BTreeSet<PathBuf>,
    /// bpffs mounts.
    pub mounts: BTreeSet<PathBuf>,
    /// Directories that were not there.
    pub directories: BTreeSet<PathBuf>,
}

/// A setting and what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Name, as in `net.ipv4.ip_forward`.
    pub name: String,
    /// Its value before.
    pub before: String,
}

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// Reading or writing it.
    #[error("{}: what the agent changes on the node cannot be recorded; check --state-dir", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: not a record of this agent; move it away to start without it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// The record of a node, on disk.
#[derive(Debug)]
pub struct Ownership {
    path: PathBuf,
    record: Record,
}

impl Ownership {
    /// Where the record of a state directory is.
    pub fn place(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// Reads the record in a state directory; there may be none yet.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn load(state_dir: &Path) -> Result<Self, OwnershipError> {
        let path = Self::place(state_dir);
        let record = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| OwnershipError::Unreadable {
                    path: path.clone(),
                    source,
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(source) => return Err(OwnershipError::Io { path, source }),
        };
        Ok(Self { path, record })
    }

    /// What is recorded.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where it is recorded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the record; on disk before this returns.
    ///
    /// # Errors
    /// Where it cannot be written; what was to be recorded must not be made then.
    pub fn remember(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), OwnershipError> {
        let mut next = self.record.clone();
        change(&mut next);
        if next == self.record {
            return Ok(());
        }
        self.write(&next).map_err(|source| OwnershipError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.record = next;
        Ok(())
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        file::replace(&self.path, &serde_json::to_vec_pretty(record)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let mut ownership = Ownership::load(directory.path()).unwrap();
        let sysctl = Sysctl {
            name: "net.ipv4.ip_forward".into(),
            before: "0".into(),
        };
        ownership
            .remember(|record| record.sysctls.push(sysctl.clone()))
            .unwrap();
        for _ in 0..2 {
            ownership
                .remember(|record| _ = record.mounts.insert("/sys/fs/bpf".into()))
                .unwrap();
        }
        let expected = Record {
            sysctls: vec![sysctl],
            mounts: ["/sys/fs/bpf".into()].into(),
            ..Record::default()
        };
        let found = Ownership::load(directory.path()).unwrap();
        assert_eq!(found.record(), &expected);
    }

    #[test]
    fn a_record_of_somebody_else_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "not json").unwrap();
        assert!(matches!(
            Ownership::load(directory.path()),
            Err(OwnershipError::Unreadable { .. })
        ));
    }
}
