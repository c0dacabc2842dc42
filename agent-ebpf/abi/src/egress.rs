//! What of the pods' traffic leaves the cluster, and under which address.
//!
//! A connection that a pod of this node begins leaves by an uplink under the node's address, unless
//! its destination is one that knows pods by their own. Such a connection is an entry of
//! `agent_abi::connection` like those to Services, of [`EGRESS_SERVICE`].

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// Longest-prefix trie: [`EgressAddressV1`] → `u32`, `EGRESS_*` bits. The longest prefix has the bits
/// of all that hold it.
pub const EGRESS_MAP: &str = "EGRESS_V1";
/// Hash: index of an uplink (`u32`) → [`EgressSourceV1`].
pub const EGRESS_SOURCES_MAP: &str = "EGRESS_SOURCES_V1";

/// Data of the keys of [`EGRESS_MAP`]; the prefix counts bits of the mapped address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct EgressAddressV1 {
    /// Address.
    pub address: Address,
}

/// Pods of this node have the address.
pub const EGRESS_POD: u32 = 1;
/// What is there knows pods by their own addresses.
pub const EGRESS_KEEP: u32 = 2;

/// Value of [`EGRESS_SOURCES_MAP`]: what connections leave as; all zero where there is none of the
/// family, and packets leave as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct EgressSourceV1 {
    /// IPv4, mapped.
    pub v4: Address,
    /// IPv6.
    pub v6: Address,
}

/// In a connection, and in the figures of what passed, instead of a Service: it left the cluster.
/// Ids of Services are counted from 1 on, and never come here.
pub const EGRESS_SERVICE: u32 = u32::MAX;
/// The same: it came to a pod from outside under the pod's own address, so its answers leave as they
/// are.
pub const DIRECT_SERVICE: u32 = u32::MAX - 1;

/// Whether connections of a Service have a backend that may go away.
#[inline(always)]
pub const fn has_backends(service: u32) -> bool {
    service < DIRECT_SERVICE
}

const _: () = assert!(size_of::<EgressAddressV1>() == 16 && size_of::<EgressSourceV1>() == 32);
