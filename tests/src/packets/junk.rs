//! Packets that nobody should send: valid ones of every kind, and what becomes of them when bits
//! flip, ends are cut off, and one goes over into another.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::checksum::repair;
use super::random::Xorshift;
use super::wire::{LINK, icmp_error, sctp, tcp, tunnel, udp};

/// Between whom packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who sends.
    pub source: SocketAddr,
    /// Who gets it; of the same family.
    pub destination: SocketAddr,
    /// Source and destination of those that are in another packet.
    pub tunnel: (IpAddr, IpAddr),
}

/// A valid packet of some kind.
pub fn packet(random: &mut Xorshift, ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let Ends {
        source,
        destination,
        tunnel: (from, to),
    } = *ends;
    let packet = transport(random, source, destination, payload);
    match random.below(6) {
        0 => about(random, &packet, destination.ip(), source.ip()),
        1 => tunnel(from, to, &packet),
        2 | 3 => extended(random, &packet),
        _ => packet,
    }
}

/// A packet of one of the protocols.
fn transport(
    random: &mut Xorshift,
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
) -> Vec<u8> {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const FIN: u8 = 1;
    const RST: u8 = 4;
    match random.below(3) {
        0 => udp(source, destination, payload),
        1 => sctp(source, destination, payload),
        _ => {
            let flags = [SYN, ACK, SYN | ACK, FIN | ACK, RST][random.below(5)];
            tcp(source, destination, flags, payload)
        }
    }
}

/// An ICMP error about a packet, quoted in full or in part.
fn about(random: &mut Xorshift, packet: &[u8], source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let kinds: [[u8; 2]; 4] = match source {
        IpAddr::V4(_) => [[3, 4], [3, 1], [11, 0], [12, 0]],
        IpAddr::V6(_) => [[2, 0], [1, 3], [3, 0], [4, 0]],
    };
    let quoted = &packet[..packet.len().min(28 + random.below(1200))];
    icmp_error(source, destination, kinds[random.below(4)], 1280, quoted)
}

/// The packet with IPv4 options, or a chain of IPv6 extension headers, or as a fragment.
fn extended(random: &mut Xorshift, packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        if random.below(2) == 0 {
            let words = 1 + random.below(10_u8);
            packet[0] += words;
            // No operation (RFC 791 §3.1).
            packet.splice(20..20, vec![1; usize::from(words) * 4]);
        } else {
            let more = random.below(2_u8) << 5;
            packet[6..8].copy_from_slice(&[more, random.below(3_u8)]);
        }
    } else {
        for _ in 0..1 + random.below(7) {
            let kind = [0, 43, 60, 51, 44][random.below(5)];
            let units = random.below(3_u8);
            let length = match kind {
                44 => 8,
                51 => 8 + usize::from(units) * 4,
                _ => 8 + usize::from(units) * 8,
            };
            let mut header = vec![0; length];
            header[0] = std::mem::replace(&mut packet[6], kind);
            if kind == 44 {
                // An offset, more fragments, or neither (RFC 6946).
                header[2..4].copy_from_slice(&[0, [0, 0, 1, 8][random.below(4)]]);
            } else {
                header[1] = units;
            }
            packet.splice(40..40, header);
        }
    }
    set_length(&mut packet);
    packet
}

/// Makes length and checksums those of the packet as it is.
fn set_length(packet: &mut [u8]) {
    let (at, header) = if packet[0] >> 4 == 4 { (2, 0) } else { (4, 40) };
    let length = u16::try_from(packet.len() - header).expect("fits an IP packet");
    packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
    repair(packet);
}

/// Flips, cuts, pads, splices with another frame; and half of the time makes the checksums right again.
pub fn mutate(
    random: &mut Xorshift,
    frame: &mut Vec<u8>,
    lengths: RangeInclusive<usize>,
    mut other: impl FnMut(&mut Xorshift) -> Vec<u8>,
) {
    let (shortest, longest) = lengths.into_inner();
    for _ in 0..random.below(4) {
        let at = random.below(frame.len());
        match random.below(5) {
            // Headers are what is worth flipping.
            0 | 1 => frame[at.min(LINK + at % 80)] ^= random.below(u8::MAX),
            2 => frame.truncate(at.max(shortest)),
            3 => frame.extend(vec![0; random.below(64)]),
            _ => {
                let other = other(random);
                frame.truncate(at);
                frame.extend(&other[at.min(other.len())..]);
            }
        }
    }
    frame.resize(frame.len().clamp(shortest, longest), 0);
    if random.below(2) == 0 {
        repair(&mut frame[LINK..]);
    }
}

/// A number that the environment may give another value.
#[track_caller]
pub fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The first bytes; a run with the same seed has them all.
pub fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(200);
    shown.map(|byte| format!("{byte:02x}")).collect()
}
