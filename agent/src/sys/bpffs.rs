//! The file system of pinned maps and links.

use std::io;
use std::path::{Path, PathBuf};

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

/// Unmounts it.
///
/// # Errors
/// Where it is in use.
pub fn unmount_from(directory: &Path) -> io::Result<()> {
    Ok(unmount(directory, UnmountFlags::empty())?)
}
