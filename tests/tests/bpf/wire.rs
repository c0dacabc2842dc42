//! Packets byte by byte, where text does not say enough: SCTP, ICMP errors, tunnels, extension
//! headers. And whether the checksums of a packet, however it came about, are right.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};

use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};

use crate::packet::{sum, transport_sum};

/// As `etherparse` takes them.
pub(crate) const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Length of the Ethernet header.
pub(crate) const LINK: usize = 14;

/// IANA numbers of IP in IP and of IPv6 in IP.
pub(crate) const IPPROTO_IPIP: u8 = 4;
pub(crate) const IPPROTO_IPV6: u8 = 41;

/// Puts an IP packet into an Ethernet frame.
pub(crate) fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ether_type: [u8; 2] = match packet[0] >> 4 {
        6 => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    [&DESTINATION_MAC, &SOURCE_MAC, &ether_type[..], packet].concat()
}

/// An IP packet, in the form in which the programs write a header.
#[track_caller]
pub(crate) fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = |extra| {
        let bytes = u16::try_from(payload.len() + extra).expect("fits an IP packet");
        bytes.to_be_bytes()
    };
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [l0, l1] = length(20);
            let start = [0x45, 0, l0, l1, 0, 0, 0, 0, 64, protocol, 0, 0];
            let mut header = [&start[..], &source.octets(), &destination.octets()].concat();
            let checksum = !sum(&[&header]);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [l0, l1] = length(0);
            let start = [0x60, 0, 0, 0, l0, l1, protocol, 64];
            let ends = [source.octets(), destination.octets()].concat();
            [&start, &ends[..], payload].concat()
        }
        ends => panic!("{ends:?} mix families"),
    }
}

/// An SCTP packet, with its IP header.
#[track_caller]
pub(crate) fn sctp(source: SocketAddr, destination: SocketAddr, chunks: &[u8]) -> Vec<u8> {
    let tag = 0xfeed_beef_u32.to_be_bytes();
    let mut packet = [&ports(source, destination), &tag, &[0; 4][..], chunks].concat();
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    ip(source.ip(), destination.ip(), IPPROTO_SCTP, &packet)
}

/// A UDP packet, with its IP header.
#[track_caller]
pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = u16::try_from(payload.len() + 8).unwrap().to_be_bytes();
    let datagram = [&ports(source, destination), &[l0, l1, 0, 0][..], payload].concat();
    let mut packet = ip(source.ip(), destination.ip(), IPPROTO_UDP, &datagram);
    repair(&mut packet);
    packet
}

/// An ICMP error of a type and code about a packet. `rest` is what stands before the quotation.
#[track_caller]
pub(crate) fn icmp_error(
    source: IpAddr,
    destination: IpAddr,
    kind: [u8; 2],
    rest: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let [kind, code] = kind;
    let error = [&[kind, code, 0, 0], &rest.to_be_bytes(), quoted].concat();
    let protocol = if source.is_ipv4() {
        IPPROTO_ICMP
    } else {
        IPPROTO_ICMPV6
    };
    let mut packet = ip(source, destination, protocol, &error);
    repair(&mut packet);
    packet
}

/// A packet in a packet.
#[track_caller]
pub(crate) fn tunnel(source: IpAddr, destination: IpAddr, packet: &[u8]) -> Vec<u8> {
    let protocol = if source.is_ipv4() {
        IPPROTO_IPIP
    } else {
        IPPROTO_IPV6
    };
    let mut tunnelled = ip(source, destination, protocol, packet);
    if source.is_ipv4() {
        // Never to be cut.
        tunnelled[6] = 0x40;
        repair_v4_header(&mut tunnelled);
    }
    tunnelled
}

/// A packet with other ends and the transport checksum it had: what an error may quote.
#[track_caller]
pub(crate) fn with_ends(packet: &[u8], source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let transport = Headers::read(packet).expect("a whole packet").transport;
    let mut packet = packet.to_vec();
    packet[transport..transport + 4].copy_from_slice(&ports(source, destination));
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            repair_v4_header(&mut packet);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
        }
        ends => panic!("{ends:?} mix families"),
    }
    packet
}

fn repair_v4_header(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header = usize::from(packet[0] & 0x0f) * 4;
    let checksum = !sum(&[&packet[..header]]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Ports of an SCTP packet of a frame, if it is one.
pub(crate) fn sctp_ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = frame.get(LINK..)?;
    let headers = Headers::read(packet)?;
    let [s0, s1, d0, d1] = *packet.get(headers.transport..)?.first_chunk()?;
    (headers.protocol == IPPROTO_SCTP).then(|| {
        (
            SocketAddr::new(headers.source, u16::from_be_bytes([s0, s1])),
            SocketAddr::new(headers.destination, u16::from_be_bytes([d0, d1])),
        )
    })
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut state = u32::MAX;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = (state >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(state & 1));
        }
    }
    !state
}

fn ports(source: SocketAddr, destination: SocketAddr) -> [u8; 4] {
    let ([s0, s1], [d0, d1]) = (
        source.port().to_be_bytes(),
        destination.port().to_be_bytes(),
    );
    [s0, s1, d0, d1]
}

/// Whether a frame holds an IP packet of the length it says, with right checksums all through.
pub(crate) fn is_valid(frame: &[u8]) -> bool {
    frame.get(LINK..).is_some_and(is_valid_packet)
}

fn is_valid_packet(packet: &[u8]) -> bool {
    let Some(headers) = Headers::read(packet) else {
        return false;
    };
    if !headers.is_v4_sum_right(packet) {
        return false;
    }
    let payload = &packet[headers.transport..headers.end];
    match headers.protocol {
        // The rest of what the checksum covers is elsewhere.
        _ if headers.is_fragment => true,
        IPPROTO_IPIP | IPPROTO_IPV6 => is_valid_packet(payload),
        IPPROTO_SCTP => {
            let mut cleared = payload.to_vec();
            let Some(field) = cleared.get_mut(8..12) else {
                return false;
            };
            field.fill(0);
            // Zero: the device is to fill it in.
            payload[8..12] == [0; 4] || payload[8..12] == crc32c(&cleared).to_le_bytes()
        }
        protocol => match checksum_at(protocol) {
            Some(at) if payload.len() < at + 2 => false,
            Some(at) if protocol == IPPROTO_UDP && payload[at..at + 2] == [0, 0] => {
                headers.source.is_ipv4()
            }
            Some(_) => headers.transport_sum(payload) == 0xffff,
            None => true,
        },
    }
}

/// Makes the checksums of a packet right, as far as it can be read.
pub(crate) fn repair(packet: &mut [u8]) {
    let Some(headers) = Headers::read(packet) else {
        return;
    };
    if headers.source.is_ipv4() {
        repair_v4_header(packet);
    }
    let payload = &mut packet[headers.transport..headers.end];
    match headers.protocol {
        _ if headers.is_fragment => {}
        IPPROTO_IPIP | IPPROTO_IPV6 => repair(payload),
        IPPROTO_SCTP if payload.len() >= 12 => {
            payload[8..12].fill(0);
            let checksum = crc32c(payload).to_le_bytes();
            payload[8..12].copy_from_slice(&checksum);
        }
        protocol => {
            if let Some(at) = checksum_at(protocol).filter(|at| payload.len() >= at + 2) {
                payload[at..at + 2].fill(0);
                let checksum = !headers.transport_sum(payload);
                payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            }
        }
    }
}

/// Where the Internet checksum of a protocol stands.
fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        IPPROTO_TCP => Some(16),
        IPPROTO_UDP => Some(6),
        IPPROTO_ICMP | IPPROTO_ICMPV6 => Some(2),
        _ => None,
    }
}

/// What a packet's network header says.
struct Headers {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    transport: usize,
    end: usize,
    is_fragment: bool,
}

impl Headers {
    fn read(packet: &[u8]) -> Option<Self> {
        let headers = match packet.first()? >> 4 {
            4 => Self::read_v4(packet)?,
            6 => Self::read_v6(packet)?,
            _ => return None,
        };
        (headers.transport <= headers.end && headers.end <= packet.len()).then_some(headers)
    }

    fn read_v4(packet: &[u8]) -> Option<Self> {
        let header: [u8; 20] = *packet.first_chunk()?;
        let transport = usize::from(header[0] & 0x0f) * 4;
        (transport >= 20).then(|| Self {
            source: IpAddr::from(<[u8; 4]>::try_from(&header[12..16]).unwrap()),
            destination: IpAddr::from(<[u8; 4]>::try_from(&header[16..20]).unwrap()),
            protocol: header[9],
            transport,
            end: usize::from(u16::from_be_bytes([header[2], header[3]])),
            is_fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
        })
    }

    fn read_v6(packet: &[u8]) -> Option<Self> {
        let header: [u8; 40] = *packet.first_chunk()?;
        let mut protocol = header[6];
        let mut transport = 40;
        let mut is_fragment = false;
        // RFC 8200 §4: hop-by-hop, routing, destination options, authentication, fragment.
        while let Some(unit) = match protocol {
            0 | 43 | 60 => Some(8),
            51 => Some(4),
            44 => Some(0),
            _ => None,
        } {
            let extension: [u8; 8] = *packet.get(transport..)?.first_chunk()?;
            let fragment = u16::from_be_bytes([extension[2], extension[3]]);
            is_fragment |= unit == 0 && fragment & 0xfff9 != 0;
            protocol = extension[0];
            transport += 8 + usize::from(extension[1]) * unit;
            if is_fragment {
                break;
            }
        }
        Some(Self {
            source: IpAddr::from(<[u8; 16]>::try_from(&header[8..24]).unwrap()),
            destination: IpAddr::from(<[u8; 16]>::try_from(&header[24..40]).unwrap()),
            protocol,
            transport,
            end: 40 + usize::from(u16::from_be_bytes([header[4], header[5]])),
            is_fragment,
        })
    }

    fn is_v4_sum_right(&self, packet: &[u8]) -> bool {
        let header = usize::from(packet[0] & 0x0f) * 4;
        self.source.is_ipv6() || sum(&[&packet[..header]]) == 0xffff
    }

    /// `0xffff` where the checksum is right.
    fn transport_sum(&self, payload: &[u8]) -> u16 {
        if self.protocol == IPPROTO_ICMP {
            sum(&[payload])
        } else {
            transport_sum(self.source, self.destination, self.protocol, &[payload])
        }
    }
}

/// Marsaglia's xorshift: packets that look random, and the same again for the same seed.
pub(crate) struct Xorshift(u64);

impl Xorshift {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).expect("32 bits are left")
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below<N>(&mut self, end: N) -> N
    where
        N: TryInto<u32, Error: Debug> + TryFrom<u32, Error: Debug>,
    {
        let below = self.next() % end.try_into().unwrap();
        N::try_from(below).unwrap()
    }
}
