//! The fast path: between which interfaces packets of pods skip the host's stack.
//!
//! A packet takes it where both ends are pods of the cluster, each behind what these tables say. What
//! is not in them goes through the stack, so an empty table is no fast path.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Hash: index of an interface (`u32`) → [`FastDeviceV1`].
pub const FAST_DEVICES_MAP: &str = "FAST_DEVICES_V1";
/// Longest-prefix trie: networks of pods of other nodes, as `PolicyAddressV1` → 1 (`u32`).
pub const POD_NETWORKS_MAP: &str = "POD_NETWORKS_V1";

/// Value of [`FAST_DEVICES_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FastDeviceV1 {
    /// The pod's IPv4 address, all zero where it has none or is no pod's.
    pub v4: Address,
    /// The pod's IPv6 address, the same.
    pub v6: Address,
    /// One of `FAST_*`.
    pub kind: u32,
    /// Longest packet that leaves by it, from the network header on.
    pub mtu: u32,
}

/// A veth whose other end is in a pod's namespace.
pub const FAST_POD: u32 = 1;
/// The same; `policed_egress` is attached there, and judges what goes to the pod.
pub const FAST_POLICED_POD: u32 = 2;
/// It leads to other machines.
pub const FAST_WIRE: u32 = 3;

const _: () = assert!(size_of::<FastDeviceV1>() == 40 && offset_of!(FastDeviceV1, kind) == 32);
