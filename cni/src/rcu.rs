//! The kernel's RCU, which waits for all processors to pass a quiet point.
//!
//! Each attachment of a tcx program waits so, under the lock of all interfaces: some 20 ms where the
//! processors have little to do. An interface that goes waits once for each of its directions with
//! programs. A pod that starts or ends waits for two of them, and fifty at once for a hundred, one
//! after the other. "Expedited" the kernel asks the processors at once instead, which takes less than
//! a millisecond; it does so of its own accord while it boots.
//!
//! Agent and plugins hurry at the same time; the last of them ends it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Documentation/ABI/testing/sysfs-kernel: 0 or 1, for the whole machine.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";
/// Locked by all who have it so, and not empty while they do: one that was killed lets go of the lock
/// alone, and the next one ends it. It goes with the machine's run, as the setting does. An agent in a
/// container shares this directory with the node.
const HOLDERS: &str = "/run/fairlead/rcu-expedited";
/// Whoever may lock it may keep others waiting.
const MODE: u32 = 0o600;

/// While it lives, the kernel hurries.
#[derive(Debug)]
pub struct Hurry {
    setting: PathBuf,
    holders: File,
}

impl Hurry {
    /// Has the kernel hurry; `None` where it does already, or where nobody may say so. Then everything is
    /// as it was, but slower. Where it `may` not, nothing is read or written.
    pub fn begin(may: bool) -> Option<Self> {
        let begin = || Self::by(Path::new(EXPEDITED), Path::new(HOLDERS));
        may.then(begin)?.ok().flatten()
    }

    fn by(setting: &Path, holders: &Path) -> io::Result<Option<Self>> {
        let is_off = || Ok::<_, io::Error>(fs::read(setting)?.trim_ascii() == b"0");
        // Nothing is made where there is no such setting.
        is_off()?;
        if let Some(directory) = holders.parent() {
            fs::create_dir_all(directory)?;
        }
        let options = File::options()
            .create(true)
            .append(true)
            .mode(MODE)
            .open(holders);
        let mut holders = options?;
        holders.set_permissions(Permissions::from_mode(MODE))?;
        flock(&holders, FlockOperation::LockShared)?;
        // With the lock it is clear whose it is: what is on, and noted by nobody, is the operator's.
        match (is_off()?, holders.metadata()?.len()) {
            (false, 0) => return Ok(None),
            (false, _) => {}
            (true, _) => {
                holders.write_all(b"1\n")?;
                fs::write(setting, "1")?;
            }
        }
        Ok(Some(Self {
            setting: setting.into(),
            holders,
        }))
    }

    /// Who is the last ends it. The kernel lets go of the shared lock before it looks for others, so of
    /// two that end at once the second finds nobody.
    fn end(&self) -> io::Result<()> {
        match flock(&self.holders, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(()),
            other => {
                other?;
                fs::write(&self.setting, "0")?;
                self.holders.set_len(0)
            }
        }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        // It is noted still, so the next one ends it.
        let _stays = self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Hurry;

    #[test]
    fn the_kernel_hurries_no_longer_than_that() {
        let directory = tempfile::tempdir().unwrap();
        let setting = directory.path().join("rcu_expedited");
        let holders = directory.path().join("run/holders");
        let begin = || Hurry::by(&setting, &holders).ok().flatten();
        let is = || fs::read_to_string(&setting).unwrap();
        assert!(begin().is_none(), "not on this kernel");
        assert!(!holders.exists());
        fs::write(&setting, "0\n").unwrap();
        let (first, second) = (begin().unwrap(), begin().unwrap());
        assert_eq!(is(), "1");
        drop(first);
        assert_eq!(is(), "1", "there is another");
        drop(second);
        assert_eq!(is(), "0");
        fs::write(&setting, "1\n").unwrap();
        assert!(begin().is_none(), "the operator wants it so");
        assert_eq!(is(), "1\n");
        // One that was killed has left it.
        fs::write(&holders, "1\n").unwrap();
        drop(begin().unwrap());
        assert_eq!(is(), "0");
    }

    #[test]
    fn of_many_at_once_the_last_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let setting = directory.path().join("rcu_expedited");
        let holders = directory.path().join("holders");
        fs::write(&setting, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let hurry = Hurry::by(&setting, &holders).unwrap().unwrap();
                        // The kernel's file is never empty; this one is while it is written.
                        let is = fs::read_to_string(&setting).unwrap();
                        assert_ne!(is, "0");
                        drop(hurry);
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&setting).unwrap(), "0");
    }
}
