//! Layouts shared by the eBPF programs and the agent: map keys, map values, constants.
//!
//! Every structure is `repr(C)` with explicit padding, and holds integers and byte arrays only.
//! `bytemuck` refuses implicit padding at compile time; the assertions below fix size and offsets.
//! A layout is never edited in place: the version in the name of its pinned map goes up.
//!
//! Addresses are 16 bytes, IPv4 mapped (`::ffff:a.b.c.d`), so one code path serves both families.
//! Fields of type `[u8; 2]` are in network order, everything else is in host order.

#![cfg_attr(not(test), no_std)]

pub mod checksum;
pub mod connection;
pub mod counters;
pub mod crc32c;
pub mod egress;
pub mod fast_path;
pub mod flow;
pub mod hash;
pub mod layout;
pub mod policy;
pub mod service;
pub mod settings;
pub mod tunnel;
pub mod wire;

/// IANA number of ICMP.
pub const IPPROTO_ICMP: u8 = 1;
/// IANA number of TCP.
pub const IPPROTO_TCP: u8 = 6;
/// IANA number of UDP.
pub const IPPROTO_UDP: u8 = 17;
/// IANA number of ICMPv6.
pub const IPPROTO_ICMPV6: u8 = 58;
/// IANA number of SCTP.
pub const IPPROTO_SCTP: u8 = 132;

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 §2.5.5.2).
pub type Address = [u8; 16];

/// Maps an IPv4 address.
#[inline(always)]
pub const fn mapped_v4(v4: [u8; 4]) -> Address {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}

/// Whether `address` is a mapped IPv4 address.
#[inline(always)]
pub fn is_v4(address: &Address) -> bool {
    let mut prefix = [0; 12];
    prefix.copy_from_slice(&address[..12]);
    prefix == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}
