//! Answering at once where a Service has no endpoint: TCP RST (RFC 9293 §3.10.7.1) or ICMP port
//! unreachable (RFC 792, RFC 4443 §3.1), sent back the way the packet came.

use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP};
use aya_ebpf::bindings::__sk_buff;

use crate::kernel;
use crate::maps::{Scratch, count};
use crate::packet::{
    ACK, FIN, Family, Hook, LINK_HEADER, Packet, QUOTED_V4, QUOTED_V6, RST, SYN, V4_HEADER,
    V6_HEADER,
};

const ICMP_HEADER: usize = 8;
const HOPS: u8 = 64;

/// Turns the packet into its rejection; the answer is the verdict.
#[inline(never)]
pub(crate) fn reject(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
) -> Result<i32, Counter> {
    let Scratch {
        packet,
        quoted_v4,
        quoted_v6,
        ..
    } = scratch;
    if packet.tuple.protocol == IPPROTO_TCP {
        if packet.flags & RST != 0 {
            // A reset is never answered.
            return Err(Counter::DropNoBackend);
        }
        reset(skb, packet)?;
    } else {
        match packet.family {
            Family::V4 => unreachable_v4(skb, packet, quoted_v4),
            Family::V6 => unreachable_v6(skb, packet, quoted_v6),
        }?;
    }
    turn_link_header(skb).map_err(|_| Counter::DropFailed)?;
    count(Counter::PacketsRejected);
    let interface = kernel::interface(skb);
    Ok(match hook {
        Hook::Egress => kernel::redirect_in(interface),
        Hook::UplinkIngress | Hook::WorkloadIngress => kernel::redirect_out(interface),
    })
}

/// Turns a TCP segment into the reset that answers it. Addresses and ports are swapped, which no
/// checksum notices; options and data stay, since they do not matter in a reset.
#[inline(always)]
fn reset(skb: *mut __sk_buff, packet: &Packet) -> Result<(), Counter> {
    let old: [u8; 12] = kernel::load(skb, packet.transport + 4).ok_or(Counter::DropFailed)?;
    let header = u32::from(old[8] >> 4) * 4;
    let data = kernel::length(skb).saturating_sub(packet.transport + header);
    let [s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, ..] = old;
    let (sequence, acknowledged, answer) = if flags & ACK != 0 {
        ([a0, a1, a2, a3], [0; 4], RST)
    } else {
        let one = |flag| u32::from(flags & flag != 0);
        let next = u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(data + one(SYN) + one(FIN));
        ([0; 4], next.to_be_bytes(), RST | ACK)
    };
    let ([q0, q1, q2, q3], [n0, n1, n2, n3]) = (sequence, acknowledged);
    let new = [q0, q1, q2, q3, n0, n1, n2, n3, offset, answer, 0, 0];
    let difference = kernel::checksum_difference(&old, &new, 0);
    kernel::replace_l4_checksum(skb, packet.checksum(), difference, 0)
        .and_then(|()| kernel::store(skb, packet.transport + 4, &new))
        .and_then(|()| swap_ports(skb, packet))
        .and_then(|()| swap_addresses(skb, packet))
        .map_err(|_| Counter::DropFailed)
}

#[inline(always)]
fn swap_ports(skb: *mut __sk_buff, packet: &Packet) -> Result<(), i64> {
    let ([s0, s1], [d0, d1]) = (packet.tuple.source_port, packet.tuple.destination_port);
    kernel::store(skb, packet.transport, &[d0, d1, s0, s1])
}

#[inline(always)]
fn swap_addresses(skb: *mut __sk_buff, packet: &Packet) -> Result<(), i64> {
    let (source, destination) = (&packet.tuple.source, &packet.tuple.destination);
    match packet.family {
        Family::V4 => {
            let (s, d) = (source, destination);
            kernel::store(
                skb,
                LINK_HEADER + 12,
                &[d[12], d[13], d[14], d[15], s[12], s[13], s[14], s[15]],
            )
        }
        Family::V6 => {
            kernel::store(skb, LINK_HEADER + 8, destination)?;
            kernel::store(skb, LINK_HEADER + 24, source)
        }
    }
}

#[inline(always)]
fn turn_link_header(skb: *mut __sk_buff) -> Result<(), i64> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = kernel::load::<12>(skb, 0).ok_or(-1)?;
    kernel::store(skb, 0, &[g, h, i, j, k, l, a, b, c, d, e, f])
}

/// ICMP destination unreachable, port unreachable, from the Service's address.
#[inline(always)]
fn unreachable_v4(
    skb: *mut __sk_buff,
    packet: &Packet,
    quoted: &mut [u8; QUOTED_V4],
) -> Result<(), Counter> {
    if packet.transport != LINK_HEADER + V4_HEADER {
        // A header with options does not fit the fixed quotation.
        return Err(Counter::DropUnsupported);
    }
    kernel::load_into(skb, LINK_HEADER, quoted).ok_or(Counter::DropFailed)?;
    let (s, d) = (&packet.tuple.source, &packet.tuple.destination);
    let total = (V4_HEADER as usize + ICMP_HEADER + QUOTED_V4) as u8;
    let mut header = [
        0x45,
        0,
        0,
        total,
        0,
        0,
        0,
        0,
        HOPS,
        IPPROTO_ICMP,
        0,
        0,
        d[12],
        d[13],
        d[14],
        d[15],
        s[12],
        s[13],
        s[14],
        s[15],
    ];
    [header[10], header[11]] = folded(kernel::checksum_difference(&[], &header, 0));
    let mut icmp = [3, 3, 0, 0, 0, 0, 0, 0];
    let sum = kernel::checksum_difference(&[], quoted, 0) as u32;
    [icmp[2], icmp[3]] = folded(kernel::checksum_difference(&[], &icmp, sum));
    kernel::set_length(skb, LINK_HEADER + QUOTED_V4 as u32)
        .and_then(|()| kernel::insert_after_link_header(skb, V4_HEADER as i32 + ICMP_HEADER as i32))
        .and_then(|()| kernel::store(skb, LINK_HEADER, &header))
        .and_then(|()| kernel::store(skb, LINK_HEADER + V4_HEADER, &icmp))
        .map_err(|_| Counter::DropFailed)
}

/// ICMPv6 destination unreachable, port unreachable, from the Service's address.
#[inline(always)]
fn unreachable_v6(
    skb: *mut __sk_buff,
    packet: &Packet,
    quoted: &mut [u8; QUOTED_V6],
) -> Result<(), Counter> {
    kernel::load_into(skb, LINK_HEADER, quoted).ok_or(Counter::DropFailed)?;
    let length = (ICMP_HEADER + QUOTED_V6) as u8;
    let start = [0x60, 0, 0, 0, 0, length, IPPROTO_ICMPV6, HOPS];
    let mut icmp = [1, 4, 0, 0, 0, 0, 0, 0];
    let pseudo_header = [0, 0, 0, length, 0, 0, 0, IPPROTO_ICMPV6];
    let mut sum = kernel::checksum_difference(&[], quoted, 0) as u32;
    sum = kernel::checksum_difference(&[], &packet.tuple.source, sum) as u32;
    sum = kernel::checksum_difference(&[], &packet.tuple.destination, sum) as u32;
    sum = kernel::checksum_difference(&[], &pseudo_header, sum) as u32;
    [icmp[2], icmp[3]] = folded(kernel::checksum_difference(&[], &icmp, sum));
    kernel::set_length(skb, LINK_HEADER + QUOTED_V6 as u32)
        .and_then(|()| kernel::insert_after_link_header(skb, V6_HEADER as i32 + ICMP_HEADER as i32))
        .and_then(|()| kernel::store(skb, LINK_HEADER, &start))
        .and_then(|()| kernel::store(skb, LINK_HEADER + 8, &packet.tuple.destination))
        .and_then(|()| kernel::store(skb, LINK_HEADER + 24, &packet.tuple.source))
        .and_then(|()| kernel::store(skb, LINK_HEADER + V6_HEADER, &icmp))
        .map_err(|_| Counter::DropFailed)
}

/// A 32-bit sum as the Internet checksum (RFC 1071), as it stands in the packet.
#[inline(always)]
fn folded(sum: i64) -> [u8; 2] {
    let sum = sum as u32;
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    (!(twice as u16)).to_ne_bytes()
}
