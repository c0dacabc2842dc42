//! Flags of the pod network: its routes, the CNI plugin, masquerade.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use ipnet::IpNet;

use super::{absolute, period};

/// The pod network.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Pod network")]
pub struct RouterArguments {
    /// Keep routes to the pods of other nodes
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub run_router: bool,
    /// Reach nodes of other subnets through an overlay; without it, something else has to route there
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub enable_overlay: bool,
    /// What goes through the overlay
    #[arg(long, value_enum, default_value_t = OverlayType::Subnet)]
    pub overlay_type: OverlayType,
    /// What the overlay is made of; the same on every node
    #[arg(long, value_enum, default_value_t = OverlayEncap::Vxlan)]
    pub overlay_encap: OverlayEncap,
    /// UDP port of VXLAN; the same on every node
    #[arg(long, value_name = "PORT", default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1024..))]
    pub overlay_encap_port: u16,
    /// Network identifier of VXLAN; the same on every node
    #[arg(long, value_name = "N", default_value_t = 7100, value_parser = clap::value_parser!(u32).range(1..0x0100_0000))]
    pub overlay_vni: u32,
    /// Reach a node's pods by each of its InternalIPs that is in a network shared with this node, by
    /// equal shares of the flows, and not by the first alone. The same on every node; switches the
    /// interfaces' rp_filter from strict to loose
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub enable_multipath: bool,
    /// Give pods the largest packet that fits the network and the overlay; without it, pods have what
    /// the CNI configuration says, or what the uplink takes
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub auto_mtu: bool,
    /// Largest packet in bytes that the network between nodes carries, where that is less than what
    /// the interfaces say; overheads of tunnels are taken off
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65_535))]
    pub mtu: Option<u32>,
    /// How often the routes are read back though nobody was heard to change them
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = period)]
    pub routes_sync_period: Duration,
    /// Hand packets between pods straight to the pod or to the wire, past the host's stack: its
    /// netfilter rules (FORWARD, and what translates pods' connections) do not see them
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub fast_path: bool,
}

/// What container runtimes find.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "CNI plugin")]
pub struct CniArguments {
    /// With --run-router: install the CNI plugin and its configuration, or keep the subnet of
    /// kube-router's 10-kuberouter.conf current where that is there
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub enable_cni: bool,
    /// Directory of CNI configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d", value_parser = absolute)]
    pub cni_conf_dir: PathBuf,
    /// Name of the CNI configuration; runtimes take the first of the directory
    #[arg(long, value_name = "FILE", default_value = "10-fairlead.conflist")]
    pub cni_conf_name: String,
    /// Directory of CNI plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin", value_parser = absolute)]
    pub cni_bin_dir: PathBuf,
    /// The plugin to install; else fairlead-cni beside the agent
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub cni_plugin: Option<PathBuf>,
    /// Directory in which the plugin keeps who has which address
    #[arg(long, value_name = "DIR", default_value = "/run/fairlead/cni", value_parser = absolute)]
    pub cni_state_dir: PathBuf,
}

/// What of the pods' traffic leaves the cluster, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Masquerade")]
pub struct EgressArguments {
    /// Masquerade: what pods of this node send out of the cluster leaves under the node's address.
    /// Part of --run-router: on with it unless turned off here, and off without it
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub enable_pod_egress: bool,
    /// Networks outside of the cluster that know pods by their own addresses: what pods send there is
    /// not masqueraded
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub egress_excluded_cidrs: Vec<IpNet>,
    /// File with more of them, one a line, `#` before remarks; changes come into force within
    /// seconds, and where a line makes no sense the list of before stays
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub egress_excluded_cidrs_file: Option<PathBuf>,
}

impl EgressArguments {
    /// Flags that were given and change nothing, since nothing is masqueraded.
    pub fn without_effect(&self, run_router: bool) -> Vec<String> {
        if run_router && self.enable_pod_egress {
            return Vec::new();
        }
        let flags = [
            (
                "--egress-excluded-cidrs",
                !self.egress_excluded_cidrs.is_empty(),
            ),
            (
                "--egress-excluded-cidrs-file",
                self.egress_excluded_cidrs_file.is_some(),
            ),
        ];
        let given = flags.into_iter().filter(|(_, given)| *given);
        given.map(|(flag, _)| flag.to_owned()).collect()
    }
}

/// `--overlay-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverlayType {
    /// What goes to nodes of other subnets
    Subnet,
    /// What goes to any node
    Full,
}

/// `--overlay-encap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverlayEncap {
    /// VXLAN, between IPv4 or IPv6 addresses, for both
    Vxlan,
    /// IP in IP, for IPv4 alone; 30 bytes less
    Ipip,
    /// kube-router's; taken as vxlan, which is UDP as well
    Fou,
}
