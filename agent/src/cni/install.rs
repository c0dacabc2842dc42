//! Puts the CNI configuration and the plugin where container runtimes look for them, once the node
//! has its pod networks, and keeps them so.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::conflist::{self, PLUGIN};
use crate::desired::Desired;
use crate::sys::file;

/// What others do to the files is seen within this time; nothing is read that is large but the
/// plugin, of a few megabytes.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What could not be done is tried again after this long: a node has no pods without it.
const RETRY: Duration = Duration::from_secs(5);
/// kube-router's configurations, of which the first that is there is followed.
const KUBE_ROUTER: [&str; 2] = ["10-kuberouter.conflist", "10-kuberouter.conf"];
/// Where kube-router is told that its configuration is elsewhere.
const KUBE_ROUTER_FILE: &str = "KUBE_ROUTER_CNI_CONF_FILE";

/// What goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The configuration.
    pub config: PathBuf,
    /// Where earlier runs have had it, under another name or in another directory.
    pub earlier: Vec<PathBuf>,
    /// The installed plugin.
    pub plugin: PathBuf,
    /// The plugin that is installed; else beside the agent.
    pub source: Option<PathBuf>,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Where the plugin keeps leases.
    pub state_dir: PathBuf,
    /// Whether the configuration says how large packets of pods may be.
    pub auto_mtu: bool,
    /// Whether the plugin may hurry the kernel.
    pub hurries: bool,
}

/// What came of it, for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// What is there.
    pub state: String,
    /// What is wrong, and what to do.
    pub error: Option<String>,
}

/// Why something is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Reading or writing.
    #[error("{}: cannot be {verb}: {source}; {remedy}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Somebody else's file.
    #[error("{}: is there and is not the agent's; move it away", .0.display())]
    Foreign(PathBuf),
    /// kube-router's configuration is no such one.
    #[error("{}: {reason}; mend it, or move it away to have the agent's own", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
}

/// Installs, and follows changes until `cancel`.
pub async fn run(
    places: Places,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    status: watch::Sender<Installed>,
    cancel: CancellationToken,
) {
    loop {
        let network = network(desired.borrow_and_update().as_deref());
        let installed = match network.clone() {
            None => Installed {
                state: "waiting for the cluster".to_owned(),
                error: None,
            },
            Some((ranges, mtu)) => {
                let places = places.clone();
                let work = move || install(&places, &ranges, mtu);
                let installed = tokio::task::spawn_blocking(work).await;
                installed.unwrap_or_else(|error| Installed {
                    state: "not installed".to_owned(),
                    error: Some(error.to_string()),
                })
            }
        };
        let pause = match installed.error {
            Some(_) => RETRY,
            None => LOOK_AGAIN,
        };
        status.send_if_modified(|before| {
            if *before == installed {
                return false;
            }
            match &installed.error {
                Some(error) => tracing::error!(
                    error,
                    "the CNI configuration is not as it should be; tried again"
                ),
                None => tracing::info!(state = installed.state, "CNI"),
            }
            *before = installed;
            true
        });
        // Of what else changes in the cluster, nothing is in the files.
        let differs = |now: &Option<Arc<Desired>>| self::network(now.as_deref()) != network;
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = async { desired.wait_for(differs).await.map(drop) } => if changed.is_err() {
                return cancel.cancelled().await;
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The node's pod networks, and how large packets may be in them, where they are known.
fn network(desired: Option<&Desired>) -> Option<(Vec<IpNet>, Option<u32>)> {
    let routes = desired?.routes.as_ref()?;
    Some((routes.own.iter().copied().collect(), routes.mtu))
}

/// Brings the files in line with the node's pod networks.
pub fn install(places: &Places, ranges: &[IpNet], mtu: Option<u32>) -> Installed {
    let mtu = mtu.filter(|_| places.auto_mtu);
    let result = match (kube_routers(places), ranges) {
        (theirs, []) => without_network(theirs.as_deref(), places, mtu),
        (Some(path), _) => follow(&path, places, ranges, mtu),
        (None, _) => own(places, ranges, mtu),
    };
    match result {
        Ok(state) => Installed { state, error: None },
        Err(error) => Installed {
            state: "not installed".to_owned(),
            error: Some(error.to_string()),
        },
    }
}

/// A node without a pod network gives no addresses. The configuration of before stays all the same,
/// without ranges: without one, runtimes would not take the network of pods back that are there.
/// kube-router's is left: host-local takes nothing back without a subnet.
fn without_network(
    theirs: Option<&Path>,
    places: &Places,
    mtu: Option<u32>,
) -> Result<String, InstallError> {
    const NONE: &str = "waiting: the node has no pod network";
    if let Some(theirs) = theirs {
        let theirs = theirs.display();
        return Ok(format!("{NONE}; {theirs} is left as it is"));
    }
    let there = read(&places.config)?;
    if !there.is_some_and(|text| conflist::is_own(&String::from_utf8_lossy(&text))) {
        return Ok(NONE.to_owned());
    }
    own(places, &[], mtu)?;
    let config = places.config.display();
    Ok(format!(
        "{NONE}; {config} stays for the pods that are there, and gives no addresses"
    ))
}

/// kube-router's configuration, where there is one.
fn kube_routers(places: &Places) -> Option<PathBuf> {
    let directory = places.config.parent().unwrap_or(Path::new("/"));
    let told = std::env::var_os(KUBE_ROUTER_FILE).map(PathBuf::from);
    let beside = KUBE_ROUTER.iter().map(|name| directory.join(name));
    let mut paths = told.into_iter().chain(beside);
    paths.find(|path| *path != places.config && path.is_file())
}

/// Keeps kube-router's subnet and MTU current. One configuration wins: the agent's own is taken away.
fn follow(
    path: &Path,
    places: &Places,
    ranges: &[IpNet],
    mtu: Option<u32>,
) -> Result<String, InstallError> {
    let text = read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let next =
        conflist::with_subnets(&text, ranges, mtu).map_err(|reason| InstallError::Unknown {
            path: path.to_owned(),
            reason,
        })?;
    if let Some(next) = next {
        write(path, next.as_bytes(), 0o644)?;
    }
    let own = places.earlier.iter().chain([&places.config]);
    own.into_iter().try_for_each(|path| remove_own(path))?;
    Ok(format!(
        "{} is there: its subnet is kept current, and the agent's own is not installed",
        path.display()
    ))
}

/// Removes a configuration, where it is the agent's.
fn remove_own(path: &Path) -> Result<(), InstallError> {
    if !read(path)?.is_some_and(|text| conflist::is_own(&String::from_utf8_lossy(&text))) {
        return Ok(());
    }
    fs::remove_file(path).map_err(|source| InstallError::Io {
        path: path.to_owned(),
        verb: "removed",
        source,
        remedy: "remove it: two configurations are one too many",
    })
}

/// Installs the plugin, then the configuration that names it.
fn own(places: &Places, ranges: &[IpNet], mtu: Option<u32>) -> Result<String, InstallError> {
    let Places {
        config,
        earlier,
        plugin,
        source,
        socket,
        state_dir,
        auto_mtu: _,
        hurries,
    } = places;
    let wanted = conflist::own(ranges, mtu, socket, state_dir, *hurries);
    let there = read(config)?;
    if there
        .as_ref()
        .is_some_and(|text| !conflist::is_own(&String::from_utf8_lossy(text)))
    {
        return Err(InstallError::Foreign(config.clone()));
    }
    install_plugin(plugin, source.as_deref())?;
    if there.as_deref() != Some(wanted.as_bytes()) {
        write(config, wanted.as_bytes(), 0o644)?;
    }
    earlier.iter().try_for_each(|path| remove_own(path))?;
    Ok(format!("{} is installed", config.display()))
}

fn install_plugin(plugin: &Path, source: Option<&Path>) -> Result<(), InstallError> {
    let beside = || {
        std::env::current_exe()
            .unwrap_or_default()
            .with_file_name(PLUGIN)
    };
    let source = source.map_or_else(beside, Path::to_owned);
    let remedy = "say where it is with --cni-plugin";
    let wanted = fs::read(&source).map_err(|error| InstallError::Io {
        path: source,
        verb: "read",
        source: error,
        remedy,
    })?;
    match read(plugin)? {
        Some(there) if there == wanted => Ok(()),
        Some(there) if !is_plugin(&there) => Err(InstallError::Foreign(plugin.to_owned())),
        _ => write(plugin, &wanted, 0o755),
    }
}

/// Whether a file is a build of the plugin: each has its name in it.
pub fn is_plugin(bytes: &[u8]) -> bool {
    let name = PLUGIN.as_bytes();
    bytes.windows(name.len()).any(|part| part == name)
}

/// A file, where it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(InstallError::Io {
            path: path.to_owned(),
            verb: "read",
            source,
            remedy: "check its permissions",
        }),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InstallError> {
    let directory = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = directory.and_then(|()| file::replace_as(path, bytes, mode));
    written.map_err(|source| InstallError::Io {
        path: path.to_owned(),
        verb: "written",
        source,
        remedy: "make its directory writable for the agent, in the DaemonSet too: no readOnly at the volume",
    })
}
