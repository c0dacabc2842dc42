//! Packets as text: `udp 10.244.1.5:4000 > 10.96.0.10:53` (or `sctp`), and for TCP the flags behind it (`S`,
//! `SA`, `R`, `RA`, `F`, `A`).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, NetHeaders, PacketBuilder, PacketBuilderStep, PacketHeaders,
    TransportHeader, ip_number,
};

use crate::wire::{self, sum, transport_sum};

/// What TCP and UDP packets of these tests carry.
pub(crate) const PAYLOAD: &[u8] = b"fairlead";

/// Builds an Ethernet frame of a line of text.
#[track_caller]
pub(crate) fn frame(text: &str) -> Vec<u8> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [protocol, source, ">", destination, flags @ ..] = words.as_slice() else {
        panic!("`{text}` is not `PROTOCOL SOURCE > DESTINATION [FLAGS]`");
    };
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    if *protocol == "sctp" {
        return wire::ethernet(&wire::sctp(source, destination, PAYLOAD));
    }
    let ethernet = PacketBuilder::ethernet2(wire::SOURCE_MAC, wire::DESTINATION_MAC);
    let step = match (source.ip(), destination.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), 60),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), 60),
        _ => panic!("`{text}` mixes families"),
    };
    let mut bytes = Vec::new();
    match *protocol {
        "udp" => step
            .udp(source.port(), destination.port())
            .write(&mut bytes, PAYLOAD)
            .unwrap(),
        "tcp" => tcp(
            step,
            source.port(),
            destination.port(),
            flags.first().copied().unwrap_or(""),
            &mut bytes,
        ),
        other => panic!("protocol {other}"),
    }
    bytes
}

fn tcp(
    step: PacketBuilderStep<IpHeaders>,
    source: u16,
    destination: u16,
    flags: &str,
    bytes: &mut Vec<u8>,
) {
    let mut step = step.tcp(source, destination, 1000, 64_000);
    let mut payload = PAYLOAD;
    for flag in flags.chars() {
        step = match flag {
            'S' => {
                payload = &[];
                step.syn()
            }
            'A' => step.ack(5000),
            'F' => step.fin(),
            'R' => step.rst(),
            other => panic!("flag {other}"),
        };
    }
    step.write(bytes, payload).unwrap();
}

/// Describes a frame; a wrong checksum is said so.
#[track_caller]
pub(crate) fn describe(frame: &[u8]) -> String {
    if let Some((source, destination)) = wire::sctp_ends(frame) {
        let verdict = if wire::is_valid(frame) {
            ""
        } else {
            " BAD CHECKSUM"
        };
        return format!("sctp {source} > {destination}{verdict}");
    }
    let headers =
        PacketHeaders::from_ethernet_slice(frame).expect("the programs emit well-formed packets");
    let (source, destination, header_ok) = match headers.net.as_ref().expect("an IP packet") {
        NetHeaders::Ipv4(ip, _) => (
            IpAddr::from(ip.source),
            IpAddr::from(ip.destination),
            ip.calc_header_checksum() == ip.header_checksum,
        ),
        NetHeaders::Ipv6(ip, _) => (IpAddr::from(ip.source), IpAddr::from(ip.destination), true),
        other => panic!("not IP: {other:?}"),
    };
    let mut text = String::new();
    let payload = headers.payload.slice();
    let transport_ok = match headers.transport.as_ref().expect("a transport header") {
        TransportHeader::Udp(udp) => {
            let (s, d) = (
                SocketAddr::new(source, udp.source_port),
                SocketAddr::new(destination, udp.destination_port),
            );
            write!(text, "udp {s} > {d}").unwrap();
            transport_sum(
                source,
                destination,
                ip_number::UDP.0,
                &[&udp.to_bytes(), payload],
            ) == 0xffff
        }
        TransportHeader::Tcp(tcp) => {
            let (s, d) = (
                SocketAddr::new(source, tcp.source_port),
                SocketAddr::new(destination, tcp.destination_port),
            );
            write!(text, "tcp {s} > {d} ").unwrap();
            for (set, letter) in [
                (tcp.syn, 'S'),
                (tcp.fin, 'F'),
                (tcp.rst, 'R'),
                (tcp.ack, 'A'),
            ] {
                if set {
                    text.push(letter);
                }
            }
            if tcp.rst {
                write!(
                    text,
                    " seq {} ack {}",
                    tcp.sequence_number, tcp.acknowledgment_number
                )
                .unwrap();
            }
            transport_sum(
                source,
                destination,
                ip_number::TCP.0,
                &[&tcp.to_bytes(), payload],
            ) == 0xffff
        }
        TransportHeader::Icmpv4(icmp) => {
            assert!(
                matches!(icmp.icmp_type, Icmpv4Type::DestinationUnreachable(_)),
                "{icmp:?}"
            );
            write!(
                text,
                "icmp {source} > {destination} unreachable {:?} quoting {} bytes",
                icmp.icmp_type,
                payload.len()
            )
            .unwrap();
            sum(&[&icmp.to_bytes(), payload]) == 0xffff
        }
        TransportHeader::Icmpv6(icmp) => {
            assert!(
                matches!(icmp.icmp_type, Icmpv6Type::DestinationUnreachable(_)),
                "{icmp:?}"
            );
            write!(
                text,
                "icmp6 {source} > {destination} {:?} quoting {} bytes",
                icmp.icmp_type,
                payload.len()
            )
            .unwrap();
            transport_sum(
                source,
                destination,
                ip_number::IPV6_ICMP.0,
                &[&icmp.to_bytes(), payload],
            ) == 0xffff
        }
        TransportHeader::Igmp(igmp) => panic!("{igmp:?}"),
    };
    if !header_ok {
        text.push_str(" BAD HEADER CHECKSUM");
    }
    if !transport_ok {
        text.push_str(" BAD CHECKSUM");
    }
    text
}
