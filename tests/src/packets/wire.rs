//! Packets byte by byte: UDP, SCTP, ICMP errors, tunnels.

use std::net::{IpAddr, SocketAddr};

use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};

use super::checksum::{crc32c, repair, repair_v4_header, sum};
use super::headers::Headers;

/// As `etherparse` takes them.
pub const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Length of the Ethernet header.
pub const LINK: usize = 14;

/// IANA numbers of IP in IP and of IPv6 in IP.
pub const IPPROTO_IPIP: u8 = 4;
pub const IPPROTO_IPV6: u8 = 41;

/// Puts an IP packet into an Ethernet frame.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ether_type: [u8; 2] = match packet[0] >> 4 {
        6 => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    [&DESTINATION_MAC, &SOURCE_MAC, &ether_type[..], packet].concat()
}

/// An IP packet, in the form in which the programs write a header.
#[track_caller]
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
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
pub fn sctp(source: SocketAddr, destination: SocketAddr, chunks: &[u8]) -> Vec<u8> {
    let tag = 0xfeed_beef_u32.to_be_bytes();
    let mut packet = [&ports(source, destination), &tag, &[0; 4][..], chunks].concat();
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    ip(source.ip(), destination.ip(), IPPROTO_SCTP, &packet)
}

/// A UDP packet, with its IP header.
#[track_caller]
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = u16::try_from(payload.len() + 8)
        .expect("fits an IP packet")
        .to_be_bytes();
    let datagram = [&ports(source, destination), &[l0, l1, 0, 0][..], payload].concat();
    let mut packet = ip(source.ip(), destination.ip(), IPPROTO_UDP, &datagram);
    repair(&mut packet);
    packet
}

/// A TCP segment with its IP header. `flags` is the byte of them (RFC 9293 §3.1).
#[track_caller]
pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8, payload: &[u8]) -> Vec<u8> {
    const SEQUENCE: [u8; 4] = 1000_u32.to_be_bytes();
    const ACKNOWLEDGED: [u8; 4] = 5000_u32.to_be_bytes();
    const WINDOW: [u8; 2] = 64_000_u16.to_be_bytes();
    let numbers = [&ports(source, destination)[..], &SEQUENCE, &ACKNOWLEDGED].concat();
    let rest = [&[5 << 4, flags][..], &WINDOW, &[0; 4]].concat();
    let segment = [&numbers, &rest, payload].concat();
    let mut packet = ip(source.ip(), destination.ip(), IPPROTO_TCP, &segment);
    repair(&mut packet);
    packet
}

/// An ICMP error of a type and code about a packet. `rest` is what stands before the quotation.
#[track_caller]
pub fn icmp_error(
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
pub fn tunnel(source: IpAddr, destination: IpAddr, packet: &[u8]) -> Vec<u8> {
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
pub fn with_ends(packet: &[u8], source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
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

/// Ports of an SCTP packet of a frame, if it is one.
pub fn sctp_ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
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

fn ports(source: SocketAddr, destination: SocketAddr) -> [u8; 4] {
    let ([s0, s1], [d0, d1]) = (
        source.port().to_be_bytes(),
        destination.port().to_be_bytes(),
    );
    [s0, s1, d0, d1]
}
