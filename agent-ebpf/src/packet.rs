//! What of a packet the programs look at.

use agent_abi::connection::TupleV1;
use agent_abi::{
    Address, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, mapped_v4,
};
use aya_ebpf::bindings::__sk_buff;

use crate::global::global;
use crate::linear::Pairs;
use crate::{kernel, maps};

/// Length of the Ethernet header; VLAN tags are kept outside the packet by the kernel.
pub(crate) const LINK_HEADER: u32 = 14;
/// Length of the IPv4 header without options.
pub(crate) const V4_HEADER: u32 = 20;
/// Length of the IPv6 header.
pub(crate) const V6_HEADER: u32 = 40;

/// Version 4, a header of [`V4_HEADER`].
const V4_WITHOUT_OPTIONS: u8 = 0x45;
/// Length of the UDP header, the shortest of those with ports.
const SMALLEST_TRANSPORT: u32 = 8;
/// The pair of bytes that ends with the TCP flags.
pub(crate) const TCP_FLAGS_V4: usize = (LINK_HEADER + V4_HEADER + 12) as usize / 2;
pub(crate) const TCP_FLAGS_V6: usize = (LINK_HEADER + V6_HEADER + 12) as usize / 2;

/// IANA numbers of IP in IP (RFC 2003) and of IPv6 in IP (RFC 2473).
pub(crate) const IPPROTO_IPIP: u8 = 4;
pub(crate) const IPPROTO_IPV6: u8 = 41;

/// Reserved (RFC 5237): what a packet has whose headers end before they say.
pub(crate) const UNREADABLE: u8 = 255;

/// Extension headers (RFC 8200 §4) that may stand before the transport header.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// No sender uses more.
const MOST_EXTENSIONS: u32 = 6;

/// Room for what of a packet an ICMP error about it carries: its network header, and TCP's at most.
const QUOTED_TRANSPORT: u32 = 20;
pub(crate) const QUOTED_V4: usize = (V4_HEADER + QUOTED_TRANSPORT) as usize;
pub(crate) const QUOTED_V6: usize = (V6_HEADER + QUOTED_TRANSPORT) as usize;

/// TCP flag bits (RFC 9293 §3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// What a packet of SCTP does to its association, by the type of its first chunk (RFC 9260 §3.2). One that
/// nobody knows may begin one, as a datagram may.
#[inline(always)]
pub(crate) fn sctp_flags(chunk: u8) -> u8 {
    const ABORT: u8 = 6;
    const SHUTDOWN: u8 = 7;
    const SHUTDOWN_ACK: u8 = 8;
    const SHUTDOWN_COMPLETE: u8 = 14;
    match chunk {
        ABORT => RST | ACK,
        SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => FIN | ACK,
        // DATA; from INIT ACK to COOKIE ACK. INIT is 1.
        0 | 2..=11 => ACK,
        _ => SYN,
    }
}

/// Where a packet is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    /// Comes from another machine.
    UplinkIngress,
    /// Comes from a pod of this node.
    WorkloadIngress,
    /// Leaves the host's stack, to a pod or to another machine.
    Egress,
}

impl Hook {
    /// Whether the client is on this node.
    #[inline(always)]
    pub(crate) fn is_inside(self) -> bool {
        self != Self::UplinkIngress
    }
}

/// A [`Hook`] as a number.
impl From<u32> for Hook {
    #[inline(always)]
    fn from(number: u32) -> Self {
        match number {
            0 => Self::UplinkIngress,
            1 => Self::WorkloadIngress,
            _ => Self::Egress,
        }
    }
}

/// Address family of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a packet turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Parsed {
    /// TCP, UDP or SCTP with its ports.
    Transport,
    /// A later fragment: the ports are not in it.
    LaterFragment,
    /// An ICMP error; the packet it quotes begins eight bytes after `transport`.
    Error,
    /// A packet in a packet.
    Tunnel,
    /// Nothing the programs know, or too short to be what it says.
    Other,
}

/// The headers of a packet.
#[repr(C)]
pub(crate) struct Packet {
    pub(crate) tuple: TupleV1,
    pub(crate) family: Family,
    /// Offset of the network header.
    pub(crate) network: u32,
    /// Offset of the transport header.
    pub(crate) transport: u32,
    /// Bytes from the transport header on, as the network header says.
    pub(crate) length: u32,
    /// Identification of the packet this is a fragment of, network order.
    pub(crate) identification: [u8; 4],
    /// The network header's own checksum, in IPv4.
    pub(crate) checksum: [u8; 2],
    /// TCP flags; of SCTP those that say the same as its first chunk ([`sctp_flags`]); 0 for others.
    pub(crate) flags: u8,
    /// A fragment, the first or a later one.
    pub(crate) fragmented: bool,
    /// A fragment without the transport header.
    pub(crate) later: bool,
}

impl Packet {
    /// Whether later fragments follow it.
    #[inline(always)]
    pub(crate) fn is_first_fragment(&self) -> bool {
        self.fragmented && !self.later
    }

    /// Whether the packet begins a connection of its own accord.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        !matches!(self.tuple.protocol, IPPROTO_TCP | IPPROTO_SCTP)
            || self.flags & (SYN | ACK) == SYN
    }

    /// Whether the packet ends a connection.
    #[inline(always)]
    pub(crate) fn closes(&self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    /// Offset of the transport checksum.
    #[inline(always)]
    pub(crate) fn transport_checksum(&self) -> u32 {
        self.transport
            + match self.tuple.protocol {
                IPPROTO_TCP => 16,
                IPPROTO_SCTP => 8,
                _ => 6,
            }
    }
}

/// Reads the headers of a packet whose network header is at `network` into `packet`.
#[inline(always)]
fn parse_whole(skb: *mut __sk_buff, packet: &mut Packet) -> Parsed {
    let family = match kernel::ether_type(skb) {
        [0x08, 0x00] => Family::V4,
        [0x86, 0xdd] => Family::V6,
        _ => return Parsed::Other,
    };
    let plain = match family {
        Family::V4 => parse_plain_v4(skb, packet),
        Family::V6 => parse_plain_v6(skb, packet),
    };
    if plain.is_some() {
        return Parsed::Transport;
    }
    parse_at(skb, LINK_HEADER, family, packet).unwrap_or(Parsed::Other)
}

/// Reads what most packets are: no fragment, no options, TCP, UDP or SCTP, the headers in one piece.
/// `None` leaves the rest to [`parse_at`].
#[inline(always)]
fn parse_plain_v4(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    // Two bytes of the IPv4 header each, from the seventh on.
    let pairs = Pairs::<{ (LINK_HEADER + V4_HEADER + SMALLEST_TRANSPORT) as usize / 2 }>::of(skb)?;
    let [version, _] = pairs.at::<7>();
    if version != V4_WITHOUT_OPTIONS || u16::from_be_bytes(pairs.at::<10>()) & 0x3fff != 0 {
        return None;
    }
    let [_, protocol] = pairs.at::<11>();
    packet.flags = match protocol {
        IPPROTO_TCP => Pairs::<{ TCP_FLAGS_V4 + 1 }>::of(skb)?.at::<TCP_FLAGS_V4>()[1],
        IPPROTO_UDP => 0,
        IPPROTO_SCTP => {
            let [chunk, _] = Pairs::<{ TCP_FLAGS_V4 + 1 }>::of(skb)?.at::<TCP_FLAGS_V4>();
            sctp_flags(chunk)
        }
        _ => return None,
    };
    let [i0, i1] = pairs.at::<9>();
    packet.family = Family::V4;
    packet.network = LINK_HEADER;
    packet.transport = LINK_HEADER + V4_HEADER;
    packet.length = u32::from(u16::from_be_bytes(pairs.at::<8>())).saturating_sub(V4_HEADER);
    packet.identification = [0, 0, i0, i1];
    packet.checksum = pairs.at::<12>();
    packet.fragmented = false;
    packet.later = false;
    packet.tuple.source = mapped_v4(pairs.four::<13, 14>());
    packet.tuple.destination = mapped_v4(pairs.four::<15, 16>());
    packet.tuple.source_port = pairs.at::<17>();
    packet.tuple.destination_port = pairs.at::<18>();
    packet.tuple.protocol = protocol;
    packet.tuple._pad = [0; 3];
    Some(())
}

/// The same without extension headers.
#[inline(always)]
fn parse_plain_v6(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    let pairs = Pairs::<{ (LINK_HEADER + V6_HEADER + SMALLEST_TRANSPORT) as usize / 2 }>::of(skb)?;
    let [version, _] = pairs.at::<7>();
    if version >> 4 != 6 {
        return None;
    }
    let [protocol, _] = pairs.at::<10>();
    packet.flags = match protocol {
        IPPROTO_TCP => Pairs::<{ TCP_FLAGS_V6 + 1 }>::of(skb)?.at::<TCP_FLAGS_V6>()[1],
        IPPROTO_UDP => 0,
        IPPROTO_SCTP => {
            let [chunk, _] = Pairs::<{ TCP_FLAGS_V6 + 1 }>::of(skb)?.at::<TCP_FLAGS_V6>();
            sctp_flags(chunk)
        }
        _ => return None,
    };
    packet.family = Family::V6;
    packet.network = LINK_HEADER;
    packet.transport = LINK_HEADER + V6_HEADER;
    packet.length = u16::from_be_bytes(pairs.at::<9>()).into();
    packet.identification = [0; 4];
    packet.fragmented = false;
    packet.later = false;
    packet.tuple.source = joined([
        pairs.four::<11, 12>(),
        pairs.four::<13, 14>(),
        pairs.four::<15, 16>(),
        pairs.four::<17, 18>(),
    ]);
    packet.tuple.destination = joined([
        pairs.four::<19, 20>(),
        pairs.four::<21, 22>(),
        pairs.four::<23, 24>(),
        pairs.four::<25, 26>(),
    ]);
    packet.tuple.source_port = pairs.at::<27>();
    packet.tuple.destination_port = pairs.at::<28>();
    packet.tuple.protocol = protocol;
    packet.tuple._pad = [0; 3];
    Some(())
}

#[inline(always)]
fn joined([[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]]: [[u8; 4]; 4]) -> Address {
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

global! {
    /// Reads the headers of the packet into the scratch space; the answer is a [`Parsed`].
    fn parse(skb: *mut __sk_buff) -> i32 {
        let parsed = maps::scratch().map(|scratch| parse_whole(skb, &mut scratch.packet));
        parsed.unwrap_or(Parsed::Other) as i32
    }
}

/// The same for a packet of a known family, wherever it begins.
#[inline(never)]
pub(crate) fn parse_at(
    skb: *mut __sk_buff,
    network: u32,
    family: Family,
    packet: &mut Packet,
) -> Option<Parsed> {
    packet.family = family;
    packet.network = network;
    packet.flags = 0;
    packet.fragmented = false;
    packet.later = false;
    packet.tuple.protocol = UNREADABLE;
    packet.tuple._pad = [0; 3];
    packet.tuple.source_port = [0; 2];
    packet.tuple.destination_port = [0; 2];
    match family {
        Family::V4 => parse_v4(skb, packet)?,
        Family::V6 => parse_v6(skb, packet)?,
    }
    if packet.later {
        return can_have_ports(packet).then_some(Parsed::LaterFragment);
    }
    let is_error = match packet.tuple.protocol {
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP => false,
        protocol if is_icmp(protocol) => true,
        IPPROTO_IPIP | IPPROTO_IPV6 => return Some(Parsed::Tunnel),
        _ => return None,
    };
    let [first, second, third, fourth] = kernel::load(skb, packet.transport)?;
    if is_error {
        return is_icmp_error(packet.tuple.protocol, first).then_some(Parsed::Error);
    }
    packet.tuple.source_port = [first, second];
    packet.tuple.destination_port = [third, fourth];
    if packet.tuple.protocol == IPPROTO_TCP {
        packet.flags = match kernel::load(skb, packet.transport + 13) {
            Some([flags]) => flags,
            // Of the quoted packet of an error, eight bytes may be all there is.
            None if network != LINK_HEADER => 0,
            None => return None,
        };
    }
    if packet.tuple.protocol == IPPROTO_SCTP {
        let [chunk] = kernel::load(skb, packet.transport + 12).unwrap_or([u8::MAX]);
        packet.flags = sctp_flags(chunk);
    }
    Some(Parsed::Transport)
}

/// Whether there may be ports in the first fragment of a later one's packet.
#[inline(always)]
fn can_have_ports(packet: &Packet) -> bool {
    match packet.tuple.protocol {
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP => true,
        // Of the headers behind the fragment header, the first one alone is known.
        ROUTING | AUTHENTICATION | DESTINATION_OPTIONS => packet.family == Family::V6,
        _ => false,
    }
}

/// Whether a protocol is one of the two that ICMP is.
#[inline(always)]
pub(crate) fn is_icmp(protocol: u8) -> bool {
    protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6
}

/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 792, RFC 4443).
#[inline(always)]
fn is_icmp_error(protocol: u8, icmp_type: u8) -> bool {
    if protocol == IPPROTO_ICMP {
        matches!(icmp_type, 3 | 11 | 12)
    } else {
        matches!(icmp_type, 1..=4)
    }
}

#[inline(always)]
fn parse_v4(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    let header: [u8; V4_HEADER as usize] = kernel::load(skb, packet.network)?;
    let words = header[0] & 0x0f;
    if header[0] >> 4 != 4 || words < 5 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    packet.tuple.source = mapped_v4([header[12], header[13], header[14], header[15]]);
    packet.tuple.destination = mapped_v4([header[16], header[17], header[18], header[19]]);
    packet.tuple.protocol = header[9];
    packet.identification = [0, 0, header[4], header[5]];
    packet.checksum = [header[10], header[11]];
    let header_length = u32::from(words) * 4;
    packet.transport = packet.network + header_length;
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    packet.length = total.saturating_sub(header_length);
    packet.fragmented = fragment & 0x3fff != 0;
    packet.later = fragment & 0x1fff != 0;
    Some(())
}

#[inline(always)]
fn parse_v6(skb: *mut __sk_buff, packet: &mut Packet) -> Option<()> {
    let header: [u8; 8] = kernel::load(skb, packet.network)?;
    let [version, _, _, _, l0, l1, mut next_header, _] = header;
    if version >> 4 != 6 {
        return None;
    }
    packet.tuple.source = kernel::load(skb, packet.network + 8)?;
    packet.tuple.destination = kernel::load(skb, packet.network + 24)?;
    packet.fragmented = false;
    packet.later = false;
    packet.identification = [0; 4];
    let mut offset = packet.network + V6_HEADER;
    for _ in 0..MOST_EXTENSIONS {
        let units = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8,
            AUTHENTICATION => 4,
            FRAGMENT => 0,
            _ => break,
        };
        let [next, length, o0, o1, i0, i1, i2, i3]: [u8; 8] = kernel::load(skb, offset)?;
        offset += 8;
        if units == 0 {
            let fragment = u16::from_be_bytes([o0, o1]);
            packet.identification = [i0, i1, i2, i3];
            packet.fragmented = fragment & 0xfff9 != 0;
            packet.later = fragment & 0xfff8 != 0;
        } else {
            offset += u32::from(length) * units;
        }
        next_header = next;
        if packet.later {
            break;
        }
    }
    packet.tuple.protocol = next_header;
    packet.transport = offset;
    let end = packet.network + V6_HEADER + u32::from(u16::from_be_bytes([l0, l1]));
    packet.length = end.saturating_sub(offset);
    Some(())
}

/// Equality of addresses, as two integers.
#[inline(always)]
pub(crate) fn same_address(a: &Address, b: &Address) -> bool {
    u128::from_ne_bytes(*a) == u128::from_ne_bytes(*b)
}
