//! What the agent runs with: [`arguments`], validated once ([`check`]).

pub mod arguments;
mod check;
mod duration;
mod memory;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model_watch::Source;

use crate::cni::install::Places;
use crate::cni::stores::Stores;
use crate::desired::node::Exposure;
use crate::desired::route::RouterOptions;
use crate::egress::excluded::Given;
use crate::lb::ebpf::programs::Limits;
use crate::lb::ebpf::settings::Translation;

/// What the agent runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node in the cluster.
    pub node_name: Arc<str>,
    /// Where the cluster is heard of.
    pub source: Source,
    /// Whether Services are balanced.
    pub run_service_proxy: bool,
    /// Addresses that are served.
    pub exposure: Arc<Exposure>,
    /// Source translation.
    pub translation: Translation,
    /// Sizes of the tables, and whether network policies are enforced.
    pub limits: Limits,
    /// Whether pods are closed until their policies are known.
    pub default_deny: bool,
    /// The pod network, where it is kept.
    pub router: Option<RouterConfig>,
    /// Largest packet of the network, where its interfaces say more.
    pub mtu: Option<u32>,
    /// Whether packets between pods skip the host's stack.
    pub fast_path: bool,
    /// Interfaces that lead to other machines; found where empty.
    pub devices: Vec<String>,
    /// Uplinks that get the edge path.
    pub xdp_devices: Vec<String>,
    /// Whether programs are attached by tcx links where there are any.
    pub tcx: bool,
    /// How often everything is read back.
    pub config_sync_period: Duration,
    /// Where things are kept.
    pub paths: Paths,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub health_addr: Option<SocketAddr>,
    /// Whether metrics have kube-router's names too.
    pub kube_router_metrics: bool,
    /// Whether the programs say what they do.
    pub debug_programs: bool,
    /// `--rcu-expedited`.
    pub rcu_expedited: bool,
    /// Flags that were given and change nothing.
    pub without_effect: Vec<String>,
}

/// How the pod network is kept.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// How pods of other nodes are reached.
    pub options: RouterOptions,
    /// How often the routes are read back.
    pub sync_period: Duration,
    /// Where the CNI plugin is installed, if it is.
    pub cni: Option<Places>,
    /// Where it may keep leases, whoever has installed it.
    pub stores: Stores,
    /// What keeps the pods' addresses, where what leaves the cluster is translated.
    pub egress: Option<Given>,
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
    /// Two answers to one question.
    #[error(
        "--nodeport-addresses: `primary` goes with no network, and neither with --nodeport-bindon-all-ip; give one of them"
    )]
    NodePortAddresses,
    /// No name.
    #[error("the node's name is not known: the host name is empty; set --hostname-override NAME")]
    NoName,
    /// A size of 0.
    #[error("--{0}: 0 entries hold nothing; give at least 1")]
    Empty(&'static str),
    /// What goes with network policy, without it.
    #[error("--{0} means nothing with --run-firewall=false; take one of the two away")]
    WithoutFirewall(&'static str),
    /// A name that leads elsewhere.
    #[error("--cni-conf-name: `{0}` is not the name of a file; --cni-conf-dir says where it is")]
    ConfName(String),
    /// A rehearsal of a removal that is turned off.
    #[error("--dry-run goes with --cleanup-config; leave it out to run the agent")]
    DryRun,
}
