//! Changing a packet's addresses and ports, with its checksums.

use agent_abi::connection::TupleV1;
use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_SCTP, IPPROTO_UDP, crc32c};
use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};

use crate::kernel;
use crate::maps::CRC32C_V1;
use crate::packet::{Family, Packet};

/// Makes `packet` leave as `to`. On an error the packet may be half changed and must be dropped.
#[inline(always)]
pub(crate) fn rewrite(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), Counter> {
    if packet.tuple.protocol == IPPROTO_SCTP {
        return rewrite_sctp(skb, packet, to);
    }
    write_addresses(skb, packet, to, !packet.later)
        .and_then(|()| write_ports(skb, packet, to))
        .map_err(|_| Counter::DropFailed)
}

/// UDP over IPv4 may go without a checksum (RFC 768): zero then stays zero, and a checksum that
/// comes out as zero is written as its complement.
#[inline(always)]
fn flags(packet: &Packet) -> u64 {
    if packet.tuple.protocol == IPPROTO_UDP {
        u64::from(BPF_F_MARK_MANGLED_0)
    } else {
        0
    }
}

#[inline(always)]
fn write_addresses(
    skb: *mut __sk_buff,
    packet: &Packet,
    to: &TupleV1,
    has_transport: bool,
) -> Result<(), i64> {
    let pseudo_header = flags(packet) | u64::from(BPF_F_PSEUDO_HDR);
    match packet.family {
        Family::V4 => {
            let (old, new) = (v4_addresses(&packet.tuple), v4_addresses(to));
            let difference = kernel::checksum_difference(&old, &new, 0);
            if has_transport {
                kernel::replace_l4_checksum(skb, packet.checksum(), difference, pseudo_header)?;
            }
            kernel::replace_l3_checksum(skb, packet.network + 10, difference)?;
            kernel::store(skb, packet.network + 12, &new)
        }
        Family::V6 => {
            if has_transport {
                let both = v6_difference(&packet.tuple, to, 0);
                kernel::replace_l4_checksum_v6(skb, packet.checksum(), both, pseudo_header)?;
            }
            kernel::store(skb, packet.network + 8, &to.source)?;
            kernel::store(skb, packet.network + 24, &to.destination)
        }
    }
}

/// Difference of the sums of two pairs of IPv6 addresses.
#[inline(always)]
pub(crate) fn v6_difference(from: &TupleV1, to: &TupleV1, seed: u32) -> i64 {
    let source = kernel::checksum_difference(&from.source, &to.source, seed);
    kernel::checksum_difference(&from.destination, &to.destination, source as u32)
}

#[inline(always)]
fn write_ports(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i64> {
    let (old, new) = (ports(&packet.tuple), ports(to));
    if old == new || packet.later {
        return Ok(());
    }
    let difference = kernel::checksum_difference(&old, &new, 0);
    kernel::replace_l4_checksum(skb, packet.checksum(), difference, flags(packet))?;
    kernel::store(skb, packet.transport, &new)
}

/// SCTP's checksum knows no addresses, and covers the whole packet.
#[inline(never)]
fn rewrite_sctp(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), Counter> {
    write_addresses(skb, packet, to, false).map_err(|_| Counter::DropFailed)?;
    let (old, new) = (ports(&packet.tuple), ports(to));
    if old == new || packet.later {
        return Ok(());
    }
    if packet.fragmented {
        // The rest of the packet is elsewhere, and its length not known.
        return Err(Counter::DropUnsupported);
    }
    let checksum: [u8; 4] = kernel::load(skb, packet.checksum()).ok_or(Counter::DropFailed)?;
    // Zero is what a packet of this machine has whose checksum the device is to fill in.
    if checksum != [0; 4] {
        let following = packet.length.saturating_sub(4);
        let table = CRC32C_V1.get(0).ok_or(Counter::DropFailed)?;
        let checksum = u32::from_le_bytes(checksum);
        let after = crc32c::after_change(table, checksum, old, new, following);
        kernel::store(skb, packet.checksum(), &after.to_le_bytes())
            .map_err(|_| Counter::DropFailed)?;
    }
    kernel::store(skb, packet.transport, &new).map_err(|_| Counter::DropFailed)
}

#[inline(always)]
pub(crate) fn v4_addresses(tuple: &TupleV1) -> [u8; 8] {
    let (s, d) = (&tuple.source, &tuple.destination);
    [s[12], s[13], s[14], s[15], d[12], d[13], d[14], d[15]]
}

#[inline(always)]
pub(crate) fn ports(tuple: &TupleV1) -> [u8; 4] {
    let ([s0, s1], [d0, d1]) = (tuple.source_port, tuple.destination_port);
    [s0, s1, d0, d1]
}
