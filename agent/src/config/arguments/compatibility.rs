//! Flags of kube-router that are taken and change nothing.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::config::duration;

/// kube-router's flags whose parts this build does not have, or which mean nothing here. They are
/// taken so that a DaemonSet's arguments need no change, and named in the log and in `status`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Taken from kube-router without effect in this build")]
pub struct Compatibility {
    /// Nothing is polled: rules follow the watch
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub iptables_sync_period: Option<Duration>,
    /// Policies are enforced in eBPF, with no rules of iptables or nftables
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub use_nftables_for_netpol: Option<bool>,
    /// Nothing is polled: see --config-sync-period
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub ipvs_sync_period: Option<Duration>,
    /// Nothing is polled: see --routes-sync-period
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub injected_routes_sync_period: Option<Duration>,
    /// Nothing of the cloud is changed: turn the check off there, or use --overlay-type=full
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disable_source_dest_check: Option<bool>,
    /// Families are those of the Nodes, their podCIDRs and the Services
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_ipv4: Option<bool>,
    /// Families are those of the Nodes, their podCIDRs and the Services
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_ipv6: Option<bool>,
    /// The agent waits for the cluster; meanwhile the kernel goes on with what it has
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub cache_sync_timeout: Option<Duration>,
    /// BGP: not in this build
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub advertise_cluster_ip: Option<bool>,
    /// BGP: not in this build
    #[arg(long, value_name = "ASN")]
    pub cluster_asn: Option<u32>,
    /// BGP: not in this build
    #[arg(long, value_name = "ASN")]
    pub peer_asn: Option<u32>,
    /// BGP: not in this build
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub peer_router: Vec<String>,
    /// BGP: not in this build
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub nodes_full_mesh: Option<bool>,
    /// Endpoints that terminate always finish what they have begun
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipvs_graceful_termination: Option<bool>,
    /// A terminating endpoint keeps its connections for as long as it is in an EndpointSlice
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub ipvs_graceful_period: Option<Duration>,
    /// Ports of a Service's address that no Service has are not answered
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipvs_permit_all: Option<bool>,
    /// IPVS: nothing of others is touched
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub excluded_cidrs: Vec<IpNet>,
    /// Direct server return needs no container runtime
    #[arg(long, value_name = "PATH")]
    pub runtime_endpoint: Option<String>,
    /// Cluster IPs are known from the Services
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Node ports are known from the Services
    #[arg(long, value_name = "FIRST-LAST")]
    pub service_node_port_range: Option<String>,
    /// A pod always reaches itself through its Services
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub hairpin_mode: Option<bool>,
}

impl Compatibility {
    /// Those that were given.
    pub fn given(&self) -> Vec<String> {
        let Self {
            iptables_sync_period,
            use_nftables_for_netpol,
            ipvs_sync_period,
            injected_routes_sync_period,
            disable_source_dest_check,
            enable_ipv4,
            enable_ipv6,
            cache_sync_timeout,
            advertise_cluster_ip,
            cluster_asn,
            peer_asn,
            peer_router,
            nodes_full_mesh,
            ipvs_graceful_termination,
            ipvs_graceful_period,
            ipvs_permit_all,
            excluded_cidrs,
            runtime_endpoint,
            service_cluster_ip_range,
            service_node_port_range,
            hairpin_mode,
        } = self;
        // What turns a missing part off asks for nothing.
        let wanted = |flag: &Option<bool>| *flag == Some(true);
        let flags = [
            ("--iptables-sync-period", iptables_sync_period.is_some()),
            ("--use-nftables-for-netpol", wanted(use_nftables_for_netpol)),
            ("--ipvs-sync-period", ipvs_sync_period.is_some()),
            (
                "--injected-routes-sync-period",
                injected_routes_sync_period.is_some(),
            ),
            (
                "--disable-source-dest-check",
                wanted(disable_source_dest_check),
            ),
            ("--enable-ipv4", *enable_ipv4 == Some(false)),
            ("--enable-ipv6", *enable_ipv6 == Some(false)),
            ("--cache-sync-timeout", cache_sync_timeout.is_some()),
            ("--advertise-cluster-ip", wanted(advertise_cluster_ip)),
            ("--cluster-asn", cluster_asn.is_some()),
            ("--peer-asn", peer_asn.is_some()),
            ("--peer-router", !peer_router.is_empty()),
            ("--nodes-full-mesh", wanted(nodes_full_mesh)),
            (
                "--ipvs-graceful-termination",
                *ipvs_graceful_termination == Some(false),
            ),
            ("--ipvs-graceful-period", ipvs_graceful_period.is_some()),
            ("--ipvs-permit-all", *ipvs_permit_all == Some(false)),
            ("--excluded-cidrs", !excluded_cidrs.is_empty()),
            ("--runtime-endpoint", runtime_endpoint.is_some()),
            (
                "--service-cluster-ip-range",
                !service_cluster_ip_range.is_empty(),
            ),
            (
                "--service-node-port-range",
                service_node_port_range.is_some(),
            ),
            ("--hairpin-mode", *hairpin_mode == Some(false)),
        ];
        flags
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(flag, _)| flag.to_owned())
            .collect()
    }
}
