//! One agent a node: a lock that goes with the process, however it ends.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("another agent{} runs on this node and owns {}; stop it first, or give this one a --bpf-root and --state-dir of its own", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), directory.display())]
    Held {
        /// What is locked.
        directory: PathBuf,
        /// Who has it, where that is known.
        holder: Option<u32>,
    },
    /// Anything else.
    #[error("cannot lock {}", directory.display())]
    Io {
        /// What is locked.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A lock on a directory, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _directory: File,
}

impl Lock {
    /// Locks `directory`. The file `holder` tells who has it where that is somebody else.
    ///
    /// # Errors
    /// [`LockError::Held`] where another process has it.
    pub fn take(directory: &Path, holder: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            directory: directory.into(),
            source,
        };
        let file = File::open(directory).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(holder)
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                return Err(LockError::Held {
                    directory: directory.into(),
                    holder: pid,
                });
            }
            other => other.map_err(|error| failed(error.into()))?,
        }
        Ok(Self { _directory: file })
    }

    /// Notes this process in the file `holder`, for those who find the directory locked.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn sign(&self, holder: &Path) -> io::Result<()> {
        fs::write(holder, format!("{}\n", std::process::id()))
    }
}
