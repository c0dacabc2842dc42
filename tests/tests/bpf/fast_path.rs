//! The fast path: which packets skip the host's stack, and as what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent::lb::ebpf::entries::address as mapped;
use agent::policy::ebpf::image::Op;
use agent::policy::ebpf::maps::Maps;
use agent::sys::map::{List, Table, Trie};
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_DIRECT, CONNECTION_FORWARD, CONNECTION_PEER, CONNECTION_PLAIN,
    CONNECTION_UNTRANSLATED, CONNECTIONS_MAP, ConnectionV3, OPENING_MAP, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::fast_path::{
    FAST_DEVICES_MAP, FAST_POD, FAST_POLICED_POD, FAST_WIRE, FastDeviceV1, POD_NETWORKS_MAP,
};
use agent_abi::policy::{
    EndpointV1, NO_SET, OUTCOME_DENY, PolicyAddressV1, VERDICT_BITS, VerdictKeyV1, VerdictV1,
};
use agent_abi::settings::{HANDING_BACK, TAKEOVER_MAP};

use crate::lab::{At, Lab, address, index, network};
use crate::packet::{describe, frame};
use crate::wire;

/// A pod of this node, another, and one of another node.
const POD: [&str; 2] = ["10.244.1.5", "[fd00:10::5]"];
const OTHER: [&str; 2] = ["10.244.1.6", "[fd00:10::6]"];
const AWAY: [&str; 2] = ["10.244.2.7", "[fd00:20::7]"];
/// Kept answers are taken for true for 100 ms; a tick of a slow clock is 10 ms.
const FORGOTTEN: Duration = Duration::from_millis(120);
const OTHERS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

const NETWORK: &str = "
link add other address 02:00:00:00:00:66 type veth peer name within
link set other up
link set within up
route add 10.244.1.6 dev other
route add fd00:10::6 dev other
neigh add 10.244.1.6 lladdr 02:00:00:00:00:77 dev other
neigh add fd00:10::6 lladdr 02:00:00:00:00:77 dev other
neigh add 172.31.0.254 lladdr 02:00:00:00:00:09 dev uplink
neigh add fd00::fe lladdr 02:00:00:00:00:09 dev uplink
neigh add 10.244.1.5 lladdr 02:00:00:00:00:05 dev pod
neigh add fd00:10::5 lladdr 02:00:00:00:00:05 dev pod
";

/// Two pods and an uplink of the fast path.
pub(crate) fn lab(policed: bool) -> Lab {
    let lab = if policed { Lab::policed() } else { Lab::new() };
    network(NETWORK);
    let [a, b, c, d, e, f] = wire::DESTINATION_MAC;
    for name in ["uplink", "pod"] {
        network(&format!(
            "link set {name} address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\n"
        ));
    }
    let kind = if policed { FAST_POLICED_POD } else { FAST_POD };
    put(&lab, lab.pod, "10.244.1.5", "fd00:10::5", kind);
    put(&lab, index("other"), "10.244.1.6", "fd00:10::6", kind);
    put(&lab, lab.uplink, "::", "::", FAST_WIRE);
    let mut networks = Trie::open(&lab.pins, POD_NETWORKS_MAP).unwrap();
    for (bits, text) in [(96 + 24, "10.244.2.0"), (64, "fd00:20::")] {
        let address = address(text);
        networks.put(bits, PolicyAddressV1 { address }, 1).unwrap();
    }
    lab
}

fn put(lab: &Lab, index: u32, v4: &str, v6: &str, kind: u32) {
    let device = FastDeviceV1 {
        v4: address(v4),
        v6: address(v6),
        kind,
        mtu: 1500,
    };
    let mut table = Table::open(&lab.pins, FAST_DEVICES_MAP).unwrap();
    table.put(index, device).unwrap();
}

/// What comes of a packet, and whether it took the fast path.
#[track_caller]
fn run(lab: &mut Lab, at: At, frame: &[u8]) -> (bool, Vec<u8>) {
    let before = lab.counter(Counter::FastPath);
    let (verdict, out) = lab.run_frame(at, frame);
    let taken = lab.counter(Counter::FastPath) == before + 1;
    assert_eq!(verdict == "redirect", taken, "{verdict}");
    (taken, out)
}

fn tcp(from: &str, to: &str) -> String {
    format!("tcp {from}:4000 > {to}:80 S")
}

/// Both families: index, and where the hop count is.
const FAMILIES: [(usize, usize); 2] = [(0, 22), (1, 21)];

#[test]
fn packets_between_pods_take_it_one_hop_nearer() {
    for policed in [false, true] {
        let mut lab = lab(policed);
        for (v, hops) in FAMILIES {
            for (at, from, to, to_pod) in [
                (At::Pod, POD[v], OTHER[v], true),
                (At::Pod, POD[v], AWAY[v], false),
                (At::Uplink, AWAY[v], OTHER[v], true),
            ] {
                for protocol in ["tcp", "udp", "sctp"] {
                    let flags = if protocol == "tcp" { " S" } else { "" };
                    let text = format!("{protocol} {from}:4000 > {to}:80{flags}");
                    let sent = frame(&text);
                    let (taken, out) = run(&mut lab, at, &sent);
                    assert!(taken, "{text}");
                    assert_eq!(describe(&out), text.trim(), "checksums are right");
                    assert_eq!(out[hops], sent[hops] - 1, "{text}");
                    if to_pod {
                        assert_eq!(out[..12], [OTHERS_MAC, OWN_MAC].concat(), "{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_between_pods_is_the_stacks() {
    let mut lab = lab(true);
    for v in [0, 1] {
        let [outside, stranger] = [
            ["192.0.2.1", "198.51.100.9"],
            ["[2001:db8::1]", "[fd00:10::9]"],
        ][v];
        for (at, from, to) in [
            (At::Pod, POD[v], outside),
            (At::Uplink, outside, POD[v]),
            // Another's address.
            (At::Pod, stranger, OTHER[v]),
            (At::Pod, OTHER[v], POD[v]),
            (At::Uplink, POD[v], OTHER[v]),
            // Through the node.
            (At::Uplink, AWAY[v], AWAY[v]),
        ] {
            let text = tcp(from, to);
            assert!(!run(&mut lab, at, &frame(&text)).0, "{at:?} {text}");
        }
    }
}

#[test]
fn what_the_stack_alone_can_answer_is_left_to_it() {
    let mut lab = lab(true);
    for (v, hops) in FAMILIES {
        let whole = frame(&tcp(POD[v], OTHER[v]));
        assert!(run(&mut lab, At::Pod, &whole).0);
        for left in [0, 1] {
            let mut last = whole.clone();
            last[hops] = left;
            assert!(!run(&mut lab, At::Pod, &last).0, "{left} hops left");
        }
        let mut long = whole.clone();
        long.resize(1500 + 14, 0);
        assert!(run(&mut lab, At::Pod, &long).0);
        long.push(0);
        assert!(!run(&mut lab, At::Pod, &long).0, "too long");
        let mut elsewhere = whole.clone();
        elsewhere[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
        assert!(
            !run(&mut lab, At::Pod, &elsewhere).0,
            "for another machine of the link"
        );
    }
    // More fragments; an option.
    let mut cut = frame(&format!("udp {}:4000 > {}:80", POD[0], OTHER[0]));
    cut[20] = 0x20;
    assert!(!run(&mut lab, At::Pod, &cut).0);
    // A route's own length; of one that is not locked, what is forwarded takes no notice.
    network("route change 10.244.1.6 dev other mtu lock 1200\n");
    sleep(FORGOTTEN);
    let mut long = frame(&tcp(POD[0], OTHER[0]));
    long.resize(1200 + 14, 0);
    assert!(run(&mut lab, At::Pod, &long).0);
    long.push(0);
    assert!(!run(&mut lab, At::Pod, &long).0);
}

#[test]
fn a_packet_that_the_route_back_does_not_expect_there_is_the_stacks() {
    let mut lab = lab(true);
    let text = tcp(AWAY[0], POD[0]);
    assert!(run(&mut lab, At::Uplink, &frame(&text)).0);
    network("route add 10.244.2.0/24 dev other\n");
    sleep(FORGOTTEN);
    assert!(!run(&mut lab, At::Uplink, &frame(&text)).0);
}

#[test]
fn nothing_takes_it_while_connections_are_another_proxys_or_the_tables_are_empty() {
    let mut lab = lab(false);
    let packet = frame(&tcp(POD[0], OTHER[0]));
    let mut takeover = List::<u32>::open(&lab.pins, TAKEOVER_MAP).unwrap();
    takeover.set(0, HANDING_BACK).unwrap();
    assert!(!run(&mut lab, At::Pod, &packet).0);
    takeover.set(0, 0).unwrap();
    assert!(run(&mut lab, At::Pod, &packet).0);
    let mut table = Table::<u32, FastDeviceV1>::open(&lab.pins, FAST_DEVICES_MAP).unwrap();
    table.delete(index("other")).unwrap();
    sleep(FORGOTTEN);
    assert!(!run(&mut lab, At::Pod, &packet).0);
}

/// Closes the other pod to what comes in.
fn close(lab: &Lab) {
    let mut maps = Maps::open(&lab.pins).unwrap();
    let endpoint = EndpointV1 {
        ingress: 1,
        egress: NO_SET,
        flags: 0,
        _pad: 0,
    };
    maps.write(Op::PutEndpoint(
        (128, mapped("10.244.1.6".parse().unwrap())),
        endpoint,
    ))
    .unwrap();
    let key = VerdictKeyV1 {
        set: 1,
        identity: 0,
        protocol: 0,
        _pad: 0,
        port: [0; 2],
    };
    let value = VerdictV1 {
        rule: 1,
        outcome: OUTCOME_DENY,
        _pad: [0; 3],
    };
    maps.write(Op::PutVerdict((key, VERDICT_BITS), value))
        .unwrap();
    maps.advance().unwrap();
}

#[test]
fn the_receiving_pods_policy_is_asked_first_and_again_when_it_changes() {
    let mut lab = lab(true);
    let (begins, goes_on) = (
        frame(&tcp(POD[0], OTHER[0])),
        frame(&tcp(POD[0], OTHER[0]).replace(" S", " A")),
    );
    let from_wire = frame(&tcp(AWAY[0], OTHER[0]));
    assert!(run(&mut lab, At::Pod, &begins).0);
    assert!(run(&mut lab, At::Uplink, &from_wire).0);
    close(&lab);
    for (at, packet) in [
        (At::Pod, &begins),
        (At::Pod, &goes_on),
        (At::Uplink, &from_wire),
    ] {
        let before = lab.counter(Counter::DropPolicyIngress);
        assert_eq!(lab.run_frame(at, packet).0, "drop");
        assert_eq!(lab.counter(Counter::DropPolicyIngress), before + 1);
    }
}

/// What a table knows of connections, by who sends.
fn known(lab: &Lab, map: &'static str) -> BTreeMap<TupleV1, ConnectionV3> {
    let table = Table::open_lru(&lab.pins, map).unwrap();
    table.entries().unwrap().into_iter().collect()
}

#[test]
fn an_established_packet_between_two_pods_asks_for_its_connection_alone() {
    let alone = CONNECTION_UNTRANSLATED | CONNECTION_PLAIN | CONNECTION_PEER;
    for v in [0, 1] {
        let mut lab = lab(true);
        Maps::open(&lab.pins).unwrap().advance().unwrap();
        let text = tcp(POD[v], OTHER[v]);
        let goes_on = frame(&text.replace(" S", " A"));
        let began = Instant::now();
        assert!(run(&mut lab, At::Pod, &frame(&text)).0);
        assert_eq!(known(&lab, OPENING_MAP).len(), 2);
        let mut answer = frame(&format!("tcp {}:80 > {}:4000 SA", OTHER[v], POD[v]));
        answer[..6].copy_from_slice(&OWN_MAC);
        assert!(run(&mut lab, At::OtherPod, &answer).0);
        assert!(run(&mut lab, At::Pod, &goes_on).0);
        assert!(known(&lab, OPENING_MAP).is_empty());
        let sender = |port: u16| move |key: &&TupleV1| key.source_port == port.to_be_bytes();
        let entries = known(&lab, CONNECTIONS_MAP);
        let client = *entries.keys().find(sender(4000)).unwrap();
        let server = *entries.keys().find(sender(80)).unwrap();
        let shown = |key| (entries[key].flags, entries[key].interface);
        assert_eq!(
            shown(&client),
            (alone | CONNECTION_ANSWERED | CONNECTION_FORWARD, lab.pod)
        );
        assert_eq!(
            shown(&server),
            (
                alone | CONNECTION_ANSWERED | CONNECTION_DIRECT,
                index("other")
            )
        );
        // Services have no part in it, not even one that has got the other pod's address and port.
        lab.service(
            "tcp",
            &format!("{}:80", OTHER[v]),
            &format!("{}:8080", AWAY[v]),
        );
        let (taken, out) = run(&mut lab, At::Pod, &goes_on);
        assert!(taken);
        assert_eq!(describe(&out), text.replace(" S", " A"));
        // The other pod's policy is not asked, until a second has passed.
        let mut table =
            Table::<TupleV1, ConnectionV3>::open_lru(&lab.pins, CONNECTIONS_MAP).unwrap();
        table.delete(server).unwrap();
        assert!(run(&mut lab, At::Pod, &goes_on).0);
        // On a machine that is too busy, the second has passed.
        let is_in_time = began.elapsed() < Duration::from_millis(900);
        let is_there = |map| known(&lab, map).contains_key(&server);
        assert!(
            !is_in_time
                || ![CONNECTIONS_MAP, OPENING_MAP]
                    .iter()
                    .any(|map| is_there(map))
        );
        lab.clear();
        sleep(Duration::from_millis(1100));
        assert!(run(&mut lab, At::Pod, &goes_on).0);
        assert!(known(&lab, OPENING_MAP).contains_key(&server));
    }
}

#[test]
fn a_later_packet_is_dropped_once_the_other_pods_policy_forbids_it() {
    let mut lab = lab(true);
    let text = tcp(POD[0], OTHER[0]);
    let goes_on = frame(&text.replace(" S", " A"));
    assert!(run(&mut lab, At::Pod, &frame(&text)).0);
    assert!(run(&mut lab, At::Pod, &goes_on).0);
    close(&lab);
    for _ in 0..3 {
        assert_eq!(lab.run_frame(At::Pod, &goes_on).0, "drop");
    }
}

#[test]
fn udp_between_two_pods_asks_for_services_but_not_for_the_other_pods_policy() {
    let mut lab = lab(true);
    Maps::open(&lab.pins).unwrap().advance().unwrap();
    let packet = frame(&format!("udp {}:4000 > {}:80", POD[0], OTHER[0]));
    for _ in 0..3 {
        assert!(run(&mut lab, At::Pod, &packet).0);
    }
    let entries = known(&lab, OPENING_MAP);
    let client = entries
        .iter()
        .find(|(key, _)| key.source_port == 4000_u16.to_be_bytes());
    let flags = client.unwrap().1.flags;
    assert_eq!(flags & CONNECTION_PEER, CONNECTION_PEER);
    assert_eq!(flags & CONNECTION_PLAIN, 0);
}

#[test]
fn a_connection_that_began_through_the_stack_stays_there() {
    let mut lab = lab(true);
    // As if the host's netfilter had given the pod a connection to one of its own ports.
    let client: SocketAddr = "10.244.2.7:4000".parse().unwrap();
    let arrived = lab.run(At::NodeToPod, &format!("tcp {client} > {}:80 S", POD[0]));
    assert!(arrived.starts_with("pass"), "{arrived}");
    let answer = frame(&format!("tcp {}:80 > {client} SA", POD[0]));
    assert!(!run(&mut lab, At::Pod, &answer).0);
    let more = frame(&format!("tcp {client} > {}:80 A", POD[0]));
    assert!(!run(&mut lab, At::Uplink, &more).0);
    // One that came by the fast path is answered by it.
    let client: SocketAddr = "10.244.2.8:4000".parse().unwrap();
    let begins = frame(&format!("tcp {client} > {}:80 S", POD[0]));
    assert!(run(&mut lab, At::Uplink, &begins).0);
    let answer = frame(&format!("tcp {}:80 > {client} SA", POD[0]));
    assert!(run(&mut lab, At::Pod, &answer).0);
    let entries = known(&lab, OPENING_MAP).into_values();
    let direct = entries.filter(|entry| entry.flags & CONNECTION_DIRECT != 0);
    assert_eq!(direct.count(), 1);
}

#[test]
fn a_policy_that_changes_while_the_first_packet_waits_for_the_pods_address_costs_nothing() {
    let mut lab = lab(true);
    // A packet waits for less than a second, and the verifier's work may take longer.
    lab.programs().load_classifiers().unwrap();
    let begins = format!("tcp {}:4000 > {}:80 S", AWAY[0], POD[0]);
    assert!(run(&mut lab, At::Uplink, &frame(&begins)).0);
    Maps::open(&lab.pins).unwrap().advance().unwrap();
    // The packet comes by the pod's interface now that the address is known.
    let arrived = lab.run(At::NodeToPod, &begins);
    assert!(arrived.starts_with("pass"), "{arrived}");
    let answer = frame(&format!("tcp {}:80 > {}:4000 SA", POD[0], AWAY[0]));
    assert!(run(&mut lab, At::Pod, &answer).0);
}
