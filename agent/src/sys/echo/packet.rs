//! Echo requests and their answers as bytes.

use std::net::IpAddr;

/// Header of an echo request (RFC 792).
const HEADER: usize = 8;

pub(super) fn ether_type(address: IpAddr) -> [u8; 2] {
    match address {
        IpAddr::V4(_) => [0x08, 0x00],
        IpAddr::V6(_) => [0x86, 0xdd],
    }
}

/// A packet of ICMP, which may not be fragmented.
pub(super) fn packet(from: IpAddr, to: IpAddr, icmp: Vec<u8>) -> Vec<u8> {
    const HOPS: u8 = 64;
    let mut icmp = icmp;
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            const DO_NOT_FRAGMENT: u8 = 0x40;
            let [high, low] = length(20 + icmp.len());
            header.extend([0x45, 0, high, low, 0, 0, DO_NOT_FRAGMENT, 0, HOPS, 1, 0, 0]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
        }
        (from, to) => {
            const ICMPV6: u8 = 58;
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let addresses = [octets(from), octets(to)].concat();
            let [high, low] = length(icmp.len());
            header.extend([0x60, 0, 0, 0, high, low, ICMPV6, HOPS]);
            header.extend(&addresses);
            // RFC 8200 §8.1: addresses, length and protocol are summed up too.
            let pseudo = [&addresses[..], &[0, 0, high, low, 0, 0, 0, ICMPV6], &icmp].concat();
            let sum = checksum(&pseudo).to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
        }
    }
    header.extend(icmp);
    header
}

/// An echo request; the kernel puts the IP header before it, and the checksum of ICMPv6 into it.
pub(super) fn request(size: u32, v6: bool, identifier: u16, sequence: u16) -> Vec<u8> {
    let header: usize = if v6 { 40 } else { 20 };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut packet = vec![0; size.saturating_sub(header).max(HEADER)];
    packet[0] = if v6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    if !v6 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echoed {
    pub(super) identifier: u16,
    pub(super) sequence: u16,
}

/// The answer in what comes after the IPv6 header, if it is one.
pub(super) fn of_v6(icmp: &[u8]) -> Option<Echoed> {
    const REPLY: u8 = 129;
    echoed(icmp, REPLY)
}

/// The answer in an IPv4 packet, if it is one.
pub(super) fn of_v4(packet: &[u8]) -> Option<Echoed> {
    const REPLY: u8 = 0;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    const ICMP: u8 = 1;
    let is_icmp = packet.get(9) == Some(&ICMP);
    echoed(packet.get(header..).filter(|_| is_icmp)?, REPLY)
}

/// The answer in a frame, if it is one.
pub(super) fn of_frame(frame: &[u8]) -> Option<Echoed> {
    const ICMPV6: u8 = 58;
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    match kind {
        [0x08, 0x00] => of_v4(packet),
        [0x86, 0xdd] if packet.get(6) == Some(&ICMPV6) => of_v6(packet.get(40..)?),
        _ => None,
    }
}

fn echoed(icmp: &[u8], reply: u8) -> Option<Echoed> {
    let [kind, _, _, _, i0, i1, s0, s1] = *icmp.first_chunk::<HEADER>()?;
    (kind == reply).then_some(Echoed {
        identifier: u16::from_be_bytes([i0, i1]),
        sequence: u16::from_be_bytes([s0, s1]),
    })
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or_default();
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("invariant: folded into 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_size_and_a_right_checksum() {
        for (size, v6, length) in [(1500, false, 1480), (1500, true, 1460), (64, false, 44)] {
            let packet = request(size, v6, 7, 9);
            assert_eq!(packet.len(), length);
            if !v6 {
                assert_eq!(checksum(&packet), 0, "a sum over a right checksum is 0");
            }
        }
    }

    #[test]
    fn a_packet_has_right_lengths_and_checksums() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (from, to, header) in [("172.31.0.1", "172.31.1.2", 20), ("fd00::1", "fd00::2", 40)] {
            let v6 = ip(from).is_ipv6();
            let packet = packet(ip(from), ip(to), request(1450, v6, 7, 9));
            assert_eq!(packet.len(), 1450);
            let (head, icmp) = packet.split_at(header);
            if v6 {
                let length = (1450_u16 - 40).to_be_bytes();
                assert_eq!(head[4..6], length);
                let pseudo = [&head[8..], &[0, 0], &length, &[0, 0, 0, 58], icmp].concat();
                assert_eq!(checksum(&pseudo), 0);
            } else {
                assert_eq!(head[2..4], 1450_u16.to_be_bytes());
                assert_eq!((checksum(head), checksum(icmp)), (0, 0));
            }
        }
    }

    #[test]
    fn answers_are_told_from_all_else() {
        let found = Some(Echoed {
            identifier: 7,
            sequence: 9,
        });
        let mut v4 = vec![0x45; 20];
        v4[9] = 1;
        v4.extend([0, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(of_v4(&v4), found);
        let mut v6 = vec![0x60; 40];
        v6[6] = 58;
        v6.extend([129, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(of_v6(&v6[40..]), found);
        let framed = |kind: [u8; 2], packet: &[u8]| [&[0; 12][..], &kind, packet].concat();
        assert_eq!(of_frame(&framed([0x08, 0x00], &v4)), found);
        assert_eq!(of_frame(&framed([0x86, 0xdd], &v6)), found);
        assert_eq!(of_frame(&framed([0x08, 0x06], &v4)), None, "ARP");
        v4[20] = 8;
        assert_eq!(of_v4(&v4), None, "a request");
        v6[6] = 17;
        assert_eq!(of_frame(&framed([0x86, 0xdd], &v6)), None, "UDP");
        assert_eq!((of_v4(&[]), of_v6(&[]), of_frame(&[])), (None, None, None));
    }
}
