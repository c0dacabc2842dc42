//! Echoes, errors and fragments, which show no ports.

use std::net::{IpAddr, SocketAddr};

use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6};

use super::{ENDS, lab, source};
use crate::lab::{At, Lab};
use crate::packet::{describe, frame};
use crate::pieces::cut;
use crate::wire::{LINK, ethernet, icmp_error, ip, is_valid, repair, udp, with_ends};

/// An echo with data.
fn echo(from: &str, to: &str, kind: u8, identifier: u16, data: &[u8]) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let [i0, i1] = identifier.to_be_bytes();
    let message = [&[kind, 0, 0, 0, i0, i1, 0, 7], data].concat();
    let protocol = if from.is_ipv4() {
        IPPROTO_ICMP
    } else {
        IPPROTO_ICMPV6
    };
    let mut packet = ip(from, to, protocol, &message);
    repair(&mut packet);
    packet
}

/// Where a frame's ICMP header is.
fn icmp_at(frame: &[u8]) -> usize {
    LINK + if frame[LINK] >> 4 == 4 { 20 } else { 40 }
}

fn identifier(frame: &[u8]) -> u16 {
    let at = icmp_at(frame) + 4;
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// A pod, somebody outside, the node, and the numbers of question and answer.
const ECHOES: [(&str, &str, &str, u8, u8); 2] = [
    ("10.244.1.5", "198.51.100.9", "172.31.0.1", 8, 0),
    ("fd00:10::5", "2001:db8::9", "fd00::1", 128, 129),
];

#[test]
fn an_echo_is_translated_both_ways_by_its_identifier() {
    for (pod, outside, node, question, answer) in ECHOES {
        let mut lab = lab();
        for asked_as in [0, 77, 40_000] {
            let sent = ethernet(&echo(pod, outside, question, asked_as, b"sixteen bytes of"));
            assert_eq!(
                lab.run_frame(At::Pod, &sent),
                ("pass".to_owned(), sent.clone())
            );
            let (verdict, left) = lab.run_frame(At::Node, &sent);
            let seen_as = identifier(&left);
            assert_eq!(verdict, "pass");
            let expected = ethernet(&echo(node, outside, question, seen_as, b"sixteen bytes of"));
            assert_eq!(left, expected, "{pod}, {asked_as}");
            assert!((1024..30_000).contains(&seen_as), "{seen_as}");
            let back = ethernet(&echo(outside, node, answer, seen_as, b"sixteen bytes of"));
            let (verdict, back) = lab.run_frame(At::Uplink, &back);
            let expected = ethernet(&echo(outside, pod, answer, asked_as, b"sixteen bytes of"));
            assert_eq!(
                (verdict.as_str(), back),
                ("redirect", expected),
                "{pod}, {asked_as}"
            );
            // The next one of the same.
            assert_eq!(lab.run_frame(At::Node, &sent).1, left);
        }
        assert_eq!(lab.counter(Counter::EgressConnections), 3);
    }
}

#[test]
fn an_answer_of_a_pod_and_an_echo_of_the_node_leave_as_they_are() {
    let mut lab = lab();
    for (pod, outside, node, question, answer) in ECHOES {
        for frame in [
            ethernet(&echo(pod, outside, answer, 77, b"data")),
            ethernet(&echo(node, outside, question, 77, b"data")),
            ethernet(&echo(pod, node, question, 77, b"data")),
        ] {
            assert_eq!(
                lab.run_frame(At::Node, &frame),
                ("pass".to_owned(), frame.clone())
            );
        }
        let to_the_node = ethernet(&echo(outside, node, answer, 77, b"data"));
        let got = lab.run_frame(At::Uplink, &to_the_node);
        assert_eq!(got, ("pass".to_owned(), to_the_node));
    }
}

#[test]
fn pieces_of_an_echo_and_of_a_datagram_follow_the_first_one() {
    let data: Vec<u8> = (0..200).collect();
    for (pod, outside, node, question, answer) in ECHOES {
        let mut lab = lab();
        let through = |lab: &mut Lab, at, packet: &[u8]| -> Vec<Vec<u8>> {
            cut(packet, 64, 0x0707, None)
                .iter()
                .map(|piece| {
                    let (verdict, frame) = lab.run_frame(at, &ethernet(piece));
                    assert_ne!(verdict, "drop", "{pod}");
                    frame[LINK..].to_vec()
                })
                .collect()
        };
        let left = through(&mut lab, At::Node, &echo(pod, outside, question, 77, &data));
        // In IPv6 the fragment header stands before the ICMP header.
        let at = if pod.contains(':') { 52 } else { 24 };
        let seen_as = u16::from_be_bytes([left[0][at], left[0][at + 1]]);
        let expected = echo(node, outside, question, seen_as, &data);
        assert_eq!(left, cut(&expected, 64, 0x0707, None), "{pod}");
        let back = through(
            &mut lab,
            At::Uplink,
            &echo(outside, node, answer, seen_as, &data),
        );
        let expected = echo(outside, pod, answer, 77, &data);
        assert_eq!(back, cut(&expected, 64, 0x0707, None), "{pod}");

        let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let (from, to) = (at(pod, 4000), at(outside, 53));
        let left = through(&mut lab, At::Node, &udp(from, to, &data));
        let seen_as = at(node, u16::from_be_bytes(port_of(&left[0])));
        let expected = udp(seen_as, to, &data);
        assert_eq!(left, cut(&expected, 64, 0x0707, None), "{pod}");
        let back = through(&mut lab, At::Uplink, &udp(to, seen_as, &data));
        assert_eq!(back, cut(&udp(to, from, &data), 64, 0x0707, None));
    }
}

/// The source port of a first fragment.
fn port_of(packet: &[u8]) -> [u8; 2] {
    let at = if packet[0] >> 4 == 4 { 20 } else { 48 };
    [packet[at], packet[at + 1]]
}

#[test]
fn errors_are_about_what_was_sent() {
    for ((pod, outside, node), (.., question, reply)) in ENDS.into_iter().zip(ECHOES) {
        let mut lab = lab();
        let (pod, outside): (SocketAddr, SocketAddr) =
            (pod.parse().unwrap(), outside.parse().unwrap());
        let node: IpAddr = node.parse().unwrap();
        let router: IpAddr = if node.is_ipv4() {
            "203.0.113.1"
        } else {
            "2001:db8:1::1"
        }
        .parse()
        .unwrap();
        let unreachable = if node.is_ipv4() { [3, 1] } else { [1, 3] };
        // A router's, about a datagram.
        let sent = udp(pod, outside, b"fairlead");
        let (_, left) = lab.run_frame(At::Node, &ethernet(&sent));
        let error = ethernet(&icmp_error(router, node, unreachable, 0, &left[LINK..]));
        let (verdict, got) = lab.run_frame(At::Uplink, &error);
        let seen_as = source(&format!("pass {}", describe(&left)));
        let quoted = with_ends(&left[LINK..], pod, outside);
        let expected = ethernet(&icmp_error(router, pod.ip(), unreachable, 0, &quoted));
        assert_eq!((verdict.as_str(), got), ("redirect", expected), "{pod}");
        // The pod's own, about an answer.
        let answer = udp(outside, pod, b"fairlead");
        let error = ethernet(&icmp_error(pod.ip(), outside.ip(), unreachable, 0, &answer));
        let (verdict, got) = lab.run_frame(At::Pod, &error);
        let quoted = with_ends(&answer, outside, seen_as);
        let expected = ethernet(&icmp_error(node, outside.ip(), unreachable, 0, &quoted));
        assert_eq!((verdict.as_str(), got), ("redirect", expected), "{pod}");
        // A router's, about an echo: what traceroute lives on.
        let sent = echo(
            &pod.ip().to_string(),
            &outside.ip().to_string(),
            question,
            77,
            b"data",
        );
        let (_, left) = lab.run_frame(At::Node, &ethernet(&sent));
        let error = ethernet(&icmp_error(router, node, unreachable, 0, &left[LINK..]));
        let (verdict, got) = lab.run_frame(At::Uplink, &error);
        assert_eq!(verdict, "redirect", "{pod}");
        assert!(is_valid(&got), "{pod}: {got:02x?}");
        let at = icmp_at(&got) + 8;
        let quoted = [&got[..LINK], &got[at..]].concat();
        assert_eq!(identifier(&quoted), 77, "{pod}");
        // The node's own, about an answer that does not fit the pod's interface.
        let (there, back) = (outside.ip().to_string(), pod.ip().to_string());
        let answer = echo(&there, &back, reply, 77, b"data");
        let error = ethernet(&icmp_error(node, outside.ip(), unreachable, 0, &answer));
        let (verdict, got) = lab.run_frame(At::Node, &error);
        assert_eq!(verdict, "pass", "{pod}");
        assert!(is_valid(&got), "{pod}: {got:02x?}");
        let quoted = [&got[..LINK], &got[at..]].concat();
        assert_eq!(identifier(&quoted), identifier(&left), "{pod}");
        assert_eq!(lab.counter(Counter::ErrorsTranslated), 4);
    }
}

#[test]
fn a_packet_that_is_no_ip_passes() {
    let mut lab = lab();
    // An echo before it, of which the scratch space still speaks.
    lab.run_frame(
        At::Node,
        &ethernet(&echo("10.244.1.5", "198.51.100.9", 8, 77, b"data")),
    );
    let mut arp = frame("udp 10.244.1.5:4000 > 198.51.100.9:53");
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for at in [At::Node, At::Uplink] {
        assert_eq!(lab.run_frame(at, &arp), ("pass".to_owned(), arp.clone()));
    }
}
