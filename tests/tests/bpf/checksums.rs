//! Checksums of translated packets: what the programs write, without reading the packet, is what the
//! sender of a packet with the new addresses and ports would have written.

use std::net::{IpAddr, SocketAddr};

use agent_abi::IPPROTO_TCP;

use crate::lab::{At, Lab};
use crate::wire::{LINK, Xorshift, ethernet, ip, repair, udp, with_ends};

/// One connection: a client's address, a Service, its backend.
const CONNECTIONS: [(&str, &str, &str); 2] = [
    ("10.244.1.5", "10.96.0.10:80", "10.244.2.7:8080"),
    ("fd00:10::5", "[fd00:96::10]:80", "[fd00:20::7]:8080"),
];

const ROUNDS: u16 = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    /// RFC 768; IPv4 only.
    UdpWithoutChecksum,
    /// It comes out as zero, and is written as its complement.
    UdpOfZero,
}

/// A packet, with its payload's first two bytes chosen so that the checksum becomes what it should.
fn packet(
    kind: Kind,
    random: &mut Xorshift,
    source: SocketAddr,
    destination: SocketAddr,
) -> Vec<u8> {
    let mut payload = vec![0; 2 + random.below(300)];
    payload.fill_with(|| random.below(256_u32).to_le_bytes()[0]);
    if kind == Kind::Tcp {
        let ([s0, s1], [d0, d1]) = (
            source.port().to_be_bytes(),
            destination.port().to_be_bytes(),
        );
        let header = [
            s0, s1, d0, d1, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0, 0, 0, 0, 0,
        ];
        let segment = [&header[..], &payload].concat();
        let mut packet = ip(source.ip(), destination.ip(), IPPROTO_TCP, &segment);
        repair(&mut packet);
        return packet;
    }
    payload[..2].fill(0);
    let mut packet = udp(source, destination, &payload);
    let checksum = packet.len() - payload.len() - 2;
    if kind == Kind::UdpOfZero {
        // The payload takes up what is left to it, so that nothing is left.
        packet.copy_within(checksum..checksum + 2, checksum + 2);
        packet[checksum..checksum + 2].fill(0xff);
    }
    if kind == Kind::UdpWithoutChecksum {
        packet[checksum..checksum + 2].fill(0);
    }
    packet
}

/// What a sender would write that has other ends.
fn sent_by(kind: Kind, packet: &[u8], source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut packet = with_ends(packet, source, destination);
    if kind == Kind::UdpWithoutChecksum {
        return packet;
    }
    repair(&mut packet);
    let transport = if packet[0] >> 4 == 6 { 40 } else { 20 };
    let checksum = &mut packet[transport + 6..][..2];
    if kind != Kind::Tcp && checksum == [0, 0] {
        checksum.fill(0xff);
    }
    packet
}

#[track_caller]
fn check(kind: Kind) {
    let mut lab = Lab::new();
    let mut random = Xorshift::new(7);
    for (client, service, backend) in CONNECTIONS {
        let client: IpAddr = client.parse().unwrap();
        if kind == Kind::UdpWithoutChecksum && client.is_ipv6() {
            continue;
        }
        let protocol = if kind == Kind::Tcp { "tcp" } else { "udp" };
        lab.service(protocol, service, backend);
        let [service, backend] = [service, backend].map(|text| text.parse().unwrap());
        for port in 2000..2000 + ROUNDS {
            let client = SocketAddr::new(client, port);
            // Towards the backend what leaves has the checksum in question, back what comes has.
            let mut out = packet(kind, &mut random, client, backend);
            out = sent_by(kind, &out, client, service);
            let back = packet(kind, &mut random, backend, client);
            for (at, sent, ends) in [
                (At::Pod, out, (client, backend)),
                (At::Uplink, back, (service, client)),
            ] {
                let expected = ethernet(&sent_by(kind, &sent, ends.0, ends.1));
                let (verdict, got) = lab.run_frame(at, &ethernet(&sent));
                assert_eq!(verdict, "redirect", "{kind:?} {ends:?}");
                assert!(
                    got == expected,
                    "{kind:?} {ends:?}: {:02x?}, not {:02x?}",
                    &got[LINK..],
                    &expected[LINK..]
                );
            }
        }
    }
}

#[test]
fn tcp_packets_leave_with_the_checksum_of_their_new_ends() {
    check(Kind::Tcp);
}

#[test]
fn udp_packets_leave_with_the_checksum_of_their_new_ends() {
    check(Kind::Udp);
}

#[test]
fn a_udp_packet_without_a_checksum_gets_none() {
    check(Kind::UdpWithoutChecksum);
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_its_complement() {
    check(Kind::UdpOfZero);
}
