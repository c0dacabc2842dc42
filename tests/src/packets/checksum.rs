//! Checksums: whether those of a packet, however it came about, are right, and making them so.

use std::net::IpAddr;

use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};

use super::headers::Headers;
use super::wire::{IPPROTO_IPIP, IPPROTO_IPV6, LINK};

/// Whether a frame holds an IP packet of the length it says, with right checksums all through.
pub fn is_valid(frame: &[u8]) -> bool {
    frame.get(LINK..).is_some_and(is_valid_packet)
}

/// The same of a packet.
pub fn is_valid_packet(packet: &[u8]) -> bool {
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
pub fn repair(packet: &mut [u8]) {
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

pub(super) fn repair_v4_header(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header = usize::from(packet[0] & 0x0f) * 4;
    let checksum = !sum(&[&packet[..header]]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut state = u32::MAX;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = (state >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(state & 1));
        }
    }
    !state
}

/// The sum over pseudo header, header and payload; `0xffff` where the checksum is right.
pub fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, parts: &[&[u8]]) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u16::try_from(length)
        .expect("fits an IP packet")
        .to_be_bytes();
    let (source, destination) = (octets(source), octets(destination));
    let mut all: Vec<&[u8]> = vec![&source, &destination, &length];
    let protocol = [0, protocol];
    all.push(&protocol);
    all.extend(parts);
    sum(&all)
}

/// Ones' complement sum (RFC 1071) of parts of even length, but for the last.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("invariant: folded into 16 bits")
}
