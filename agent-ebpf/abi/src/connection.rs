//! The connection table: what to rewrite a packet to, by the packet as it is.
//!
//! One connection has two entries, one for each direction, found by the five-tuple of the packet
//! on the wire. `rewrite` is the five-tuple to leave with, so translation is the same code in both
//! directions, whichever of the two addresses it changes.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// LRU hash: [`TupleV1`] → [`ConnectionV1`].
pub const CONNECTIONS_MAP: &str = "CONNECTIONS_V1";

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

/// Value of [`CONNECTIONS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ConnectionV1 {
    /// What the packet leaves as.
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
    pub _pad: [u8; 6],
    /// `CLOCK_MONOTONIC` nanoseconds of the last packet that was noted (at most one a second is).
    pub last_seen: u64,
}

/// The entry is of the direction client → service.
pub const CONNECTION_FORWARD: u32 = 1;
/// A FIN or RST has been seen; the next SYN of the same tuple is a new connection.
pub const CONNECTION_CLOSING: u32 = 2;

const _: () = assert!(size_of::<TupleV1>() == 40 && offset_of!(TupleV1, protocol) == 36);
const _: () = assert!(size_of::<ConnectionV1>() == 72 && offset_of!(ConnectionV1, last_seen) == 64);
