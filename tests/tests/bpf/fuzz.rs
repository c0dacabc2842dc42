//! Packets that nobody should send, by the ten thousand: whatever comes, the programs run, answer
//! with a verdict, leave alone what they let pass, and send on nothing worse than they got.
//!
//! `FAIRLEAD_FUZZ_SEED` repeats a run, `FAIRLEAD_FUZZ_ROUNDS` sets its length.

mod jumbo;

use std::net::SocketAddr;

use agent_abi::counters::Counter;

use crate::lab::{At, Lab, set_direct, set_nodes};
use crate::wire::junk::{self, hex, setting};
use crate::wire::{LINK, Xorshift, ethernet, ip, is_valid, repair};
use crate::{edge, egress, fast_path, policy, segments};

/// About five seconds in a debug build.
const ROUNDS: u32 = 15_000;
/// The kernel's test run takes no packet without a network header, and none that does not fit one
/// page with an skb's own fields (`bpf_test_init`, net/bpf/test_run.c): 3.6 KiB of 4.
const SHORTEST: usize = LINK + 40;
const LONGEST: usize = 3600;
/// Of XDP it leaves room for 256 bytes before the packet (`bpf_prog_test_run_xdp`).
const LONGEST_OF_EDGE: usize = 3500;

const EVERYWHERE: [At; 4] = [At::Uplink, At::Pod, At::Node, At::NodeToPod];

/// Ends of packets that a service, a connection or nobody knows.
const ENDS_V4: [&str; 10] = [
    "10.244.1.5:4000",
    "10.96.0.10:80",
    "10.96.0.11:80",
    "10.244.2.7:8080",
    "172.31.9.9:4000",
    "172.31.0.1:30080",
    "203.0.113.5:80",
    "172.31.0.2:4000",
    "10.244.1.6:8080",
    "198.51.100.9:443",
];
const ENDS_V6: [&str; 10] = [
    "[fd00:10::5]:4000",
    "[fd00:96::10]:80",
    "[fd00:96::11]:80",
    "[fd00:20::7]:8080",
    "[fd00::99]:4000",
    "[fd00::1]:30080",
    "[fd00:1b::5]:80",
    "[fd00::2]:4000",
    "[fd00:10::6]:8080",
    "[2001:db8::9]:443",
];

/// A node with everything on: two pods of the fast path, what pods send out of the cluster under the
/// node's address, and network policy where `policed`. With services of every protocol and both
/// families: with an endpoint elsewhere, here and none, on a node port, and with direct return.
fn lab(policed: bool) -> Lab {
    let mut lab = fast_path::lab(policed);
    egress::switch_on(&lab);
    if policed {
        policy::police(&lab);
    }
    serve(&mut lab);
    lab
}

fn serve(lab: &mut Lab) {
    for protocol in ["tcp", "udp", "sctp"] {
        for [_, first, second, there, _, node_port, balancer, node, ..] in [ENDS_V4, ENDS_V6] {
            let here = ENDS_V4[0].replace(":4000", ":8080");
            let here = if first.starts_with('[') {
                ENDS_V6[0].replace(":4000", ":8080")
            } else {
                here
            };
            lab.service(protocol, first, &format!("{here} {there}"));
            lab.service(protocol, second, "");
            lab.service(protocol, node_port, there);
            let node: SocketAddr = node.parse().unwrap();
            lab.service_with(protocol, balancer, there, |unit| {
                set_direct(unit, true);
                set_nodes(unit, |_| Some(node.ip()));
            });
        }
    }
}

/// Of payloads in test runs: none, some, and longer than an Ethernet frame has.
const PAYLOADS: [usize; 4] = [0, 16, 1400, 3300];

/// A valid frame of some kind between some ends.
fn seed(random: &mut Xorshift) -> Vec<u8> {
    let longest = PAYLOADS[random.below(4)];
    seed_of(random, longest)
}

/// The same, with a payload of so many bytes at the most.
fn seed_of(random: &mut Xorshift, longest: usize) -> Vec<u8> {
    let ends = [ENDS_V4, ENDS_V6][random.below(2)];
    let mut end = || -> SocketAddr { ends[random.below(ends.len())].parse().unwrap() };
    let [.., node, _, other, _, _] = ends;
    let ip = |text: &str| text.parse::<SocketAddr>().unwrap().ip();
    let between = junk::Ends {
        source: end(),
        destination: end(),
        tunnel: (ip(other), ip(node)),
    };
    let payload = vec![0x5a; random.below(longest + 1) & !3];
    ethernet(&junk::packet(random, &between, &payload))
}

fn mutate(random: &mut Xorshift, frame: &mut Vec<u8>) {
    junk::mutate(random, frame, SHORTEST..=LONGEST, seed);
}

/// What the programs count of what they change and let the stack have.
const CHANGED: [Counter; 3] = [
    Counter::PacketsTranslated,
    Counter::ErrorsTranslated,
    Counter::TunnelReceived,
];

fn changed(lab: &Lab) -> u64 {
    CHANGED.iter().map(|counter| lab.counter(*counter)).sum()
}

#[test]
fn no_packet_breaks_a_program_or_comes_out_worse_than_it_went_in() {
    send_junk(false, &[Counter::PacketsTranslated]);
}

#[test]
fn no_packet_breaks_a_program_with_policy_or_comes_out_worse_than_it_went_in() {
    let decided = [Counter::DropPolicyIngress, Counter::DropPolicyEgress];
    send_junk(true, &decided);
}

/// Every counter of `reached` has to move, beside those of what is on anyway.
fn send_junk(policed: bool, reached: &[Counter]) {
    let seed_of_run = setting("FAIRLEAD_FUZZ_SEED", 1);
    let mut random = Xorshift::new(seed_of_run.into());
    let mut lab = lab(policed);
    let mut before = changed(&lab);
    for round in 0..setting("FAIRLEAD_FUZZ_ROUNDS", ROUNDS) {
        let mut sent = seed(&mut random);
        mutate(&mut random, &mut sent);
        let at = EVERYWHERE[random.below(EVERYWHERE.len())];
        let (verdict, got) = lab.run_frame(at, &sent);
        let after = changed(&lab);
        let is_right = match verdict.as_str() {
            "drop" => true,
            "pass" if after == before => got == sent,
            _ => !is_valid(&sent) || is_valid(&got),
        };
        assert!(
            is_right,
            "FAIRLEAD_FUZZ_SEED={seed_of_run}, round {round}: {at:?} {verdict}\n{}\n{}",
            hex(&sent),
            hex(&got)
        );
        before = after;
    }
    let everywhere = [
        Counter::PacketConnections,
        Counter::FastPath,
        Counter::EgressConnections,
        Counter::TunnelSent,
    ];
    for counter in everywhere.iter().chain(reached) {
        assert!(lab.counter(*counter) > 0, "{counter:?}: not one packet");
    }
}

#[test]
fn no_packet_breaks_the_edge_or_comes_out_worse_than_it_went_in() {
    let seed_of_run = setting("FAIRLEAD_FUZZ_SEED", 1);
    let mut random = Xorshift::new(seed_of_run.into());
    let mut node = edge::Node::new();
    serve(&mut node.lab);
    for protocol in ["tcp", "udp"] {
        // The choice is by the packet, so the edge makes it before anybody else has.
        for (frontend, backend) in [
            ("198.51.100.9:443", "10.244.2.7:8080"),
            ("[2001:db8::9]:443", "[fd00:20::7]:8080"),
        ] {
            node.lab
                .service_with(protocol, frontend, backend, edge::direct);
        }
    }
    for round in 0..setting("FAIRLEAD_FUZZ_ROUNDS", ROUNDS) {
        let mut sent = seed(&mut random);
        mutate(&mut random, &mut sent);
        sent.truncate(LONGEST_OF_EDGE);
        let (verdict, got) = node.run(&sent);
        let is_right = match verdict {
            "drop" => true,
            "pass" => got == sent,
            _ => !is_valid(&sent) || is_valid(&got),
        };
        assert!(
            is_right,
            "FAIRLEAD_FUZZ_SEED={seed_of_run}, round {round}: {verdict}\n{}\n{}",
            hex(&sent),
            hex(&got)
        );
        // Now and then the stack's programs have it too, so that there are entries to meet.
        if round % 4 == 0 {
            node.lab.run_frame(At::Uplink, &sent);
        }
    }
    assert!(node.lab.counter(Counter::XdpSent) > 0, "not one was sent");
}

#[test]
fn no_packet_breaks_what_looks_at_a_tunnels_bare_packets_or_comes_out_worse() {
    let seed_of_run = setting("FAIRLEAD_FUZZ_SEED", 1);
    let mut random = Xorshift::new(seed_of_run.into());
    let mut lab = segments::overlay();
    let syn = segments::segment(
        "10.244.1.5:4000",
        "10.244.2.7:80",
        "S",
        &[1, 1, 2, 4, segments::ASKED[0], segments::ASKED[1], 1, 1],
    );
    for round in 0..setting("FAIRLEAD_FUZZ_ROUNDS", ROUNDS) {
        let mut sent = if random.below(2) == 0 {
            syn.clone()
        } else {
            seed(&mut random)
        };
        mutate(&mut random, &mut sent);
        let (verdict, bare) = lab.run_frame(At::Bare, &sent[LINK..]);
        let got = [&sent[..LINK], &bare].concat();
        assert!(
            verdict == "pass" && (!is_valid(&sent) || is_valid(&got)),
            "FAIRLEAD_FUZZ_SEED={seed_of_run}, round {round}: {verdict}\n{}\n{}",
            hex(&sent),
            hex(&got)
        );
    }
    assert!(lab.counter(Counter::SegmentsClamped) > 0, "not one SYN");
}

#[test]
fn every_seed_is_valid_before_it_is_mutated() {
    let mut random = Xorshift::new(1);
    for _ in 0..2000 {
        let packet = seed(&mut random);
        assert!(is_valid(&packet), "{}", hex(&packet));
        assert!(packet.len() <= LONGEST, "{}", packet.len());
    }
    // A checker that lets everything pass would find nothing.
    let ends = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut wrong = ethernet(&ip(
        ends(ENDS_V4[0]).ip(),
        ends(ENDS_V4[1]).ip(),
        17,
        &[0x0f, 0xa0, 0, 80, 0, 8, 1, 1],
    ));
    assert!(!is_valid(&wrong));
    repair(&mut wrong[LINK..]);
    assert!(is_valid(&wrong));
}
