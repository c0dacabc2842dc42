//! Changing a packet's addresses and ports, with its checksums.

use agent_abi::connection::TupleV1;
use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};

use agent_abi::IPPROTO_UDP;
use agent_abi::counters::Counter;

use crate::kernel;
use crate::packet::{Family, LINK_HEADER, Packet};

/// Makes `packet` leave as `to`. On an error the packet may be half changed and must be dropped.
#[inline(always)]
pub(crate) fn rewrite(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), Counter> {
    write_addresses(skb, packet, to)
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
fn write_addresses(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i64> {
    let pseudo_header = flags(packet) | u64::from(BPF_F_PSEUDO_HDR);
    match packet.family {
        Family::V4 => {
            let (old, new) = (v4_addresses(&packet.tuple), v4_addresses(to));
            let difference = kernel::checksum_difference(&old, &new, 0);
            kernel::replace_l4_checksum(skb, packet.checksum(), difference, pseudo_header)?;
            kernel::replace_l3_checksum(skb, LINK_HEADER + 10, difference)?;
            kernel::store(skb, LINK_HEADER + 12, &new)
        }
        Family::V6 => {
            let source = kernel::checksum_difference(&packet.tuple.source, &to.source, 0);
            let both = kernel::checksum_difference(
                &packet.tuple.destination,
                &to.destination,
                source as u32,
            );
            kernel::replace_l4_checksum_v6(skb, packet.checksum(), both, pseudo_header)?;
            kernel::store(skb, LINK_HEADER + 8, &to.source)?;
            kernel::store(skb, LINK_HEADER + 24, &to.destination)
        }
    }
}

#[inline(always)]
fn write_ports(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i64> {
    let (old, new) = (ports(&packet.tuple), ports(to));
    if old == new {
        return Ok(());
    }
    let difference = kernel::checksum_difference(&old, &new, 0);
    kernel::replace_l4_checksum(skb, packet.checksum(), difference, flags(packet))?;
    kernel::store(skb, packet.transport, &new)
}

#[inline(always)]
fn v4_addresses(tuple: &TupleV1) -> [u8; 8] {
    let (s, d) = (&tuple.source, &tuple.destination);
    [s[12], s[13], s[14], s[15], d[12], d[13], d[14], d[15]]
}

#[inline(always)]
fn ports(tuple: &TupleV1) -> [u8; 4] {
    let ([s0, s1], [d0, d1]) = (tuple.source_port, tuple.destination_port);
    [s0, s1, d0, d1]
}
