//! Cgroups of a lab: one subtree for the lab, in it one for each node and one for what no hook
//! covers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where cgroup version 2 is mounted.
pub fn unified_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?.map(PathBuf::from)
        })
        .context("no cgroup version 2 is mounted; the lab needs one: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// Creates a cgroup.
pub(super) fn create(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("{}: cannot create the cgroup", path.display()))
}

/// Kills every process in the subtree and removes it. Absent is as good.
pub(super) fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let kill = path.join("cgroup.kill");
    fs::write(&kill, "1")
        .with_context(|| format!("{}: cannot end the processes", kill.display()))?;
    super::eventually("processes of the lab end", || {
        remove_tree(path)?;
        Ok(Some(()))
    })
}

fn remove_tree(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path).with_context(|| format!("{}: cannot remove the cgroup", path.display()))
}
