//! `--cleanup-config`: takes back everything the agent ever put on the node, and nothing else.
//!
//! Maps and links are found by their place, `maps/` and `links/` below `--bpf-root`, and unpinned
//! without being opened, so those of an older or newer version go too. The rest is in the record
//! (`ownership`).

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::Paths;
use crate::config::arguments::Arguments;
use crate::lb::ebpf::attach;
use crate::ownership::{Ownership, OwnershipError, Sysctl};
use crate::sys::lock::{Lock, LockError};
use crate::sys::{bpffs, links, sysctl};

/// Directory of pinned maps below `--bpf-root`.
pub const MAPS: &str = "maps";
/// Directory of pinned links below `--bpf-root`.
pub const LINKS: &str = "links";
/// File with the agent's process id below `--state-dir`.
pub const HOLDER: &str = "agent.pid";

/// Something to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A pinned link or map; the last reference, so it detaches or frees what it pins.
    Pin(PathBuf),
    /// A filter of the clsact qdisc.
    Filter {
        /// Its interface.
        interface: String,
    },
    /// A setting.
    Sysctl(Sysctl),
    /// A file or a socket.
    File(PathBuf),
    /// A directory that is empty by then.
    Directory(PathBuf),
    /// A bpffs.
    Mount(PathBuf),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(path) => write!(f, "pin        {}", path.display()),
            Self::Filter { interface } => write!(f, "tc filters {interface}"),
            Self::Sysctl(Sysctl { name, before }) => {
                write!(f, "sysctl     {name} back to {before}")
            }
            Self::File(path) => write!(f, "file       {}", path.display()),
            Self::Directory(path) => write!(f, "directory  {}", path.display()),
            Self::Mount(path) => write!(f, "bpffs      {}", path.display()),
        }
    }
}

/// Why nothing could be taken back.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// An agent runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The record.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// A directory.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What there is to take back, in the order in which it is safe: links before maps, so that no
/// program runs without its tables.
///
/// # Errors
/// Where an agent runs, or something cannot be read.
pub fn plan(
    paths: &Paths,
    interfaces: &[String],
) -> Result<(Vec<Item>, Option<Lock>), CleanupError> {
    let holder = paths.state_dir.join(HOLDER);
    let lock = paths
        .bpf_root
        .is_dir()
        .then(|| Lock::take(&paths.bpf_root, &holder))
        .transpose()?;
    let ownership = Ownership::load(&paths.state_dir)?;
    let record = ownership.record().clone();
    let mut items = Vec::new();
    for directory in [paths.bpf_root.join(LINKS), paths.bpf_root.join(MAPS)] {
        if directory.is_dir() {
            items.extend(entries(&directory)?.into_iter().map(Item::Pin));
            items.push(Item::Directory(directory));
        }
    }
    if record.clsact {
        items.extend(interfaces.iter().map(|interface| Item::Filter {
            interface: interface.clone(),
        }));
    }
    items.extend(record.sysctls.into_iter().map(Item::Sysctl));
    let files = record.socket.into_iter().chain([holder]);
    items.extend(files.filter(|path| path.exists()).map(Item::File));
    items.extend(record.mounts.into_iter().map(Item::Mount));
    // Last, so that an interrupted cleanup can be run again.
    items.extend(
        Some(ownership.path().to_owned())
            .filter(|path| path.exists())
            .map(Item::File),
    );
    Ok((items, lock))
}

/// Takes one thing back. That it is gone already is as good.
///
/// # Errors
/// Where the kernel refuses.
pub fn take_back(item: &Item) -> io::Result<()> {
    let result = match item {
        Item::Pin(path) | Item::File(path) => fs::remove_file(path),
        Item::Directory(path) => fs::remove_dir(path),
        Item::Filter { interface } => {
            attach::remove_filters(interface);
            Ok(())
        }
        Item::Sysctl(Sysctl { name, before }) => sysctl::set(name, before),
        Item::Mount(path) => bpffs::unmount_from(path),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs `--cleanup-config`: lists, or takes back and lists. One failure does not stop the rest.
///
/// # Errors
/// Where an agent runs, or something cannot be read.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (rehearsal, paths) = (arguments.dry_run, Paths::from(arguments.paths));
    let interfaces = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(links::names())?;
    let (items, lock) = plan(&paths, &interfaces)?;
    let mut out = anstream::stdout();
    if items.is_empty() {
        writeln!(out, "nothing of fairlead-agent is on this node")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    // The lock is on a directory that may be unmounted below.
    drop(lock);
    for item in &items {
        if rehearsal {
            writeln!(out, "would remove  {item}")?;
        } else if let Err(error) = take_back(item) {
            code = ExitCode::FAILURE;
            writeln!(
                out,
                "FAILED        {item}: {error}; remove what holds it and run this again"
            )?;
        } else {
            writeln!(out, "removed       {item}")?;
        }
    }
    Ok(code)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, CleanupError> {
    let unreadable = |source| CleanupError::Unreadable {
        path: directory.into(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_recorded_or_in_its_place_is_planned() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in [
            "bpf/links/a",
            "bpf/maps/b",
            "bpf/somebody-else/c",
            "state/foreign",
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
        }
        let paths = Paths {
            state_dir: at("state"),
            bpf_root: at("bpf"),
            cgroup_root: None,
            socket: at("socket"),
        };
        let before = Sysctl {
            name: "net.ipv4.ip_forward".into(),
            before: "0".into(),
        };
        let mut ownership = Ownership::load(&paths.state_dir).unwrap();
        ownership
            .remember(|record| record.sysctls.push(before.clone()))
            .unwrap();
        let (items, _lock) = plan(&paths, &["eth0".into()]).unwrap();
        assert_eq!(
            items,
            [
                Item::Pin(at("bpf/links/a")),
                Item::Directory(at("bpf/links")),
                Item::Pin(at("bpf/maps/b")),
                Item::Directory(at("bpf/maps")),
                Item::Sysctl(before),
                Item::File(at("state/ownership.json")),
            ]
        );
        drop(_lock);
        for item in items.iter().filter(|item| !matches!(item, Item::Sysctl(_))) {
            take_back(item).unwrap();
            take_back(item).unwrap();
        }
        assert_eq!(plan(&paths, &[]).unwrap().0, []);
        assert!(at("bpf/somebody-else/c").exists() && at("state/foreign").exists());
    }

    #[test]
    fn a_running_agent_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths {
            state_dir: directory.path().into(),
            bpf_root: directory.path().into(),
            cgroup_root: None,
            socket: directory.path().join("socket"),
        };
        let holder = directory.path().join(HOLDER);
        let lock = Lock::take(directory.path(), &holder).unwrap();
        lock.sign(&holder).unwrap();
        let error = plan(&paths, &[]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
    }
}
