//! Puts the CNI configuration and the plugin where container runtimes look for them, once the node
//! has its pod networks, and keeps them so.

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
/// kube-router's configurations, of which the first that is there is followed.
const KUBE_ROUTER: [&str; 2] = ["10-kuberouter.conflist", "10-kuberouter.conf"];
/// Where kube-router is told that its configuration is elsewhere.
const KUBE_ROUTER_FILE: &str = "KUBE_ROUTER_CNI_CONF_FILE";

/// What goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The configuration.
    pub config: PathBuf,
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
        let current = desired.borrow_and_update().clone();
        let routes = current.as_ref().and_then(|desired| desired.routes.as_ref());
        let installed = match routes {
            None => Installed {
                state: "waiting for the cluster".to_owned(),
                error: None,
            },
            Some(routes) => {
                let ranges: Vec<IpNet> = routes.own.iter().copied().collect();
                let (places, mtu) = (places.clone(), routes.mtu);
                let work = move || install(&places, &ranges, mtu);
                let installed = tokio::task::spawn_blocking(work).await;
                installed.unwrap_or_else(|error| Installed {
                    state: "not installed".to_owned(),
                    error: Some(error.to_string()),
                })
            }
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
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = desired.changed() => if changed.is_err() {
                return cancel.cancelled().await;
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Brings the files in line with the node's pod networks.
pub fn install(places: &Places, ranges: &[IpNet], mtu: Option<u32>) -> Installed {
    let mtu = mtu.filter(|_| places.auto_mtu);
    let result = match (kube_routers(places), ranges) {
        (_, []) => Ok("waiting: the node has no pod network".to_owned()),
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
    if read(&places.config)?.is_some_and(|text| conflist::is_own(&String::from_utf8_lossy(&text))) {
        let removed = fs::remove_file(&places.config);
        removed.map_err(|source| InstallError::Io {
            path: places.config.clone(),
            verb: "removed",
            source,
            remedy: "remove it: two configurations are one too many",
        })?;
    }
    Ok(format!(
        "{} is there: its subnet is kept current, and the agent's own is not installed",
        path.display()
    ))
}

/// Installs the plugin, then the configuration that names it.
fn own(places: &Places, ranges: &[IpNet], mtu: Option<u32>) -> Result<String, InstallError> {
    let Places {
        config,
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().unwrap());
            fs::write(node.0.path().join("source"), b"\x7fELF fairlead-cni 1").unwrap();
            node
        }

        fn places(&self) -> Places {
            let at = |name: &str| self.0.path().join(name);
            Places {
                config: at("net.d/10-fairlead.conflist"),
                plugin: at("bin/fairlead-cni"),
                source: Some(at("source")),
                socket: "/run/a.sock".into(),
                state_dir: "/run/cni".into(),
                auto_mtu: true,
                hurries: true,
            }
        }

        #[track_caller]
        fn install(&self, ranges: &[&str], mtu: u32) -> Installed {
            let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
            install(&self.places(), &ranges, Some(mtu))
        }

        fn config(&self) -> String {
            fs::read_to_string(self.places().config).unwrap_or_default()
        }

        fn times(&self) -> Vec<std::time::SystemTime> {
            let places = self.places();
            let files = [places.config, places.plugin];
            files
                .iter()
                .map(|path| fs::metadata(path).unwrap().modified().unwrap())
                .collect()
        }
    }

    #[test]
    fn the_configuration_comes_with_the_networks_and_follows_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let node = Node::new();
        assert!(node.install(&[], 1500).state.contains("waiting"));
        assert!(!node.places().config.exists() && !node.places().plugin.exists());
        assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
        assert!(node.config().contains("10.244.1.0/24") && node.config().contains("1450"));
        let mode = fs::metadata(node.places().plugin)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        let times = node.times();
        assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
        assert_eq!(node.times(), times, "nothing is written that is there");
        node.install(&["10.244.7.0/24", "fd00::/64"], 1450);
        assert!(node.config().contains("10.244.7.0/24") && node.config().contains("fd00::/64"));
        node.install(&["10.244.7.0/24"], 8950);
        assert!(node.config().contains("8950"));
        fs::write(node.0.path().join("source"), "fairlead-cni 2").unwrap();
        node.install(&["10.244.7.0/24"], 8950);
        assert_eq!(fs::read(node.places().plugin).unwrap(), b"fairlead-cni 2");
        let left: Vec<_> = fs::read_dir(node.0.path().join("net.d")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn without_auto_mtu_no_configuration_says_one() {
        let node = Node::new();
        let places = Places {
            auto_mtu: false,
            ..node.places()
        };
        let ranges = ["10.244.1.0/24".parse().unwrap()];
        assert_eq!(install(&places, &ranges, Some(1450)).error, None);
        assert!(!node.config().contains("mtu"), "{}", node.config());
    }

    #[test]
    fn files_of_others_are_left_and_named() {
        let node = Node::new();
        let Places { config, plugin, .. } = node.places();
        for path in [&config, &plugin] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "somebody else's").unwrap();
            let error = node.install(&["10.244.1.0/24"], 1450).error.unwrap();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert_eq!(fs::read_to_string(path).unwrap(), "somebody else's");
            fs::remove_file(path).unwrap();
        }
        assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
        let node = Node::new();
        // Root may write where permissions forbid it, but not below a file.
        fs::write(node.0.path().join("net.d"), "").unwrap();
        let installed = node.install(&["10.244.1.0/24"], 1450);
        let error = installed.error.unwrap();
        assert!(error.contains("10-fairlead.conflist"), "{error}");
        fs::remove_file(node.0.path().join("net.d")).unwrap();
        assert_eq!(node.install(&["10.244.1.0/24"], 1450).error, None);
    }

    #[test]
    fn kube_routers_configuration_wins_and_its_subnet_is_kept_current() {
        let node = Node::new();
        node.install(&["10.244.1.0/24"], 1450);
        let theirs = node.places().config.with_file_name("10-kuberouter.conf");
        fs::write(
            &theirs,
            r#"{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}}"#,
        )
        .unwrap();
        let installed = node.install(&["10.244.1.0/24"], 1450);
        assert!(
            installed.state.contains("10-kuberouter.conf"),
            "{installed:?}"
        );
        assert!(
            fs::read_to_string(&theirs)
                .unwrap()
                .contains("10.244.1.0/24")
        );
        let text = fs::read_to_string(&theirs).unwrap();
        assert!(text.contains("\"mtu\": 1450"), "{text}");
        assert!(!node.places().config.exists());
        fs::write(&theirs, r#"{"type": "ptp"}"#).unwrap();
        let error = node.install(&["10.244.1.0/24"], 1450).error.unwrap();
        assert!(error.contains("bridge"), "{error}");
    }
}
