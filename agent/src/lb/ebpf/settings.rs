//! What the operator decides about connections, and what the programs are told of it.

use std::time::Duration;

use agent_abi::settings::{
    SETTING_KEEP_CONNECTIONS, SETTING_MASQUERADE_ALL, SETTING_POD_EGRESS, SETTING_POLICED,
    SettingsV2,
};
use ipnet::IpNet;
use model::IpFamily;

use super::entries::{address, prefix_bits};
use crate::desired::NodeContext;
use crate::desired::route::{Encapsulation, OverlayUse, RouterOptions};

/// What the operator decides about connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// `--masquerade-all`.
    pub masquerade_all: bool,
    /// `--cluster-cidr`, one of each family at most.
    pub cluster_cidrs: Vec<IpNet>,
    /// When connections that nothing is heard of are forgotten.
    pub timeouts: Timeouts,
    /// `--netpol-keep-connections`.
    pub keep_connections: bool,
    /// Whether network policy is on.
    pub policed: bool,
}

/// When connections that nothing is heard of are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `--service-tcp-timeout`.
    pub tcp: Duration,
    /// `--service-tcpfin-timeout`.
    pub tcp_closing: Duration,
    /// `--service-udp-timeout`.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // As kube-proxy sets netfilter.
            tcp: Duration::from_secs(86_400),
            tcp_closing: Duration::from_secs(10),
            // netfilter's `udp_timeout_stream`.
            udp: Duration::from_secs(120),
        }
    }
}

/// What the programs should know of the node.
pub fn settings(node: &NodeContext, translation: &Translation) -> SettingsV2 {
    let timeouts = &translation.timeouts;
    let own = |family| node.address(family).map_or([0; 16], address);
    let cidr = |family| {
        let found = translation
            .cluster_cidrs
            .iter()
            .find(|cidr| IpFamily::of(cidr.addr()) == family);
        found.map_or(([0; 16], 0), |cidr| {
            (address(cidr.network()), prefix_bits(cidr))
        })
    };
    let ((cluster_v4, cluster_v4_bits), (cluster_v6, cluster_v6_bits)) =
        (cidr(IpFamily::V4), cidr(IpFamily::V6));
    SettingsV2 {
        node_v4: own(IpFamily::V4),
        node_v6: own(IpFamily::V6),
        cluster_v4,
        cluster_v6,
        cluster_v4_bits,
        cluster_v6_bits,
        flags: flag(translation.masquerade_all, SETTING_MASQUERADE_ALL)
            | flag(translation.keep_connections, SETTING_KEEP_CONNECTIONS)
            | flag(translation.policed, SETTING_POLICED)
            | flag(node.egress.is_some(), SETTING_POD_EGRESS),
        tcp_seconds: seconds(timeouts.tcp),
        tcp_closing_seconds: seconds(timeouts.tcp_closing),
        udp_seconds: seconds(timeouts.udp),
        mtu: node.mtu,
        overlay_port: overlay_port(node).to_be_bytes(),
        _pad: [0; 2],
    }
}

/// Where the overlay's packets go to; 0 for none that has a port.
fn overlay_port(node: &NodeContext) -> u16 {
    match node.router {
        Some(RouterOptions {
            overlay: OverlayUse::Subnet | OverlayUse::Full,
            encapsulation: Encapsulation::Vxlan { port, .. },
            ..
        }) => port,
        _ => 0,
    }
}

fn flag(given: bool, bit: u32) -> u32 {
    if given { bit } else { 0 }
}

fn seconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).max(1)
}
