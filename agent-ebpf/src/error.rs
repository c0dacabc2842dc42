//! ICMP errors that the programs send themselves, back the way the packet came.

use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP};
use aya_ebpf::bindings::__sk_buff;

use crate::kernel;
use crate::maps::Scratch;
use crate::packet::{
    Family, Hook, LINK_HEADER, Packet, QUOTED_V4, QUOTED_V6, V4_HEADER, V6_HEADER,
};

const ICMP_HEADER: usize = 8;
const HOPS: u8 = 64;

/// The ICMP header of an error, in each family's form, without its checksum.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    v4: [u8; ICMP_HEADER],
    v6: [u8; ICMP_HEADER],
}

impl Message {
    /// RFC 792; RFC 4443 §3.1.
    pub(crate) const PORT_UNREACHABLE: Self = Self {
        v4: [3, 3, 0, 0, 0, 0, 0, 0],
        v6: [1, 4, 0, 0, 0, 0, 0, 0],
    };

    /// The packet is longer than `mtu` bytes (RFC 1191 §4; RFC 4443 §3.2).
    #[inline(always)]
    pub(crate) fn too_big(mtu: u32) -> Self {
        let [a, b, c, d] = mtu.to_be_bytes();
        Self {
            v4: [3, 4, 0, 0, 0, 0, c, d],
            v6: [2, 0, 0, 0, a, b, c, d],
        }
    }
}

/// Turns the packet into an error about itself; the answer is the verdict.
#[inline(always)]
pub(crate) fn send(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    message: Message,
) -> Result<i32, Counter> {
    let Scratch {
        packet,
        quoted_v4,
        quoted_v6,
        ..
    } = scratch;
    match packet.family {
        Family::V4 => error_v4(skb, packet, quoted_v4, message.v4),
        Family::V6 => error_v6(skb, packet, quoted_v6, message.v6),
    }?;
    answer(skb, hook)
}

/// Sends a packet whose network header is turned round back the way it came; the answer is the
/// verdict.
#[inline(always)]
pub(crate) fn answer(skb: *mut __sk_buff, hook: Hook) -> Result<i32, Counter> {
    turn_link_header(skb).map_err(|_| Counter::DropFailed)?;
    let interface = kernel::interface(skb);
    Ok(match hook {
        Hook::Egress => kernel::redirect_in(interface),
        Hook::UplinkIngress | Hook::WorkloadIngress => kernel::redirect_out(interface),
    })
}

#[inline(always)]
fn turn_link_header(skb: *mut __sk_buff) -> Result<(), i64> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = kernel::load::<12>(skb, 0).ok_or(-1)?;
    kernel::store(skb, 0, &[g, h, i, j, k, l, a, b, c, d, e, f])
}

/// An ICMP error, from the Service's address.
#[inline(always)]
fn error_v4(
    skb: *mut __sk_buff,
    packet: &Packet,
    quoted: &mut [u8; QUOTED_V4],
    mut icmp: [u8; ICMP_HEADER],
) -> Result<(), Counter> {
    if packet.transport != LINK_HEADER + V4_HEADER {
        // A header with options does not fit the fixed quotation.
        return Err(Counter::DropUnsupported);
    }
    let length = V4_HEADER + quoted_transport(packet);
    // The sum of what is not quoted is zero.
    *quoted = [0; QUOTED_V4];
    kernel::load_first(skb, LINK_HEADER, quoted, length).ok_or(Counter::DropFailed)?;
    let (s, d) = (&packet.tuple.source, &packet.tuple.destination);
    let total = (V4_HEADER + ICMP_HEADER as u32 + length) as u8;
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
    let sum = kernel::checksum_difference(&[], quoted, 0) as u32;
    [icmp[2], icmp[3]] = folded(kernel::checksum_difference(&[], &icmp, sum));
    kernel::set_length(skb, LINK_HEADER + length)
        .and_then(|()| kernel::insert_after_link_header(skb, V4_HEADER as i32 + ICMP_HEADER as i32))
        .and_then(|()| kernel::store(skb, LINK_HEADER, &header))
        .and_then(|()| kernel::store(skb, LINK_HEADER + V4_HEADER, &icmp))
        .map_err(|_| Counter::DropFailed)
}

/// An ICMPv6 error, from the Service's address.
#[inline(always)]
fn error_v6(
    skb: *mut __sk_buff,
    packet: &Packet,
    quoted: &mut [u8; QUOTED_V6],
    mut icmp: [u8; ICMP_HEADER],
) -> Result<(), Counter> {
    let quotation = V6_HEADER + quoted_transport(packet);
    *quoted = [0; QUOTED_V6];
    kernel::load_first(skb, LINK_HEADER, quoted, quotation).ok_or(Counter::DropFailed)?;
    let length = (ICMP_HEADER as u32 + quotation) as u8;
    let start = [0x60, 0, 0, 0, 0, length, IPPROTO_ICMPV6, HOPS];
    let pseudo_header = [0, 0, 0, length, 0, 0, 0, IPPROTO_ICMPV6];
    let mut sum = kernel::checksum_difference(&[], quoted, 0) as u32;
    sum = kernel::checksum_difference(&[], &packet.tuple.source, sum) as u32;
    sum = kernel::checksum_difference(&[], &packet.tuple.destination, sum) as u32;
    sum = kernel::checksum_difference(&[], &pseudo_header, sum) as u32;
    [icmp[2], icmp[3]] = folded(kernel::checksum_difference(&[], &icmp, sum));
    kernel::set_length(skb, LINK_HEADER + quotation)
        .and_then(|()| kernel::insert_after_link_header(skb, V6_HEADER as i32 + ICMP_HEADER as i32))
        .and_then(|()| kernel::store(skb, LINK_HEADER, &start))
        .and_then(|()| kernel::store(skb, LINK_HEADER + 8, &packet.tuple.destination))
        .and_then(|()| kernel::store(skb, LINK_HEADER + 24, &packet.tuple.source))
        .and_then(|()| kernel::store(skb, LINK_HEADER + V6_HEADER, &icmp))
        .map_err(|_| Counter::DropFailed)
}

/// Bytes of the transport header that are quoted: eight (RFC 792), or up to the end of the checksum.
/// Where the kernel is still to fill that one in, as in a packet from a pod, nobody takes a packet that
/// ends before.
#[inline(always)]
fn quoted_transport(packet: &Packet) -> u32 {
    match packet.tuple.protocol {
        IPPROTO_TCP => 20,
        IPPROTO_SCTP => 12,
        _ => 8,
    }
}

/// A 32-bit sum as the Internet checksum (RFC 1071), as it stands in the packet.
#[inline(always)]
pub(crate) fn folded(sum: i64) -> [u8; 2] {
    let sum = sum as u32;
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    (!(twice as u16)).to_ne_bytes()
}
