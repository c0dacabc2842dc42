//! Taking a lab down by its name, whoever built it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

use super::{cgroup, namespace};

/// The directory of a lab.
pub(super) fn directory(lab: &str) -> PathBuf {
    env::temp_dir().join(lab)
}

/// Removes everything of a lab: processes, cgroups, mounts, namespaces, files. What is not there
/// needs no removing; an error does not keep the rest from being removed, and the first is told.
pub fn remove(lab: &str) -> Result<()> {
    let steps = [
        cgroup::unified_mount().and_then(|mount| cgroup::remove(&mount.join(lab))),
        mounts_below(&directory(lab))
            .and_then(|mounts| mounts.iter().try_for_each(|mount| detach(mount))),
        namespaces_of(lab).and_then(|names| {
            let lines: Vec<_> = names
                .iter()
                .map(|name| format!("netns del {name}\n"))
                .collect();
            if lines.is_empty() {
                Ok(())
            } else {
                namespace::batch(&["-force"], &lines.concat())
            }
        }),
        remove_directory(&directory(lab)),
    ];
    steps.into_iter().collect()
}

/// What is there of a lab, a line each.
pub fn remains(lab: &str) -> Result<Vec<String>> {
    let group = cgroup::unified_mount()?.join(lab);
    let directory = directory(lab);
    let mut found: Vec<_> = [group, directory.clone()]
        .into_iter()
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    found.extend(
        mounts_below(&directory)?
            .into_iter()
            .map(|mount| format!("mount {}", mount.display())),
    );
    found.extend(
        namespaces_of(lab)?
            .into_iter()
            .map(|name| format!("network namespace {name}")),
    );
    Ok(found)
}

fn detach(mount: &Path) -> Result<()> {
    unmount(mount, UnmountFlags::DETACH)
        .with_context(|| format!("{}: cannot be unmounted", mount.display()))
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Mount points below a directory, the deepest first.
fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let below = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let mut below: Vec<_> = below.filter(|mount| mount.starts_with(directory)).collect();
    below.sort_unstable_by(|a, b| b.cmp(a));
    Ok(below)
}

fn namespaces_of(lab: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(namespace::DIRECTORY) {
        Ok(entries) => entries,
        // The directory appears with the first namespace.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(namespace::DIRECTORY),
    };
    let prefix = format!("{lab}-");
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            names.push(name);
        }
    }
    Ok(names)
}
