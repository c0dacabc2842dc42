//! `--cleanup-config`: takes back everything the agent ever put on the node, and nothing else.
//!
//! Maps, programs and links are found by their place below `--bpf-root`, and unpinned
//! without being opened, so those of an older or newer version go too. The rest is in the record
//! (`ownership`).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cni::rcu::Hurry;

use crate::cni::{conflist, install};
use crate::config::Paths;
use crate::config::arguments::Arguments;
use crate::lb::ebpf::clsact;
use crate::lb::ebpf::handback::{self, HandedBack};
use crate::lb::ebpf::takeover;
use crate::ownership::{Ownership, OwnershipError, Sysctl};
use crate::route;
use crate::route::image::Step;
use crate::sys::lock::{Lock, LockError};
use crate::sys::{bpffs, file, links, qdisc, sysctl};

/// Directory of pinned maps below `--bpf-root`.
pub const MAPS: &str = "maps";
/// Directory of pinned programs below `--bpf-root`.
pub const PROGRAMS: &str = "programs";
/// Directory of pinned links below `--bpf-root`.
pub const LINKS: &str = "links";
/// File with the agent's process id below `--state-dir`.
pub const HOLDER: &str = "agent.pid";

/// Something to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A pinned link, program or map; the last reference, so it detaches or frees what it pins.
    Pin(PathBuf),
    /// A filter of the clsact qdisc.
    Filter {
        /// Its interface.
        interface: String,
    },
    /// The clsact qdisc of an interface, which the agent made.
    Qdisc {
        /// Its interface.
        interface: String,
    },
    /// A route, a rule, or the overlay with what is on it.
    Network(Step),
    /// A setting.
    Sysctl(Sysctl),
    /// A file or a socket.
    File(PathBuf),
    /// A directory.
    Directory(PathBuf),
    /// A mounted bpffs.
    Mount(PathBuf),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(path) => write!(f, "pin        {}", path.display()),
            Self::Filter { interface } => write!(f, "tc filters {interface}"),
            Self::Qdisc { interface } => write!(f, "qdisc      clsact of {interface}"),
            Self::Network(step) => write!(f, "network    {step}"),
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

/// What there is to take back, in the order in which it is safe: filters and links before maps, so
/// that no program runs without its tables.
///
/// # Errors
/// Where an agent runs, or something cannot be read.
pub fn plan(
    paths: &Paths,
    interfaces: &[String],
    network: Vec<Step>,
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
    if record.clsact {
        items.extend(interfaces.iter().map(|interface| Item::Filter {
            interface: interface.clone(),
        }));
    }
    let qdiscs = record.qdiscs.into_iter();
    let there = qdiscs.filter(|interface| interfaces.contains(interface));
    items.extend(there.map(|interface| Item::Qdisc { interface }));
    for directory in [LINKS, PROGRAMS, MAPS].map(|name| paths.bpf_root.join(name)) {
        if directory.is_dir() {
            items.extend(entries(&directory)?.into_iter().map(Item::Pin));
            items.push(Item::Directory(directory));
        }
    }
    items.extend(network.into_iter().map(Item::Network));
    items.extend(record.sysctls.into_iter().map(Item::Sysctl));
    let files = record.sockets.into_iter().chain(record.files);
    let files = files.chain([holder]);
    // Before the plugin that it names.
    items.extend(cni_files(record.cni_configs, |bytes| {
        conflist::is_own(&String::from_utf8_lossy(bytes))
    }));
    items.extend(cni_files(record.cni_plugins, install::is_plugin));
    items.extend(files.filter(|path| path.exists()).map(Item::File));
    // The inner before the outer, what is mounted before the directory it is mounted on.
    let directories = record.directories.into_iter().filter(|path| path.is_dir());
    let (of_the_record, others): (Vec<_>, Vec<_>) =
        directories.partition(|path| paths.state_dir.starts_with(path));
    let mut places: Vec<(PathBuf, bool)> = others.into_iter().map(|path| (path, false)).collect();
    places.extend(record.mounts.into_iter().map(|path| (path, true)));
    places.sort_by(|a, b| b.cmp(a));
    items.extend(places.into_iter().map(|(path, mounted)| {
        if mounted {
            Item::Mount(path)
        } else {
            Item::Directory(path)
        }
    }));
    // Last, so that an interrupted cleanup can be run again.
    if ownership.path().exists() {
        items.push(Item::File(ownership.path().to_owned()));
    }
    items.extend(of_the_record.into_iter().rev().map(Item::Directory));
    Ok((items, lock))
}

/// What came of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is gone.
    Back,
    /// Somebody else uses it now.
    Kept,
}

/// Takes one thing back. That it is gone already is as good.
///
/// # Errors
/// Where the kernel refuses.
pub fn take_back(item: &Item) -> io::Result<Taken> {
    let result = match item {
        Item::Pin(path) | Item::File(path) => fs::remove_file(path),
        Item::Directory(path) => fs::remove_dir(path),
        Item::Filter { interface } => {
            clsact::remove(interface);
            Ok(())
        }
        Item::Qdisc { interface } => {
            return qdisc::delete_if_empty(interface)
                .map(|deleted| if deleted { Taken::Back } else { Taken::Kept });
        }
        Item::Network(step) => route::netlink::take_back(step),
        Item::Sysctl(Sysctl { name, before }) => sysctl::set(name, before),
        Item::Mount(path) => {
            if bpffs::holds_anything(path)? {
                return Ok(Taken::Kept);
            }
            bpffs::unmount_from(path)
        }
    };
    let Err(error) = result else {
        return Ok(Taken::Back);
    };
    // Something is in the directory, or a bpffs that was kept is mounted on it.
    let used = [
        io::ErrorKind::DirectoryNotEmpty,
        io::ErrorKind::ResourceBusy,
    ];
    if error.kind() == io::ErrorKind::NotFound {
        Ok(Taken::Back)
    } else if matches!(item, Item::Directory(_)) && used.contains(&error.kind()) {
        Ok(Taken::Kept)
    } else {
        Err(error)
    }
}

/// Runs `--cleanup-config`: lists, or takes back and lists. One failure does not stop the rest.
///
/// # Errors
/// Where an agent runs, or something cannot be read.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let rehearsal = arguments.removal.dry_run;
    let paths = Paths::from(arguments.operation.paths);
    let interfaces = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(links::names())?;
    let network = route::netlink::leftovers()?;
    let (items, lock) = plan(&paths, &interfaces, network)?;
    let mut out = anstream::stdout();
    if items.is_empty() {
        writeln!(out, "nothing of fairlead-agent is on this node")?;
        return Ok(ExitCode::SUCCESS);
    }
    if rehearsal {
        for item in &items {
            writeln!(out, "would remove  {item}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let pins = paths.bpf_root.join(MAPS);
    // To detach waits as well; what a killed agent left of it ends here.
    let _hurry = Hurry::begin(arguments.operation.rcu_expedited);
    let mut handed_back = hand_back(&pins, &mut out)?;
    let record = Item::File(Ownership::place(&paths.state_dir));
    let (mut code, mut lock) = (ExitCode::SUCCESS, lock);
    for item in &items {
        // Links and filters come before the maps: now the programs are detached.
        if matches!(item, Item::Pin(path) if path.starts_with(&pins))
            && let Some(began) = handed_back.take()
            && let Err(error) = handback::settle(&pins, began)
        {
            writeln!(
                out,
                "handed back   connections that may have ended: {error}"
            )?;
        }
        // The lock is on a directory below.
        if matches!(item, Item::Mount(_)) {
            lock = None;
        }
        if *item == record && code == ExitCode::FAILURE {
            writeln!(out, "kept          {item}: for the next run")?;
            continue;
        }
        match take_back(item) {
            Ok(Taken::Back) => writeln!(out, "removed       {item}")?,
            Ok(Taken::Kept) => writeln!(out, "kept          {item}: not the agent's alone")?,
            Err(error) => {
                code = ExitCode::FAILURE;
                writeln!(
                    out,
                    "FAILED        {item}: {error}; remove what holds it and run this again"
                )?;
            }
        }
    }
    drop(lock);
    Ok(code)
}

/// Gives the connections to the kernel, where another proxy's rules have it translate. The answer
/// is when that began.
fn hand_back(pins: &Path, out: &mut impl io::Write) -> io::Result<Option<u64>> {
    if takeover::is_first_start(pins) {
        return Ok(None);
    }
    let handed = handback::begin(pins).and_then(|began| Ok((began, handback::hand_back(pins)?)));
    match handed {
        Ok((began, HandedBack { carried, left })) => {
            if carried + left > 0 {
                writeln!(
                    out,
                    "handed back   {carried} connections to the kernel; {left} it would not take"
                )?;
            }
            Ok(Some(began))
        }
        Err(error) => {
            writeln!(out, "handed back   no connection: {error}")?;
            Ok(None)
        }
    }
}

/// Files of the installed CNI that are the agent's, and what an interrupted write left beside.
fn cni_files(
    paths: BTreeSet<PathBuf>,
    is_own: impl Fn(&[u8]) -> bool,
) -> impl Iterator<Item = Item> {
    let with_rest = paths
        .into_iter()
        .flat_map(|path| [file::beside(&path), path]);
    let owned = with_rest.filter(move |path| {
        let beside = path.extension().is_some_and(|extension| extension == "new");
        path.is_file() && (beside || fs::read(path).is_ok_and(|bytes| is_own(&bytes)))
    });
    owned.map(Item::File)
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
mod tests;
