//! Network policy: which packets pass at a pod's interface.

mod entries;
mod followed;

use std::net::{IpAddr, SocketAddr};

use agent::policy::ebpf::image::Op;
use agent::policy::ebpf::maps::Maps;
use agent_abi::counters::Counter;
use agent_abi::policy::{
    ENDPOINT_CLOSED, EndpointV1, IDENTITY_HOST, NO_SET, OUTCOME_ALLOW, OUTCOME_AUDIT_DENY,
    OUTCOME_DENY, PROTOCOL_BITS, VERDICT_BITS, VerdictKeyV1, VerdictV1,
};
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};

use crate::lab::{At, Lab, address};
use crate::packet::frame;
use crate::wire::{LINK, ethernet, icmp_error, ip};

/// Sets of the pod, and the identity of 10.244.2.7 and fd00:20::7.
const INGRESS: u32 = 1;
const EGRESS: u32 = 2;
const FRIEND: u32 = 7;
const POD: [&str; 2] = ["10.244.1.5", "fd00:10::5"];
const PEER: [&str; 2] = ["10.244.2.7", "fd00:20::7"];

/// A node whose pod has these sets; the peer is a friend, and anybody is denied by both.
fn lab(ingress: u32, egress: u32, flags: u32) -> Lab {
    let lab = Lab::policed();
    select(&lab, ingress, egress, flags);
    lab
}

/// Lets TCP to and from the pod pass, and UDP of port 80; nothing else.
pub(crate) fn police(lab: &Lab) {
    select(lab, INGRESS, EGRESS, 0);
    for set in [INGRESS, EGRESS] {
        for traffic in [(IPPROTO_TCP, None), (IPPROTO_UDP, Some(80))] {
            verdict(lab, (set, 0), Some(traffic), OUTCOME_ALLOW);
        }
    }
}

fn select(lab: &Lab, ingress: u32, egress: u32, flags: u32) {
    for (pod, peer) in POD.into_iter().zip(PEER) {
        write(lab, Op::PutIdentity((128, address(peer)), FRIEND));
        let endpoint = EndpointV1 {
            ingress,
            egress,
            flags,
            _pad: 0,
        };
        write(lab, Op::PutEndpoint((128, address(pod)), endpoint));
    }
    for node in ["172.31.0.1", "fd00::1"] {
        write(lab, Op::PutIdentity((128, address(node)), IDENTITY_HOST));
    }
    for set in [INGRESS, EGRESS] {
        verdict(lab, (set, 0), None, OUTCOME_DENY);
    }
}

#[track_caller]
fn write(lab: &Lab, op: Op) {
    let mut maps = Maps::open(&lab.pins).unwrap();
    maps.write(op).unwrap();
    maps.advance().unwrap();
}

/// What a set says of an identity: of all, of a protocol, or of a port of it.
#[track_caller]
fn verdict(
    lab: &Lab,
    (set, identity): (u32, u32),
    traffic: Option<(u8, Option<u16>)>,
    outcome: u8,
) {
    let (protocol, port) = traffic.unwrap_or((0, None));
    let more = match (traffic, port) {
        (None, _) => 0,
        (Some(_), None) => PROTOCOL_BITS,
        (Some(_), Some(_)) => PROTOCOL_BITS + 16,
    };
    let key = VerdictKeyV1 {
        set,
        identity,
        protocol,
        _pad: 0,
        port: port.unwrap_or(0).to_be_bytes(),
    };
    let value = VerdictV1 {
        rule: 1,
        outcome,
        _pad: [0; 3],
    };
    write(lab, Op::PutVerdict((key, VERDICT_BITS + more), value));
}

#[track_caller]
fn expect(lab: &mut Lab, at: At, packet: &str, passes: bool) {
    expect_frame(lab, at, &frame(packet), passes, packet);
}

#[track_caller]
fn expect_frame(lab: &mut Lab, at: At, frame: &[u8], passes: bool, what: &str) {
    let (verdict, _) = lab.run_frame(at, frame);
    assert_eq!(verdict != "drop", passes, "{what}: {verdict}");
}

fn echo(from: &str, to: &str, reply: bool, id: u16) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let (protocol, kind) = match (from.is_ipv4(), reply) {
        (true, false) => (IPPROTO_ICMP, 8),
        (true, true) => (IPPROTO_ICMP, 0),
        (false, false) => (IPPROTO_ICMPV6, 128),
        (false, true) => (IPPROTO_ICMPV6, 129),
    };
    let [id0, id1] = id.to_be_bytes();
    ethernet(&ip(from, to, protocol, &[kind, 0, 0, 0, id0, id1, 0, 1]))
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Both families: the pod and the peer.
fn ends() -> impl Iterator<Item = (&'static str, &'static str)> {
    POD.into_iter().zip(PEER)
}

#[test]
fn a_port_is_open_to_whom_a_rule_names_and_its_replies_pass() {
    let mut lab = lab(INGRESS, EGRESS, 0);
    verdict(
        &lab,
        (INGRESS, FRIEND),
        Some((IPPROTO_TCP, Some(80))),
        OUTCOME_ALLOW,
    );
    verdict(
        &lab,
        (EGRESS, FRIEND),
        Some((IPPROTO_UDP, None)),
        OUTCOME_ALLOW,
    );
    for (pod, peer) in ends() {
        let (web, other, client) = (at(pod, 80), at(pod, 81), at(peer, 4000));
        expect(
            &mut lab,
            At::NodeToPod,
            &format!("tcp {client} > {other} S"),
            false,
        );
        expect(
            &mut lab,
            At::Pod,
            &format!("tcp {web} > {client} SA"),
            false,
        );
        expect(
            &mut lab,
            At::NodeToPod,
            &format!("tcp {client} > {web} S"),
            true,
        );
        expect(&mut lab, At::Pod, &format!("tcp {web} > {client} SA"), true);
        expect(
            &mut lab,
            At::NodeToPod,
            &format!("tcp {client} > {web} A"),
            true,
        );
        // The other side may not begin one of its own on the same ports.
        expect(&mut lab, At::Pod, &format!("tcp {web} > {client} S"), false);
        expect(&mut lab, At::Pod, &format!("tcp {web} > {client} A"), true);
        let (pod, dns) = (at(pod, 5000), at(peer, 53));
        expect(
            &mut lab,
            At::NodeToPod,
            &format!("udp {dns} > {pod}"),
            false,
        );
        expect(&mut lab, At::Pod, &format!("udp {pod} > {dns}"), true);
        expect(&mut lab, At::NodeToPod, &format!("udp {dns} > {pod}"), true);
        expect(&mut lab, At::Pod, &format!("tcp {pod} > {dns} S"), false);
    }
    let (ingress, egress) = (Counter::DropPolicyIngress, Counter::DropPolicyEgress);
    assert_eq!((lab.counter(ingress), lab.counter(egress)), (4, 6));
}

#[test]
fn the_node_always_reaches_its_pods_and_nobody_else_a_closed_one() {
    for flags in [0, ENDPOINT_CLOSED] {
        let mut lab = lab(INGRESS, EGRESS, flags);
        expect(
            &mut lab,
            At::NodeToPod,
            "tcp 172.31.0.1:4000 > 10.244.1.5:80 S",
            true,
        );
        expect(
            &mut lab,
            At::Pod,
            "tcp 10.244.1.5:80 > 172.31.0.1:4000 SA",
            true,
        );
        expect(
            &mut lab,
            At::Pod,
            "udp [fd00:10::5]:5000 > [fd00::1]:53",
            true,
        );
        expect(
            &mut lab,
            At::NodeToPod,
            "tcp 10.244.2.7:4000 > 10.244.1.5:80 S",
            false,
        );
        expect(
            &mut lab,
            At::Pod,
            "udp [fd00:10::5]:5000 > [fd00:20::7]:53",
            false,
        );
    }
}

#[test]
fn without_a_set_everything_passes_and_a_set_that_is_not_there_lets_nothing_pass() {
    let mut free = lab(NO_SET, NO_SET, 0);
    let mut empty = lab(98, 99, 0);
    for (pod, peer) in ends() {
        for (at, packet) in [
            (
                At::NodeToPod,
                format!("tcp {} > {} S", at(peer, 4000), at(pod, 80)),
            ),
            (At::Pod, format!("udp {} > {}", at(pod, 4000), at(peer, 80))),
        ] {
            expect(&mut free, at, &packet, true);
            expect(&mut empty, at, &packet, false);
        }
        for (at, from, to) in [(At::Pod, pod, peer), (At::NodeToPod, peer, pod)] {
            expect_frame(&mut free, at, &echo(from, to, false, 1), true, "echo");
            expect_frame(&mut empty, at, &echo(from, to, false, 1), false, "echo");
        }
    }
    // What is no IP is none of policy's business.
    let mut arp = frame("udp 10.244.1.5:1 > 10.244.2.7:1");
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    expect_frame(&mut empty, At::Pod, &arp, true, "arp");
}

#[test]
fn a_tag_that_is_left_hides_nothing() {
    let mut lab = lab(NO_SET, NO_SET, 0);
    for (pod, peer) in ends() {
        for (at, from, to) in [(At::Pod, pod, peer), (At::NodeToPod, peer, pod)] {
            for tag in [[0x81, 0x00, 0, 0], [0x88, 0xa8, 0, 0]] {
                let mut tagged = echo(from, to, false, 1);
                tagged.splice(12..12, tag);
                expect_frame(&mut lab, at, &tagged, false, "a tag, and IP behind it");
            }
        }
    }
    assert_eq!(lab.counter(Counter::DropUnsupported), 8);
}

#[test]
fn audit_passes_and_counts() {
    let mut lab = lab(INGRESS, EGRESS, 0);
    verdict(&lab, (INGRESS, FRIEND), None, OUTCOME_AUDIT_DENY);
    expect(
        &mut lab,
        At::NodeToPod,
        "tcp 10.244.2.7:4000 > 10.244.1.5:80 S",
        true,
    );
    expect(
        &mut lab,
        At::NodeToPod,
        "tcp 10.244.2.7:4000 > 10.244.1.5:80 A",
        true,
    );
    assert_eq!(lab.counter(Counter::PolicyAudited), 1);
}

#[test]
fn an_echo_is_answered_and_an_answer_opens_no_other() {
    let mut lab = lab(INGRESS, EGRESS, 0);
    verdict(
        &lab,
        (EGRESS, FRIEND),
        Some((IPPROTO_ICMP, None)),
        OUTCOME_ALLOW,
    );
    for (pod, peer) in ends() {
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &echo(peer, pod, true, 5),
            false,
            "unasked",
        );
        expect_frame(
            &mut lab,
            At::Pod,
            &echo(pod, peer, false, 5),
            true,
            "request",
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &echo(peer, pod, true, 5),
            true,
            "reply",
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &echo(peer, pod, true, 6),
            false,
            "another",
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &echo(peer, pod, false, 5),
            false,
            "its own",
        );
    }
    // Without neighbour discovery nothing leaves the pod.
    let pod = "fd00:10::5".parse().unwrap();
    let solicit = ip(
        pod,
        "ff02::1:ff00:1".parse().unwrap(),
        IPPROTO_ICMPV6,
        &[135; 24],
    );
    expect_frame(&mut lab, At::Pod, &ethernet(&solicit), true, "solicitation");
    let disguised = ip(
        pod,
        "fd00:30::1".parse().unwrap(),
        IPPROTO_ICMPV6,
        &[135; 24],
    );
    expect_frame(&mut lab, At::Pod, &ethernet(&disguised), false, "disguised");
}

#[test]
fn an_error_passes_with_the_connection_it_is_about() {
    let mut lab = lab(INGRESS, EGRESS, 0);
    verdict(&lab, (EGRESS, FRIEND), None, OUTCOME_ALLOW);
    for ((pod, peer), router) in ends().zip(["172.31.0.254", "fd00::fe"]) {
        let kind = if pod.contains(':') { [1, 3] } else { [3, 1] };
        let sent = frame(&format!("udp {} > {}", at(pod, 5000), at(peer, 53)));
        let error = icmp_error(
            router.parse().unwrap(),
            pod.parse().unwrap(),
            kind,
            0,
            &sent[LINK..],
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &ethernet(&error),
            false,
            "about nothing",
        );
        expect_frame(&mut lab, At::Pod, &sent, true, "sent");
        expect_frame(&mut lab, At::NodeToPod, &ethernet(&error), true, "about it");
    }
}
