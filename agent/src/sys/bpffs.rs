//! The file system of pinned maps and links.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// `BPF_FS_MAGIC` of linux/magic.h.
const MAGIC: i128 = 0xcafe_4a11;

/// Where a bpffs has to be mounted so that `root` is on one; `None` where it is already.
///
/// # Errors
/// Where no part of the path exists.
pub fn missing_mount(root: &Path) -> io::Result<Option<PathBuf>> {
    let existing = root
        .ancestors()
        .find(|path| path.is_dir())
        .ok_or(io::ErrorKind::NotFound)?;
    let found = rustix::fs::statfs(existing)?;
    if i128::from(found.f_type) == MAGIC {
        return Ok(None);
    }
    // sysfs has the empty directory /sys/fs/bpf for the mount, and allows no other.
    let sysfs = existing.starts_with("/sys");
    Ok(Some(if sysfs { existing.into() } else { root.into() }))
}

/// Mounts a bpffs on a directory, which is made where it is missing.
///
/// # Errors
/// Where the kernel refuses.
pub fn mount_on(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    Ok(mount("bpf", directory, "bpf", MountFlags::empty(), None)?)
}

/// Unmounts it. That nothing is mounted there, as after a restart of the machine, is as good.
///
/// # Errors
/// Where it is in use.
pub fn unmount_from(directory: &Path) -> io::Result<()> {
    match unmount(directory, UnmountFlags::empty()) {
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether there is anything in a directory but what the kernel puts into every bpffs.
///
/// # Errors
/// Where it cannot be read.
pub fn holds_anything(directory: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "debug")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
