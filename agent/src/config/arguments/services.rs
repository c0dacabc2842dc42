//! Flags of Services: how they are balanced, and at which addresses.

use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use ipnet::IpNet;

use crate::config::duration;

/// How Services are balanced.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Services")]
pub struct ServiceArguments {
    /// Balance Services
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub run_service_proxy: bool,
    /// Replace the source of everything that goes through a Service by the node's address
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub masquerade_all: bool,
    /// Networks of the cluster's pods, one of a family: cluster IP traffic from elsewhere gets the
    /// node's source address, what pods send there keeps theirs, and externalTrafficPolicy is not for them
    #[arg(long, value_name = "CIDR", value_delimiter = ',', num_args = 1..=2)]
    pub cluster_cidr: Vec<IpNet>,
    /// Forget a TCP connection that was silent for this long; 0s for a day
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub service_tcp_timeout: Duration,
    /// Forget a TCP connection this long after its end; 0s for 10 s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub service_tcpfin_timeout: Duration,
    /// Forget a UDP flow that was silent for this long; 0s for 2 minutes
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub service_udp_timeout: Duration,
    /// Dataplane
    #[arg(long, value_enum, default_value_t = Dataplane::Auto)]
    pub dataplane: Dataplane,
}

/// Addresses of Services beside their cluster IPs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Node ports and external addresses")]
pub struct ExposureArguments {
    /// Where node ports are served: `primary` for the Node's addresses, or networks whose addresses
    /// on the node's interfaces serve them
    #[arg(
        long,
        value_name = "primary|CIDR",
        default_value = "primary",
        value_delimiter = ','
    )]
    pub nodeport_addresses: Vec<NodePortAddress>,
    /// Serve node ports on every address of the node's interfaces
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub nodeport_bindon_all_ip: bool,
    /// Serve node ports on 127.0.0.1 and ::1 too
    #[arg(long, alias = "iptables-localhost-nodeports", value_name = "BOOL", default_value_t = true,
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub localhost_nodeports: bool,
    /// Networks that externalIPs may be of; without any, none is served
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub service_external_ip_range: Vec<IpNet>,
    /// Serve externalIPs of --service-external-ip-range only; without it, whoever may write a
    /// Service can draw any address to it
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set)]
    pub strict_external_ip_validation: bool,
}

/// Dataplanes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dataplane {
    /// The best this kernel has
    Auto,
    /// eBPF programs
    Ebpf,
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
