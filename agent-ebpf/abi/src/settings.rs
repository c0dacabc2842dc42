//! What the programs know of their node.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Array of one [`SettingsV1`].
pub const SETTINGS_MAP: &str = "SETTINGS_V1";

/// Value of [`SETTINGS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SettingsV1 {
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
    /// Zero.
    pub _pad: u32,
}

/// `--masquerade-all`: translate the source of everything that goes through a Service.
pub const SETTING_MASQUERADE_ALL: u32 = 1;

const _: () = assert!(size_of::<SettingsV1>() == 80 && offset_of!(SettingsV1, flags) == 72);
