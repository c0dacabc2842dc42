//! The cgroup v2 hierarchy.

use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const MAGIC: i128 = 0x6367_7270;

/// Where cgroup v2 is mounted; `None` where it is not. On a hybrid system that is not
/// /sys/fs/cgroup.
///
/// # Errors
/// Where /proc cannot be read.
pub fn mount_point() -> io::Result<Option<PathBuf>> {
    Ok(find(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// Whether a directory is in a cgroup v2 hierarchy.
pub fn is_cgroup2(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| i128::from(found.f_type) == MAGIC)
}

/// The cgroup of a number, below `root`; `None` where it is gone. Reads the names of all cgroups, some
/// thousand on a full node.
pub fn with_number(root: &Path, number: u64) -> Option<PathBuf> {
    // What is removed meanwhile has no more processes.
    let entries = fs::read_dir(root).ok()?.flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| match entry.ino() == number {
            true => Some(entry.path()),
            false => with_number(&entry.path(), number),
        })
}

/// Finds the mount in the text of mountinfo (proc_pid_mountinfo(5)).
fn find(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_cgroup2 = kind.split(' ').next()? == "cgroup2";
        is_cgroup2
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_on_unified_and_hybrid_systems_and_missed_on_others() {
        let unified = "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let hybrid = "30 25 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(find(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
