//! Arguments to [`Config`], validated once.

pub mod arguments;
mod duration;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model_watch::{Source, kube_source};

use crate::lb::ebpf::facility::Translation;
use crate::lb::ebpf::programs::Limits;
use arguments::Arguments;

/// What the agent runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node in the cluster.
    pub node_name: Arc<str>,
    /// Where the cluster is heard of.
    pub source: Source,
    /// Whether Services are balanced.
    pub run_service_proxy: bool,
    /// Source translation.
    pub translation: Translation,
    /// Sizes of the tables.
    pub limits: Limits,
    /// Interfaces that lead to other machines; found where empty.
    pub devices: Vec<String>,
    /// How often everything is read back.
    pub config_sync_period: Duration,
    /// Where things are kept.
    pub paths: Paths,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub health_addr: Option<SocketAddr>,
    /// Flags that were given and change nothing.
    pub without_effect: Vec<String>,
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Files that outlive the process.
    pub state_dir: PathBuf,
    /// Directory on a bpffs for maps and links.
    pub bpf_root: PathBuf,
    /// cgroup v2 directory whose processes' `connect` calls are balanced; found where absent.
    pub cgroup_root: Option<PathBuf>,
    /// Unix socket.
    pub socket: PathBuf,
}

/// A flag that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two networks of one family.
    #[error(
        "--cluster-cidr: {0} and {1} are of one family; give one IPv4 and one IPv6 network at most"
    )]
    ClusterCidr(IpNet, IpNet),
    /// No name.
    #[error("the node's name is not known: the host name is empty; set --hostname-override NAME")]
    NoName,
    /// A size of 0.
    #[error("--{0}: 0 entries hold nothing; give at least 1")]
    Empty(&'static str),
    /// A rehearsal of a removal that is turned off.
    #[error("--dry-run goes with --cleanup-config; leave it out to run the agent")]
    DryRun,
}

impl Config {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ConfigError`] for the first flag that makes no sense.
    pub fn new(arguments: Arguments) -> Result<Self, ConfigError> {
        let without_effect = arguments.compatibility.given();
        let Arguments {
            command: _,
            master,
            kubeconfig,
            manifests,
            hostname_override,
            node_name_from_environment,
            config_sync_period,
            run_service_proxy,
            masquerade_all,
            cluster_cidr,
            dataplane: arguments::Dataplane::Auto | arguments::Dataplane::Ebpf,
            devices,
            max_services,
            max_backends,
            max_connections,
            paths,
            health_addr,
            cleanup_config: _,
            dry_run,
            log_format: _,
            verbosity: _,
            compatibility: _,
        } = arguments;
        if dry_run {
            return Err(ConfigError::DryRun);
        }
        if let [first, second] = cluster_cidr.as_slice()
            && first.addr().is_ipv4() == second.addr().is_ipv4()
        {
            return Err(ConfigError::ClusterCidr(*first, *second));
        }
        let sizes = [
            ("max-services", max_services),
            ("max-backends", max_backends),
            ("max-connections", max_connections),
        ];
        if let Some((flag, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ConfigError::Empty(flag));
        }
        let source = match manifests {
            Some(directory) => Source::Manifests { directory },
            None => Source::Kube(kube_source::Options {
                master,
                kubeconfig,
                config_sync_period,
                ..Default::default()
            }),
        };
        let given = hostname_override
            .or(node_name_from_environment)
            .filter(|name| !name.is_empty());
        let name = given.unwrap_or_else(|| {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        });
        if name.is_empty() {
            return Err(ConfigError::NoName);
        }
        Ok(Self {
            // As kubelet does it.
            node_name: name.trim().to_lowercase().into(),
            source,
            run_service_proxy,
            translation: Translation {
                masquerade_all,
                cluster_cidrs: cluster_cidr,
            },
            limits: Limits {
                services: max_services,
                backends: max_backends,
                connections: max_connections,
            },
            devices,
            config_sync_period,
            paths: paths.into(),
            health_addr: health_addr.0,
            without_effect,
        })
    }
}
