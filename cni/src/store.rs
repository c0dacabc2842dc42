//! Leases on disk: who has which address.
//!
//! `STATE_DIR/NETWORK/leases/` has a file for each attachment. Its name is the host's interface and
//! the addresses, so a listing of the directory is the whole state, and a file is there with all
//! addresses or not at all. What is inside says whose it is. Whoever works on it has locked
//! `STATE_DIR/NETWORK/lock`; the kernel lets go of that when a process dies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::choose::{NoAddress, choose};
use crate::config::Place;
use crate::environment::{Attachment, Pod};
use crate::error::{CniError, Code};
use crate::name::HostInterface;
use crate::range::Range;

/// The leases of a network, locked.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
}

/// What a lease is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The host's interface.
    pub interface: HostInterface,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

/// Whose a lease is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The attachment.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The Pod, where there is Kubernetes.
    pub pod: Option<Pod>,
}

/// Between the parts of a lease's name; in no address and in no interface's name.
const SEPARATOR: char = ',';
/// Begins the names of files that are being written.
const UNFINISHED: &str = ".new.";
const LEASES: &str = "leases";
const LAST: &str = "last";

impl Store {
    /// The store of a network, made where it is not there.
    ///
    /// # Errors
    /// Where it cannot be made, or locked.
    pub fn open(place: &Place) -> Result<Self, CniError> {
        let directory = directory(place);
        let leases = directory.join(LEASES);
        fs::create_dir_all(&leases)
            .map_err(|error| CniError::file(&leases, "cannot be created", &error))?;
        Self::lock(directory)
    }

    /// The store of a network; `None` where it is not there.
    ///
    /// # Errors
    /// Where it cannot be locked.
    pub fn existing(place: &Place) -> Result<Option<Self>, CniError> {
        let directory = directory(place);
        match fs::metadata(directory.join(LEASES)) {
            Ok(_) => Self::lock(directory).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CniError::file(&directory, "cannot be read", &error)),
        }
    }

    fn lock(directory: PathBuf) -> Result<Self, CniError> {
        let path = directory.join("lock");
        let failed = |error| CniError::file(&path, "cannot be locked", &error);
        let options = File::options().create(true).append(true).open(&path);
        let lock = options.map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// All leases, in the order of their interfaces.
    ///
    /// # Errors
    /// Where they cannot be listed, or one cannot be understood: an address that is not seen would
    /// be given out twice.
    pub fn leases(&self) -> Result<Vec<Lease>, CniError> {
        let directory = self.directory.join(LEASES);
        let failed = |error| CniError::file(&directory, "cannot be listed", &error);
        let mut leases = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(UNFINISHED) {
                continue;
            }
            leases.push(Lease::parse(&name).ok_or_else(|| {
                CniError::new(
                    Code::Io,
                    format!(
                        "{}: not the name of a lease",
                        directory.join(&*name).display()
                    ),
                    "remove the file",
                )
            })?);
        }
        leases.sort_unstable();
        Ok(leases)
    }

    /// The lease of an attachment.
    ///
    /// # Errors
    /// As [`Self::leases`].
    pub fn find(&self, interface: &HostInterface) -> Result<Option<Lease>, CniError> {
        let mut leases = self.leases()?.into_iter();
        Ok(leases.find(|lease| lease.interface == *interface))
    }

    /// Chooses addresses and writes the lease; on disk before this returns.
    ///
    /// # Errors
    /// Where the attachment has a lease, no address is free, or the lease cannot be written.
    pub fn lease(
        &self,
        holder: &Holder,
        ranges: &[Range],
        wanted: &[IpAddr],
    ) -> Result<Lease, CniError> {
        let interface = HostInterface::of(&holder.attachment);
        let leases = self.leases()?;
        if let Some(lease) = leases.iter().find(|lease| lease.interface == interface) {
            return Err(already(holder, lease));
        }
        let all = leases.iter().flat_map(|lease| &lease.addresses);
        let held: BTreeSet<IpAddr> = all.copied().collect();
        let addresses = choose(ranges, wanted, &held, &self.last())
            .map_err(|why| self.explain(&why, &leases))?;
        let lease = Lease {
            interface,
            addresses,
        };
        self.write(&lease, holder)?;
        self.remember(&lease.addresses)?;
        Ok(lease)
    }

    /// Removes a lease. That it is not there is as good.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn release(&self, interface: &HostInterface) -> Result<(), CniError> {
        let unfinished = self.path(&format!("{UNFINISHED}{interface}"));
        let lease = self
            .find(interface)?
            .map(|lease| self.path(&lease.file_name()));
        for path in lease.into_iter().chain([unfinished]) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CniError::file(&path, "cannot be removed", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what processes that were killed have not finished. Nobody else writes: the store is
    /// locked.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub fn sweep(&self) -> Result<(), CniError> {
        let directory = self.directory.join(LEASES);
        let failed = |error| CniError::file(&directory, "cannot be swept", &error);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Whose a lease is.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn holder(&self, lease: &Lease) -> Result<Holder, CniError> {
        let path = self.path(&lease.file_name());
        let failed = |error| CniError::file(&path, "cannot be read", &error);
        let bytes = fs::read(&path).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
    }

    /// When a lease was written.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn written(&self, lease: &Lease) -> Result<SystemTime, CniError> {
        let path = self.path(&lease.file_name());
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        modified.map_err(|error| CniError::file(&path, "cannot be read", &error))
    }

    fn write(&self, lease: &Lease, holder: &Holder) -> Result<(), CniError> {
        let path = self.path(&lease.file_name());
        let failed = |error| CniError::file(&path, "cannot be written", &error);
        let unfinished = self.path(&format!("{UNFINISHED}{}", lease.interface));
        let text = serde_json::to_vec(holder).map_err(|error| failed(error.into()))?;
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            // The rename itself must survive a power cut too.
            File::open(self.directory.join(LEASES))?.sync_all()
        };
        write().map_err(failed)
    }

    /// The addresses given out last. Only to use an address again as late as may be, so a file that
    /// cannot be read is as good as none.
    fn last(&self) -> Vec<IpAddr> {
        let text = fs::read_to_string(self.directory.join(LAST)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn remember(&self, addresses: &[IpAddr]) -> Result<(), CniError> {
        let path = self.directory.join(LAST);
        let lines: String = addresses.iter().map(|a| format!("{a}\n")).collect();
        fs::write(&path, lines).map_err(|error| CniError::file(&path, "cannot be written", &error))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(LEASES).join(name)
    }

    fn explain(&self, why: &NoAddress, leases: &[Lease]) -> CniError {
        let shown = |ranges: &[ipnet::IpNet]| {
            let names: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        match why {
            NoAddress::Exhausted { ranges, size } => CniError::new(
                Code::Exhausted,
                format!("no address of {} is free", shown(ranges)),
                format!(
                    "all {size} are leased: {}; delete pods, or give the node a larger podCIDR",
                    self.by_namespace(leases, |address| ranges
                        .iter()
                        .any(|r| r.contains(&address)))
                ),
            ),
            NoAddress::InUse(address) => {
                let lease = leases
                    .iter()
                    .find(|lease| lease.addresses.contains(address));
                let holder = lease.map(|lease| self.holder(lease));
                let who = match holder {
                    Some(Ok(holder)) => holder.to_string(),
                    Some(Err(error)) => error.to_string(),
                    None => "unknown".to_owned(),
                };
                CniError::new(
                    Code::AddressInUse,
                    format!("{address} is in use"),
                    format!("it is leased to {who}"),
                )
            }
            NoAddress::NotOffered { address, ranges } => CniError::new(
                Code::InvalidConfig,
                format!("{address} cannot be given to a pod"),
                format!(
                    "expected an address of [{}] that is not the network's, the first or the broadcast address",
                    shown(ranges)
                ),
            ),
            NoAddress::Twice(first, second) => CniError::new(
                Code::InvalidConfig,
                format!("{first} and {second} are asked for"),
                "a pod gets one address of each family",
            ),
        }
    }

    /// `120 by shop, 3 by kube-system`.
    fn by_namespace(&self, leases: &[Lease], concerns: impl Fn(IpAddr) -> bool) -> String {
        let mut counts = BTreeMap::<String, usize>::new();
        for lease in leases {
            let count = lease
                .addresses
                .iter()
                .filter(|address| concerns(**address))
                .count();
            let pod = self.holder(lease).ok().and_then(|holder| holder.pod);
            let who = pod.map_or("containers without a Pod".to_owned(), |pod| pod.namespace);
            *counts.entry(who).or_default() += count;
        }
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let parts: Vec<_> = counts
            .iter()
            .map(|(who, count)| format!("{count} by {who}"))
            .collect();
        parts.join(", ")
    }
}

impl Lease {
    fn file_name(&self) -> String {
        let addresses = self
            .addresses
            .iter()
            .map(|address| format!("{SEPARATOR}{address}"));
        format!("{}{}", self.interface, addresses.collect::<String>())
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split(SEPARATOR);
        let interface = HostInterface::parse(parts.next()?)?;
        let addresses: Vec<IpAddr> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        (!addresses.is_empty()).then_some(Self {
            interface,
            addresses,
        })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Attachment { container, ifname } = &self.attachment;
        if let Some(pod) = &self.pod {
            write!(formatter, "Pod {}/{}, ", pod.namespace, pod.name)?;
        }
        write!(formatter, "{ifname} of container {container}")
    }
}

fn already(holder: &Holder, lease: &Lease) -> CniError {
    let addresses: Vec<_> = lease.addresses.iter().map(ToString::to_string).collect();
    CniError::new(
        Code::AlreadyAttached,
        format!("{holder} is attached already"),
        format!(
            "it has {} behind {}; a DEL has to come first",
            addresses.join(" and "),
            lease.interface
        ),
    )
}

fn directory(place: &Place) -> PathBuf {
    Path::new(&place.state_dir).join(&place.network)
}

#[cfg(test)]
mod tests;
