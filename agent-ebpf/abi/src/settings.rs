//! What the programs know of their node.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Array of one [`SettingsV2`].
pub const SETTINGS_MAP: &str = "SETTINGS_V2";
/// Hash of devices: index of an interface that `edge` is attached to → the same.
pub const EDGE_DEVICES_MAP: &str = "EDGE_DEVICES_V1";

/// Value of [`SETTINGS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SettingsV2 {
    /// The node's IPv4 address for source translation, all zero where it has none.
    pub node_v4: Address,
    /// The node's IPv6 address for source translation, all zero where it has none.
    pub node_v6: Address,
    /// Network of the cluster's pods, IPv4 mapped.
    pub cluster_v4: Address,
    /// Network of the cluster's pods, IPv6.
    pub cluster_v6: Address,
    /// Prefix length of `cluster_v4` in 128 bits (96 + length), 0 where not set.
    pub cluster_v4_bits: u32,
    /// Prefix length of `cluster_v6`, 0 where not set.
    pub cluster_v6_bits: u32,
    /// `SETTING_*` bits.
    pub flags: u32,
    /// Seconds after which an idle TCP connection is forgotten.
    pub tcp_seconds: u32,
    /// Seconds after which a closed TCP connection is forgotten.
    pub tcp_closing_seconds: u32,
    /// Seconds after which an idle flow of another protocol is forgotten.
    pub udp_seconds: u32,
    /// Largest IPv4 or IPv6 packet that fits the uplink, in bytes; 0 where not known.
    pub mtu: u32,
    /// UDP port of the overlay's packets, network order; 0 where there is none.
    pub overlay_port: [u8; 2],
    /// Zero.
    pub _pad: [u8; 2],
}

/// Array of one `u32`: 0, [`TAKING_OVER`] or [`HANDING_BACK`].
pub const TAKEOVER_MAP: &str = "TAKEOVER_V2";
/// Connections of another proxy are being taken over. Packets of connections that are not known
/// pass to the kernel, which still translates them; TCP connections begin here.
pub const TAKING_OVER: u32 = 1;
/// Connections are being handed back: no connection begins here.
pub const HANDING_BACK: u32 = 2;

/// `--masquerade-all`: translate the source of everything that goes through a Service.
pub const SETTING_MASQUERADE_ALL: u32 = 1;
/// `--netpol-keep-connections`: what network policy has let through stays so, whatever it says later.
pub const SETTING_KEEP_CONNECTIONS: u32 = 2;
/// `--enable-pod-egress`: what pods send out of the cluster leaves under the node's address.
pub const SETTING_POD_EGRESS: u32 = 4;
/// Network policy is enforced. The agent alone asks.
pub const SETTING_POLICED: u32 = 8;

const _: () = assert!(size_of::<SettingsV2>() == 96 && offset_of!(SettingsV2, flags) == 72);
