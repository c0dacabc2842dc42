//! The flags: name, help, default and form of each stand here once.
//!
//! `docs/flags.md` is made from this table, and a test compares the two.

mod compatibility;
mod doctor;
mod policy;
mod router;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use model::Protocol;
use serde::{Deserialize, Serialize};

use super::{Paths, duration};
use crate::explain::ask::{Destination, Sender};
use crate::flows::filter::Filter;
use compatibility::Compatibility;
pub use doctor::DoctorArguments;
pub use policy::{PolicyArguments, PolicyCommand};
pub use router::{OverlayEncap, OverlayType, RouterArguments};

const EXAMPLES: &str = "\
Examples:
  fairlead-agent --kubeconfig /etc/kubernetes/kubeconfig    balance the Services of a cluster
  fairlead-agent --manifests examples/cluster               the same from a directory of YAML
  fairlead-agent status                                     what a running agent has done
  fairlead-agent services shop/web                          one Service, as the kernel has it
  fairlead-agent explain --from shop/cart --to shop/web     where a pod's connections go, and why
  fairlead-agent flows --follow                             what is dropped, and why
  fairlead-agent doctor                                     what on this node stands in the way
  fairlead-agent --cleanup-config --dry-run                 what a removal would remove";

const OF_DOCTOR: &str = "\
Changes nothing. Exit status 1 where a check fails. Without a running agent, what only it knows is
told as such. docs/doctor.md lists the checks.

Examples:
  fairlead-agent doctor                                     all checks
  fairlead-agent doctor --only mtu,reach                    packets of full size to the other nodes
  fairlead-agent doctor --kubeconfig FILE                   before installing, with the API server
  fairlead-agent doctor --no-probe -o json                  for machines, with no packet sent";

const OF_FLOWS: &str = "\
Of each pod and reason, 10 events are told of at once and then 10 a second; what is left out is
counted beside the next one. The newest 4096 are kept.

Examples:
  fairlead-agent flows --verdict drop                       what was dropped, and by which rule
  fairlead-agent flows --follow --pod shop/cart             what becomes of one pod's connections
  fairlead-agent flows --since 5m -o json                   one JSON object a line";

/// Balances the Services of a Kubernetes cluster on this node, through eBPF.
///
/// Without a subcommand, runs the agent. When it ends, the kernel goes on balancing; the next start
/// takes over what is there. --cleanup-config removes it.
#[derive(Clone, Debug, Parser)]
#[command(name = "fairlead-agent", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true, args_override_self = true)]
pub struct Arguments {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// URL of an API server; several are tried in order
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    pub master: Vec<String>,
    /// Kubeconfig with the API server and credentials; without it, those of the Pod
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Directory of Kubernetes YAML to follow instead of an API server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["master", "kubeconfig"], help_heading = "Cluster")]
    pub manifests: Option<PathBuf>,
    /// Name of this node in the cluster; else the environment's NODE_NAME, else the host name
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub hostname_override: Option<String>,
    #[arg(long, hide = true, env = "NODE_NAME", value_name = "NAME")]
    /// NODE_NAME of the environment.
    pub node_name_from_environment: Option<String>,
    /// How often the tables are read back and mended, and kinds listed whose watch is refused
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = period, help_heading = "Cluster")]
    pub config_sync_period: Duration,

    /// Balance Services
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Services")]
    pub run_service_proxy: bool,
    /// Replace the source of everything that goes through a Service by the node's address
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Services")]
    pub masquerade_all: bool,
    /// Networks of the cluster's pods, one of a family: cluster IP traffic from elsewhere gets the
    /// node's source address, and what pods send there keeps theirs
    #[arg(long, value_name = "CIDR", value_delimiter = ',', num_args = 1..=2, help_heading = "Services")]
    pub cluster_cidr: Vec<IpNet>,
    /// Where node ports are served: `primary` for the Node's addresses, or networks whose addresses
    /// on the node's interfaces serve them
    #[arg(
        long,
        value_name = "primary|CIDR",
        default_value = "primary",
        value_delimiter = ',',
        help_heading = "Services"
    )]
    pub nodeport_addresses: Vec<NodePortAddress>,
    /// Serve node ports on every address of the node's interfaces
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Services")]
    pub nodeport_bindon_all_ip: bool,
    /// Serve node ports on 127.0.0.1 and ::1 too
    #[arg(long, alias = "iptables-localhost-nodeports", value_name = "BOOL", default_value_t = true,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Services")]
    pub localhost_nodeports: bool,
    /// Networks that externalIPs may be of; without any, none is served
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Services"
    )]
    pub service_external_ip_range: Vec<IpNet>,
    /// Serve externalIPs of --service-external-ip-range only; without it, whoever may write a
    /// Service can draw any address to it
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Services")]
    pub strict_external_ip_validation: bool,
    /// Forget a TCP connection that was silent for this long; 0s for a day
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse, help_heading = "Services")]
    pub service_tcp_timeout: Duration,
    /// Forget a TCP connection this long after its end; 0s for 10 s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse, help_heading = "Services")]
    pub service_tcpfin_timeout: Duration,
    /// Forget a flow of another protocol that was silent for this long; 0s for 2 minutes
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse, help_heading = "Services")]
    pub service_udp_timeout: Duration,
    /// Dataplane
    #[arg(long, value_enum, default_value_t = Dataplane::Auto, help_heading = "Services")]
    pub dataplane: Dataplane,
    /// Interfaces that lead to other machines; else those with a node address or a default route
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Services"
    )]
    pub devices: Vec<String>,
    /// Uplinks whose driver runs the path of direct server return before the stack has a packet;
    /// where it refuses, `status` says why, and packets take the way through tc. A veth sends so
    /// only while its other end has GRO on, or XDP
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Services"
    )]
    pub xdp_devices: Vec<String>,
    /// Most Service ports (one of each family); fixed when the tables are made
    #[arg(
        long,
        value_name = "N",
        default_value_t = 65_536,
        help_heading = "Services"
    )]
    pub max_services: u32,
    /// Most endpoints of all Service ports together; fixed when the tables are made
    #[arg(
        long,
        value_name = "N",
        default_value_t = 524_288,
        help_heading = "Services"
    )]
    pub max_backends: u32,
    /// Entries of the connection table, two a connection; fixed when the table is made [default: by
    /// the machine's memory, 262144 for 16 GiB]
    #[arg(long, value_name = "N", help_heading = "Services")]
    pub max_connections: Option<u32>,

    /// Network policy.
    #[command(flatten)]
    pub policy: PolicyArguments,
    /// The pod network.
    #[command(flatten)]
    pub router: RouterArguments,
    /// Where things are kept.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Where /healthz, /readyz and /metrics are served; empty for nowhere
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:20244",
        help_heading = "Operation"
    )]
    pub health_addr: HealthAddr,
    /// Show the traffic of Services in /metrics under kube-router's names too
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Operation")]
    pub kube_router_metrics: bool,
    /// Remove everything the agent has put on this node, and end
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Operation")]
    pub cleanup_config: bool,
    /// With --cleanup-config: only list it
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, requires = "cleanup_config", help_heading = "Operation")]
    pub dry_run: bool,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, help_heading = "Operation")]
    pub log_format: LogFormat,
    /// More log; twice for everything
    #[arg(short = 'v', action = ArgAction::Count, help_heading = "Operation")]
    pub verbosity: u8,

    /// Have the kernel hurry (/sys/kernel/rcu_expedited) while programs are attached or detached: a
    /// moment each, but for the whole machine. Without it, pods start some 20 ms later
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Operation")]
    pub rcu_expedited: bool,

    /// Load programs that say in the log what they do with each packet: slow, and many lines
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set, help_heading = "Operation")]
    pub debug_programs: bool,

    /// Flags of kube-router.
    #[command(flatten)]
    pub compatibility: Compatibility,
}

/// What to do instead of running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show what the agent of this node has heard, wants and has done
    Status(View),
    /// Show Services as wanted and as the kernel holds them
    Services {
        /// NAME or NAMESPACE/NAME: this Service with its endpoints
        name: Option<String>,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
    /// Explain what becomes of a connection, step by step, from the kernel's tables
    Explain {
        /// Client: NAMESPACE/POD of this node, or ADDRESS; with :PORT for one connection
        #[arg(long, value_name = "CLIENT")]
        from: Sender,
        /// What it asks for: NAMESPACE/SERVICE[:PORT], or ADDRESS:PORT
        #[arg(long, value_name = "SERVICE")]
        to: Destination,
        /// Protocol; else that of the Service's port, or TCP
        #[arg(long = "proto", value_enum)]
        protocol: Option<Transport>,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
    /// Show what became of single connections: drops, refusals and audited verdicts as they are
    /// kept, with --follow those that come and every connection that passes
    #[command(after_help = OF_FLOWS)]
    Flows {
        /// Go on with what comes, until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Of those that are kept, the newest N
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Of those that are kept, those of this last time
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        since: Option<Duration>,
        /// Which.
        #[command(flatten)]
        filter: Filter,
        /// How to show it.
        #[command(flatten)]
        view: View,
    },
    /// Check what on this node stands in the way, before installing and while the agent runs, each
    /// with what to do about it
    #[command(after_help = OF_DOCTOR)]
    Doctor(Box<DoctorArguments>),
    /// Ask about network policies
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// Protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Transport {
    /// As the model has it.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
        }
    }
}

/// How to ask a running agent.
#[derive(Clone, Debug, Args)]
pub struct View {
    /// Unix socket of the agent
    #[arg(long, value_name = "PATH", default_value = "/run/fairlead/agent.sock")]
    pub socket: PathBuf,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For machines
    Json,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line an event
    Text,
    /// A JSON object an event
    Json,
}

/// Dataplanes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dataplane {
    /// The best this kernel has
    Auto,
    /// eBPF programs
    Ebpf,
}

/// Where things are kept.
#[derive(Clone, Debug, Args)]
pub struct PathArguments {
    /// Directory for files that outlive the agent
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/fairlead",
        help_heading = "Operation"
    )]
    pub state_dir: PathBuf,
    /// Directory for maps and links; a bpffs is mounted on it where it is not on one
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/sys/fs/bpf/fairlead",
        help_heading = "Operation"
    )]
    pub bpf_root: PathBuf,
    /// cgroup v2 directory whose processes are balanced when they connect; else the root of the
    /// hierarchy
    #[arg(long, value_name = "DIR", help_heading = "Operation")]
    pub cgroup_root: Option<PathBuf>,
    /// Unix socket for `status`, `services`, `explain` and `flows`
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/fairlead/agent.sock",
        help_heading = "Operation"
    )]
    pub socket: PathBuf,
}

impl From<PathArguments> for Paths {
    fn from(
        PathArguments {
            state_dir,
            bpf_root,
            cgroup_root,
            socket,
        }: PathArguments,
    ) -> Self {
        Self {
            state_dir,
            bpf_root,
            cgroup_root,
            socket,
        }
    }
}

/// One value of `--nodeport-addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    /// The Node's addresses.
    Primary,
    /// Addresses of a network.
    Within(IpNet),
}

impl FromStr for NodePortAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "primary" {
            return Ok(Self::Primary);
        }
        let network = text.parse();
        network.map(Self::Within).map_err(|_| {
            format!("`{text}` is neither `primary` nor a network such as 192.0.2.0/24")
        })
    }
}

/// `--health-addr`, of which the empty text means nowhere.
#[derive(Clone, Copy, Debug)]
pub struct HealthAddr(pub Option<SocketAddr>);

impl FromStr for HealthAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text
            .parse()
            .map_err(|_| format!("`{text}` is not an address and port such as 127.0.0.1:20244"))?;
        Ok(Self(Some(address)))
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = duration::parse(text)?;
    if period.is_zero() {
        Err("a period of 0 never ends; give 1s or more".to_owned())
    } else {
        Ok(period)
    }
}
