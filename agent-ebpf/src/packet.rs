//! What of a packet the programs look at.

use agent_abi::connection::TupleV1;
use agent_abi::{Address, IPPROTO_TCP, IPPROTO_UDP, mapped_v4};
use aya_ebpf::bindings::__sk_buff;

use crate::kernel;

/// Length of the Ethernet header; VLAN tags are kept outside the packet by the kernel.
pub(crate) const LINK_HEADER: u32 = 14;
/// Length of the IPv4 header without options.
pub(crate) const V4_HEADER: u32 = 20;
/// Length of the IPv6 header.
pub(crate) const V6_HEADER: u32 = 40;

/// What of the rejected packet an ICMP error carries: its network header and the ports.
const QUOTED_TRANSPORT: u32 = 8;
pub(crate) const QUOTED_V4: usize = (V4_HEADER + QUOTED_TRANSPORT) as usize;
pub(crate) const QUOTED_V6: usize = (V6_HEADER + QUOTED_TRANSPORT) as usize;

/// TCP flag bits (RFC 9293 §3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Where a packet is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Comes from another machine.
    UplinkIngress,
    /// Comes from a pod of this node.
    WorkloadIngress,
    /// Leaves the host's stack, to a pod or to another machine.
    Egress,
}

/// Address family of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The headers of a TCP or UDP packet.
#[repr(C)]
pub(crate) struct Packet {
    pub(crate) tuple: TupleV1,
    pub(crate) family: Family,
    /// Offset of the transport header.
    pub(crate) transport: u32,
    /// TCP flags, 0 for UDP.
    pub(crate) flags: u8,
    /// First fragment of several: the others cannot be told from their headers.
    pub(crate) fragmented: bool,
}

impl Packet {
    /// Whether the packet begins a connection of its own accord.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        self.tuple.protocol != IPPROTO_TCP || self.flags & (SYN | ACK) == SYN
    }

    /// Whether the packet ends a connection.
    #[inline(always)]
    pub(crate) fn closes(&self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    /// Offset of the transport checksum.
    #[inline(always)]
    pub(crate) fn checksum(&self) -> u32 {
        self.transport
            + if self.tuple.protocol == IPPROTO_TCP {
                16
            } else {
                6
            }
    }
}

/// Reads the headers into `packet`. `None` for anything that is not TCP or UDP over IPv4 or IPv6,
/// for later fragments (they carry no ports) and for packets too short to be what they say.
#[inline(always)]
pub(crate) fn parse(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    match kernel::ether_type(skb) {
        [0x08, 0x00] => parse_v4(skb, packet)?,
        [0x86, 0xdd] => parse_v6(skb, packet)?,
        _ => return None,
    }
    packet.tuple._pad = [0; 3];
    packet.flags = 0;
    let [s0, s1, d0, d1] = kernel::load(skb, packet.transport)?;
    packet.tuple.source_port = [s0, s1];
    packet.tuple.destination_port = [d0, d1];
    match packet.tuple.protocol {
        IPPROTO_TCP => [packet.flags] = kernel::load(skb, packet.transport + 13)?,
        IPPROTO_UDP => {}
        _ => return None,
    }
    Some(())
}

#[inline(always)]
fn parse_v4(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    let header: [u8; V4_HEADER as usize] = kernel::load(skb, LINK_HEADER)?;
    let words = header[0] & 0x0f;
    if header[0] >> 4 != 4 || words < 5 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & 0x1fff != 0 {
        return None;
    }
    packet.tuple.source = mapped_v4([header[12], header[13], header[14], header[15]]);
    packet.tuple.destination = mapped_v4([header[16], header[17], header[18], header[19]]);
    packet.tuple.protocol = header[9];
    packet.family = Family::V4;
    packet.transport = LINK_HEADER + u32::from(words) * 4;
    packet.fragmented = fragment & 0x2000 != 0;
    Some(())
}

#[inline(always)]
fn parse_v6(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    let [version, _, _, _, _, _, next_header, _]: [u8; 8] = kernel::load(skb, LINK_HEADER)?;
    if version >> 4 != 6 {
        return None;
    }
    packet.tuple.source = kernel::load(skb, LINK_HEADER + 8)?;
    packet.tuple.destination = kernel::load(skb, LINK_HEADER + 24)?;
    packet.tuple.protocol = next_header;
    packet.family = Family::V6;
    packet.transport = LINK_HEADER + V6_HEADER;
    packet.fragmented = false;
    Some(())
}

/// Equality of addresses, as two integers.
#[inline(always)]
pub(crate) fn same_address(a: &Address, b: &Address) -> bool {
    u128::from_ne_bytes(*a) == u128::from_ne_bytes(*b)
}
