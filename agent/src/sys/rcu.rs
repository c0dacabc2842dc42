//! The kernel's RCU, which waits for all processors to pass a quiet point.
//!
//! Each attachment of a tcx program waits so, under the lock of all interfaces: some 20 ms where the
//! processors have little to do. A pod that starts waits for two of them, and fifty that start at once
//! for a hundred, one after the other. "Expedited" the kernel asks the processors at once instead, which
//! takes less than a millisecond; it does so of its own accord while it boots.

use std::fs;
use std::path::{Path, PathBuf};

/// Documentation/ABI/testing/sysfs-kernel: 0 or 1, for the whole machine.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";
/// Who has it so, for whoever comes after one that was killed meanwhile. It goes with the machine's run,
/// as the setting does.
const HOLDER: &str = "/run/fairlead-rcu-expedited";

/// While it lives, the kernel hurries.
#[derive(Debug)]
pub struct Hurry {
    setting: PathBuf,
    holder: PathBuf,
}

impl Hurry {
    /// Has the kernel hurry; `None` where it does already, or where nobody may say so. Then everything is
    /// as it was, but slower. Where it `may` not, nothing is read or written.
    pub fn begin(may: bool) -> Option<Self> {
        may.then(|| Self::by(Path::new(EXPEDITED), Path::new(HOLDER)))
            .flatten()
    }

    fn by(setting: &Path, holder: &Path) -> Option<Self> {
        let is_off = fs::read(setting).ok()?.trim_ascii() == b"0";
        let was_left = || {
            let pid = fs::read_to_string(holder).ok();
            pid.is_some_and(|pid| !Path::new("/proc").join(pid.trim()).exists())
        };
        if !is_off && !was_left() {
            return None;
        }
        fs::write(holder, std::process::id().to_string()).ok()?;
        if fs::write(setting, "1").is_err() {
            // It says nothing without the setting.
            let _removed = fs::remove_file(holder);
            return None;
        }
        Some(Self {
            setting: setting.into(),
            holder: holder.into(),
        })
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let slow = fs::write(&self.setting, "0").and_then(|()| fs::remove_file(&self.holder));
        if let Err(error) = slow {
            tracing::warn!(%error, file = %self.setting.display(), "stays at 1: set it to 0");
        }
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
        let holder = directory.path().join("holder");
        let begin = || Hurry::by(&setting, &holder);
        let is = || fs::read_to_string(&setting).unwrap();
        assert!(begin().is_none(), "not on this kernel");
        fs::write(&setting, "0\n").unwrap();
        let hurry = begin().unwrap();
        assert_eq!(is(), "1");
        assert!(begin().is_none(), "another agent leaves it to the first");
        drop(hurry);
        assert_eq!(is(), "0");
        assert!(!holder.exists());
        fs::write(&setting, "1\n").unwrap();
        assert!(begin().is_none(), "the operator wants it so");
        // One that was killed has left it.
        fs::write(&holder, "4194305").unwrap();
        drop(begin().unwrap());
        assert_eq!(is(), "0");
    }
}
