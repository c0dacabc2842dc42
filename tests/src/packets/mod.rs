//! Packets as bytes, for suites that say what goes in and look at what comes out.

mod checksum;
mod headers;
pub mod junk;
mod random;
mod wire;

pub use checksum::{crc32c, is_valid, is_valid_packet, repair, sum, transport_sum};
pub use headers::Headers;
pub use random::Xorshift;
pub use wire::{
    DESTINATION_MAC, IPPROTO_IPIP, IPPROTO_IPV6, LINK, SOURCE_MAC, ethernet, icmp_error, ip, sctp,
    sctp_ends, tcp, tunnel, udp, with_ends,
};
