//! The connection table: what to rewrite a packet to, by the packet as it is, and what network policy
//! has said of it.
//!
//! A translated connection has two entries, one for each direction, found by the five-tuple of the packet
//! on the wire; before the first reply there may be the one for the replies alone. `rewrite` is the
//! five-tuple to leave with, so translation is the same code in both directions, whichever of the two
//! addresses it changes.
//!
//! A policed pod's verdict is in the entry of what the pod sends, so one look-up tells both, and a verdict
//! is never of another backend than the one in its entry: `rewrite.destination` is who it was judged for.
//! What the pod receives is looked up turned round. A connection that is not translated here has an entry
//! for its verdict alone, one at each policed pod ([`CONNECTION_UNTRANSLATED`]).

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// LRU hash: [`TupleV1`] → [`ConnectionV3`].
#[cfg(not(feature = "next-layout"))]
pub const CONNECTIONS_MAP: &str = "CONNECTIONS_V3";
/// See above.
#[cfg(feature = "next-layout")]
pub const CONNECTIONS_MAP: &str = "CONNECTIONS_V4";
/// The same for connections that only one side has sent for. They are apart, so that a flood of
/// them drives out one another and no connection that works.
#[cfg(not(feature = "next-layout"))]
pub const OPENING_MAP: &str = "OPENING_V3";
/// See above.
#[cfg(feature = "next-layout")]
pub const OPENING_MAP: &str = "OPENING_V4";
/// LRU hash: [`FragmentKeyV1`] → [`FragmentV2`].
pub const FRAGMENTS_MAP: &str = "FRAGMENTS_V3";
/// LRU hash of later fragments that wait for their first one. Not pinned: they come within
/// milliseconds, or not at all.
pub const HELD_MAP: &str = "HELD";

/// A five-tuple, in the direction of the packet. Aligned, so that the programs copy it by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct TupleV1 {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, network order.
    pub source_port: [u8; 2],
    /// Destination port, network order.
    pub destination_port: [u8; 2],
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

impl TupleV1 {
    /// Its words as they stand in memory: four of each address, one of the ports, in this order, and a last
    /// one. By bytes, the programs would read each byte alone.
    #[inline(always)]
    pub fn words(&self) -> &[u32; 10] {
        bytemuck::cast_ref(self)
    }

    /// The tuple of a packet that answers this one.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            _pad: [0; 3],
        }
    }
}

/// Zeros in a [`ConnectionV3`]. The feature `next-layout` makes the build that tests upgrade to: its
/// values are longer, and their last fields elsewhere.
pub const CONNECTION_PAD: usize = if cfg!(feature = "next-layout") { 18 } else { 2 };

/// Value of [`CONNECTIONS_MAP`] and [`OPENING_MAP`]. Version 1 had zeros for `service`, version 2 no
/// verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ConnectionV3 {
    /// What the packet leaves as. Of [`CONNECTION_UNTRANSLATED`] the packet itself, but for the
    /// destination: that is the real peer, as far as it is known.
    pub rewrite: TupleV1,
    /// Backend the connection was given to.
    pub backend: u32,
    /// `CONNECTION_*` bits.
    pub flags: u32,
    /// Interface through which the node itself would have sent the packet; replies are handed to
    /// the node as if they came from there. 0 where the client is not the node.
    pub host_interface: u32,
    /// Link-layer address of that interface.
    pub host_mac: [u8; 6],
    /// Zero.
    pub _pad: [u8; CONNECTION_PAD],
    /// Service the connection was made to; 0 where that is not known. Past every Service:
    /// `agent_abi::egress`.
    pub service: u32,
    /// `CLOCK_MONOTONIC` nanoseconds of the last packet that was noted (at most one a second is).
    pub last_seen: u64,
    /// `agent_abi::policy::EPOCH_MAP` when policy let it through: [`EPOCH_UNJUDGED`] where it has not,
    /// [`EPOCH_NEVER`] where every packet is judged.
    pub epoch: u32,
    /// Index of the interface from behind which the pod's packets may come, 0 until one has.
    pub interface: u32,
}

/// No epoch: the tables of policy begin with 1. A connection that is there and was never judged is, at its
/// next packet, as what it is.
pub const EPOCH_UNJUDGED: u32 = 0;
/// No epoch either: none gets so far.
pub const EPOCH_NEVER: u32 = u32::MAX;

/// The entry is of the direction client → service.
pub const CONNECTION_FORWARD: u32 = 1;
/// A FIN or RST has been seen; the next SYN of the same tuple is a new connection.
pub const CONNECTION_CLOSING: u32 = 2;

/// The packets leave for the backend's node as they are, in a tunnel; `rewrite.destination` is the
/// node.
pub const CONNECTION_TUNNEL: u32 = 4;
/// Both sides have sent.
pub const CONNECTION_ANSWERED: u32 = 8;
/// The client's packets come in a tunnel, from the node that it sends to.
pub const CONNECTION_TUNNELLED: u32 = 16;
/// Nothing translates it on this node. [`CONNECTION_FORWARD`] says that the pod began it.
pub const CONNECTION_UNTRANSLATED: u32 = 32;
/// Policy forbids it by now: neither side's packets pass.
pub const CONNECTION_CUT: u32 = 64;
/// It began by the fast path, so the host's netfilter has no part in it.
pub const CONNECTION_DIRECT: u32 = 128;
/// TCP from the pod past every Service, by the fast path: no table is asked but this one.
pub const CONNECTION_PLAIN: u32 = 256;
/// The policy of the pod at the other end, on this node, lets what the pod sends pass as well, as of
/// the same epoch.
pub const CONNECTION_PEER: u32 = 512;

/// Key of [`FRAGMENTS_MAP`] (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FragmentKeyV1 {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification of the packet that was cut, network order; 16 bits of it in IPv4.
    pub identification: [u8; 4],
    /// IANA number in IPv4. 0 in IPv6, where it is no part of the key: of a later fragment only the
    /// header behind the fragment header is known, which may be another extension header.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// Value of [`FRAGMENTS_MAP`]: what the first fragment said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FragmentV2 {
    /// Source port, network order.
    pub source_port: [u8; 2],
    /// Destination port, network order.
    pub destination_port: [u8; 2],
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

const _: () = assert!(size_of::<FragmentKeyV1>() == 40 && size_of::<FragmentV2>() == 8);
const _: () = assert!(size_of::<TupleV1>() == 40 && offset_of!(TupleV1, protocol) == 36);
const _: () = assert!(
    size_of::<ConnectionV3>() == 78 + CONNECTION_PAD
        && offset_of!(ConnectionV3, last_seen) == 62 + CONNECTION_PAD
);
