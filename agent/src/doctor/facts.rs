//! The node as the checks see it: plain values, each with why it is not known where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::control::network::{Network, NodeRow};
use crate::control::report::Status;
use crate::probe::Capabilities;
use crate::sys::firewall::Chain;
use crate::sys::kinds::Kinds;
use crate::sys::links::Link;
use crate::sys::vxlan::Vxlan;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen(pub String);

/// Something, or why it is not known.
pub type Seen<T> = Result<T, Unseen>;

/// Everything.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Privileges, eBPF, how programs are attached, cgroup v2.
    pub node: Seen<Capabilities>,
    /// Version of the kernel: major, minor.
    pub kernel: Seen<(u32, u32)>,
    /// Whether the kernel describes its types.
    pub btf: bool,
    /// Kinds of interfaces that can be made.
    pub kinds: Seen<Kinds>,
    /// Where a bpffs is still to be mounted; the agent does that at its start.
    pub missing_bpffs: Seen<Option<PathBuf>>,
    /// What is pinned.
    pub pins: Seen<Pins>,
    /// Most memory that may be locked in bytes; `None` for any.
    pub memlock: Option<u64>,
    /// Whether one more inotify instance can be made.
    pub inotify: Seen<bool>,
    /// Settings by name; `None` where the kernel has none of the name.
    pub sysctls: BTreeMap<String, Seen<Option<String>>>,
    /// Interfaces.
    pub links: Seen<Vec<Link>>,
    /// VXLAN devices among them.
    pub vxlans: Seen<Vec<Vxlan>>,
    /// UDP ports in use.
    pub udp_ports: Seen<BTreeSet<u16>>,
    /// TCP ports that somebody listens on.
    pub tcp_ports: Seen<BTreeSet<u16>>,
    /// Chains of nftables.
    pub nft: Seen<Vec<Chain>>,
    /// Chains of the older iptables.
    pub legacy: Seen<Vec<Chain>>,
    /// Virtual servers of IPVS.
    pub ipvs: Seen<usize>,
    /// What systemd-networkd is told, where it runs.
    pub networkd: Seen<Option<Networkd>>,
    /// Interfaces that NetworkManager is told to leave alone, where it runs.
    pub network_manager: Seen<Option<Vec<String>>>,
    /// CNI configurations, as runtimes sort them.
    pub configurations: Seen<Vec<Configuration>>,
    /// API servers that are asked without an agent: address, and version or why there is none.
    pub servers: Seen<Vec<(String, Result<String, String>)>>,
    /// The running agent.
    pub agent: Seen<Agent>,
    /// Which sizes get through to other nodes.
    pub paths: Seen<Vec<Path>>,
    /// What the overlay is to use, where no agent says it.
    pub vxlan: (u32, u16),
    /// The port of health checks, where no agent says it.
    pub health_port: u16,
}

/// What is pinned below `--bpf-root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Nothing of another build.
    Ours,
    /// Maps of another build, whose connections are copied at the next start.
    Copied,
    /// Maps of a build that this one cannot read; the error.
    Strange(String),
}

/// What systemd-networkd is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Networkd {
    /// `ManageForeignRoutes=`: whether it removes routes of others.
    pub routes: bool,
    /// `ManageForeignRoutingPolicyRules=`: whether it removes rules of others.
    pub rules: bool,
}

/// A CNI configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Its file.
    pub name: String,
    /// Whether it is the agent's.
    pub own: bool,
}

/// What a running agent says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agent {
    /// Its status.
    pub status: Status,
    /// The cluster's network.
    pub network: Network,
}

/// The way to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The node.
    pub node: String,
    /// Its address.
    pub to: IpAddr,
    /// The interface by which it was tried.
    pub device: String,
    /// Largest packet that should get through, in bytes.
    pub size: u32,
    /// What did.
    pub passed: Passed,
    /// What carries it, where that is the overlay.
    pub carrier: Option<Carrier>,
}

/// The overlay on the way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// UDP port of VXLAN; `None` for IPIP.
    pub port: Option<u16>,
    /// Bytes that it adds to a packet.
    pub overhead: u32,
}

/// What got through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// All.
    All,
    /// Nothing beyond this size.
    UpTo(u32),
    /// Nothing.
    Nothing,
}

impl Facts {
    /// A setting; `None` where the kernel has none of the name.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn sysctl(&self, name: &str) -> Seen<Option<&str>> {
        match self.sysctls.get(name) {
            None => Err(Unseen(format!("{name} was not read"))),
            Some(Ok(value)) => Ok(value.as_deref()),
            Some(Err(why)) => Err(why.clone()),
        }
    }

    /// The running agent.
    ///
    /// # Errors
    /// Why there is none.
    pub fn agent(&self) -> Seen<&Agent> {
        self.agent.as_ref().map_err(Clone::clone)
    }

    /// The cluster's network, once all of it has been heard of.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn network(&self) -> Seen<&Network> {
        let network = &self.agent()?.network;
        if network.synced {
            Ok(network)
        } else {
            Err(Unseen(
                "the agent has not heard of all Nodes and Services yet".to_owned(),
            ))
        }
    }

    /// The interfaces.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn links(&self) -> Seen<&[Link]> {
        self.links.as_deref().map_err(Clone::clone)
    }

    /// This node in the cluster.
    pub(super) fn own(&self) -> Option<&NodeRow> {
        self.agent.as_ref().ok()?.own()
    }
}

impl Agent {
    /// This node in the cluster.
    pub(super) fn own(&self) -> Option<&NodeRow> {
        let mut nodes = self.network.nodes.iter();
        nodes.find(|node| node.name == self.status.node)
    }
}
