//! What pods send out of the cluster leaves under the node's address, and its answers come back.

mod icmp;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use agent::desired::egress::{Egress, Why};
use agent::egress::image::entries;
use agent::egress::maps::{EgressMap, SourceMap};
use agent::lb::ebpf::entries::address;
use agent::sys::clock;
use agent::sys::map::Table;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_PAD, CONNECTIONS_MAP, ConnectionV3, EPOCH_UNJUDGED,
    OPENING_MAP, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::egress::{EGRESS_SERVICE, EGRESS_SOURCES_MAP, EgressSourceV1};
use agent_abi::settings::{SETTING_POD_EGRESS, TAKEOVER_MAP, TAKING_OVER};
use model::Protocol;

use crate::lab::{At, Lab};
use crate::packet::frame;

/// A pod, somebody outside, and the address of the uplink: one of each family.
const ENDS: [(&str, &str, &str); 2] = [
    ("10.244.1.5:4000", "198.51.100.9:443", "172.31.0.1"),
    ("[fd00:10::5]:4000", "[2001:db8::9]:443", "fd00::1"),
];
const PROTOCOLS: [(&str, &str, &str); 3] =
    [("tcp", " S", " SA"), ("udp", "", ""), ("sctp", "", "")];
/// Networks that know pods by their own addresses.
const KEPT: [&str; 8] = [
    "10.244.0.0/16",
    "172.31.0.0/24",
    "192.0.2.0/24",
    "224.0.0.0/4",
    "fd00::/64",
    "fd00:10::/64",
    "fd00:20::/64",
    "2001:db8:5::/48",
];

fn keep(lab: &Lab, kept: &[&str]) {
    let read = |text: &&str| (text.parse().unwrap(), Why::Excluded);
    let egress = Egress {
        pods: ["10.244.1.0/24", "fd00:10::/64"]
            .map(|text| text.parse().unwrap())
            .into(),
        kept: kept.iter().map(read).collect(),
        ..Egress::default()
    };
    let mut map = EgressMap::open(&lab.pins).unwrap();
    map.follow(entries(Some(&egress))).unwrap();
}

/// Pods' packets leave under the node's address, but for what knows pods.
pub(crate) fn switch_on(lab: &Lab) {
    lab.settings(|settings| settings.flags = SETTING_POD_EGRESS);
    keep(lab, &KEPT);
    let of = |text: &str| address(text.parse().unwrap());
    let source = EgressSourceV1 {
        v4: of("172.31.0.1"),
        v6: of("fd00::1"),
    };
    let sources = BTreeMap::from([(lab.uplink, source)]);
    SourceMap::open(&lab.pins, EGRESS_SOURCES_MAP)
        .unwrap()
        .follow(sources)
        .unwrap();
}

fn lab() -> Lab {
    let lab = Lab::new();
    switch_on(&lab);
    lab
}

/// The source of a packet as text.
#[track_caller]
fn source(got: &str) -> SocketAddr {
    got.split(' ')
        .nth(2)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("`{got}`"))
}

#[track_caller]
fn expect_node(got: &str, node: &str) -> SocketAddr {
    let source = source(got);
    assert_eq!(source.ip(), node.parse::<IpAddr>().unwrap(), "{got}");
    assert!((1024..30_000).contains(&source.port()), "{got}");
    source
}

#[test]
fn a_connection_leaves_under_the_nodes_address_and_its_answers_find_the_pod() {
    for policed in [false, true] {
        let mut lab = if policed { Lab::policed() } else { Lab::new() };
        switch_on(&lab);
        for (pod, outside, node) in ENDS {
            for (protocol, first, answer) in PROTOCOLS {
                let sent = format!("{protocol} {pod} > {outside}{first}");
                // Nothing is known where the pod's packet comes in: the stack routes it.
                assert_eq!(lab.run(At::Pod, &sent), format!("pass {sent}"));
                let left = lab.run(At::Node, &sent);
                let seen_as = expect_node(&left, node);
                assert_eq!(
                    left,
                    format!("pass {protocol} {seen_as} > {outside}{first}")
                );
                let back = lab.run(
                    At::Uplink,
                    &format!("{protocol} {outside} > {seen_as}{answer}"),
                );
                let real = format!("{protocol} {outside} > {pod}{answer}");
                assert_eq!(back, format!("redirect {real}"));
                assert_eq!(lab.run(At::NodeToPod, &real), format!("pass {real}"));
                // From here on the stack has nothing to do with it.
                let more = if protocol == "tcp" { " A" } else { "" };
                assert_eq!(
                    lab.run(At::Pod, &format!("{protocol} {pod} > {outside}{more}")),
                    format!("redirect {protocol} {seen_as} > {outside}{more}"),
                );
            }
        }
        assert_eq!(lab.counter(Counter::EgressConnections), 6);
        assert_eq!(lab.counter(Counter::PacketConnections), 0);
    }
}

#[test]
fn what_knows_pods_sees_the_pods_address() {
    let mut lab = lab();
    for sent in [
        "tcp 10.244.1.5:4000 > 10.244.2.7:80 S",
        "tcp 10.244.1.5:4000 > 172.31.0.2:6443 S",
        "udp 10.244.1.5:4000 > 192.0.2.7:53",
        "udp 10.244.1.5:4000 > 224.0.0.251:5353",
        "tcp [fd00:10::5]:4000 > [fd00:20::7]:80 S",
        "udp [fd00:10::5]:4000 > [2001:db8:5::1]:53",
        // The node's own, and what no pod of this node sends.
        "tcp 172.31.0.1:4000 > 198.51.100.9:443 S",
        "tcp 10.244.2.9:4000 > 198.51.100.9:443 S",
    ] {
        assert_eq!(lab.run(At::Node, sent), format!("pass {sent}"));
    }
    // Towards another pod no uplink's address goes out, whatever the destination.
    let sent = "udp 10.244.1.5:4000 > 198.51.100.9:53";
    assert_eq!(lab.run(At::NodeToPod, sent), format!("pass {sent}"));
    assert_eq!(lab.counter(Counter::EgressConnections), 0);
}

#[test]
fn a_changed_list_is_for_connections_that_begin_then() {
    let mut lab = lab();
    let (sent, other) = (
        "udp 10.244.1.5:4000 > 192.0.2.7:53",
        "udp 10.244.1.5:4001 > 192.0.2.7:53",
    );
    assert_eq!(lab.run(At::Node, sent), format!("pass {sent}"));
    keep(&lab, &["10.244.0.0/16"]);
    let seen_as = expect_node(&lab.run(At::Node, sent), "172.31.0.1");
    keep(&lab, &KEPT);
    assert_eq!(expect_node(&lab.run(At::Node, sent), "172.31.0.1"), seen_as);
    assert_eq!(lab.run(At::Node, other), format!("pass {other}"));
}

#[test]
fn nothing_is_translated_where_it_is_off_or_there_is_no_address() {
    let mut lab = lab();
    let sent = "udp 10.244.1.5:4000 > 198.51.100.9:53";
    lab.settings(|_| {});
    assert_eq!(lab.run(At::Node, sent), format!("pass {sent}"));
    switch_on(&lab);
    let sources = BTreeMap::from([(lab.uplink, EgressSourceV1::default())]);
    SourceMap::open(&lab.pins, EGRESS_SOURCES_MAP)
        .unwrap()
        .follow(sources)
        .unwrap();
    assert_eq!(lab.run(At::Node, sent), format!("pass {sent}"));
}

#[test]
fn a_segment_that_begins_nothing_leaves_as_it_is() {
    let mut lab = lab();
    for flags in ["A", "SA", "F", "R"] {
        let sent = frame(&format!("tcp 10.244.1.5:8080 > 198.51.100.9:40000 {flags}"));
        assert_eq!(
            lab.run_frame(At::Node, &sent),
            ("pass".to_owned(), sent.clone())
        );
    }
}

#[test]
fn answers_to_who_knows_the_pods_address_leave_under_it() {
    for (pod, outside, node) in ENDS {
        for protocol in ["udp", "sctp"] {
            let mut lab = lab();
            let (asked, answer) = (
                format!("{protocol} {outside} > {pod}"),
                format!("{protocol} {pod} > {outside}"),
            );
            assert_eq!(lab.run(At::Uplink, &asked), format!("pass {asked}"));
            assert_eq!(lab.run(At::Pod, &answer), format!("redirect {answer}"));
            assert_eq!(lab.run(At::Uplink, &asked), format!("redirect {asked}"));
            assert_eq!(lab.run(At::Node, &answer), format!("pass {answer}"));
            // Who was not asked begins something.
            let mut fresh = self::lab();
            expect_node(&fresh.run(At::Node, &answer), node);
        }
    }
}

#[test]
fn who_is_answered_under_the_pods_address_anyway_takes_no_room() {
    let mut lab = lab();
    for (outside, entries) in [("10.244.2.7:4000", 0), ("198.51.100.9:4000", 2)] {
        let asked = format!("udp {outside} > 10.244.1.5:53");
        assert_eq!(lab.run(At::Uplink, &asked), format!("pass {asked}"));
        let table = Table::<TupleV1, ConnectionV3>::open_lru(&lab.pins, OPENING_MAP).unwrap();
        assert_eq!(table.entries().unwrap().len(), entries, "{outside}");
    }
}

#[test]
fn while_another_translator_hands_over_what_is_not_tcp_is_its_own() {
    let mut lab = lab();
    agent::sys::map::List::<u32>::open(&lab.pins, TAKEOVER_MAP)
        .unwrap()
        .set(0, TAKING_OVER)
        .unwrap();
    let udp = "udp 10.244.1.5:4000 > 198.51.100.9:53";
    assert_eq!(lab.run(At::Node, udp), format!("pass {udp}"));
    expect_node(
        &lab.run(At::Node, "tcp 10.244.1.5:4000 > 198.51.100.9:443 S"),
        "172.31.0.1",
    );
}

#[test]
fn a_service_with_an_endpoint_outside_is_reached_from_the_nodes_address() {
    let mut lab = lab();
    lab.service("udp", "10.96.0.10:53", "198.51.100.9:5353");
    let there = "udp 10.244.1.5:4000 > 198.51.100.9:5353";
    assert_eq!(
        lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53"),
        format!("redirect {there}")
    );
    let seen_as = expect_node(&lab.run(At::Node, there), "172.31.0.1");
    let back = "udp 198.51.100.9:5353 > 10.244.1.5:4000";
    assert_eq!(
        lab.run(At::Uplink, &format!("udp 198.51.100.9:5353 > {seen_as}")),
        format!("redirect {back}")
    );
    assert_eq!(
        lab.run(At::NodeToPod, back),
        "pass udp 10.96.0.10:53 > 10.244.1.5:4000"
    );
}

#[test]
fn no_free_port_is_a_drop_that_is_counted() {
    let mut lab = Lab::sized(65_536);
    switch_on(&lab);
    let mut table = Table::<TupleV1, ConnectionV3>::open_lru(&lab.pins, CONNECTIONS_MAP).unwrap();
    let of = |text: &str| address(text.parse().unwrap());
    for port in 1024_u16..30_000 {
        let key = TupleV1 {
            source: of("198.51.100.9"),
            destination: of("172.31.0.1"),
            source_port: 443_u16.to_be_bytes(),
            destination_port: port.to_be_bytes(),
            protocol: Protocol::Tcp.number(),
            _pad: [0; 3],
        };
        let value = ConnectionV3 {
            rewrite: TupleV1 {
                destination: of("10.244.1.77"),
                ..key
            },
            flags: CONNECTION_ANSWERED,
            service: EGRESS_SERVICE,
            last_seen: clock::monotonic_nanoseconds(),
            epoch: EPOCH_UNJUDGED,
            interface: 0,
            backend: 0,
            host_interface: 0,
            host_mac: [0; 6],
            _pad: [0; CONNECTION_PAD],
        };
        table.put(key, value).unwrap();
    }
    assert_eq!(
        lab.run(At::Node, "tcp 10.244.1.5:4000 > 198.51.100.9:443 S"),
        "drop"
    );
    assert_eq!(lab.counter(Counter::DropNoPort), 1);
    // To another address all are free.
    expect_node(
        &lab.run(At::Node, "tcp 10.244.1.5:4000 > 198.51.100.8:443 S"),
        "172.31.0.1",
    );
}

#[test]
fn connections_of_one_port_to_one_address_leave_by_different_ports() {
    let mut lab = lab();
    let mut ports = std::collections::BTreeSet::new();
    for pod in 2..200 {
        let sent = format!("udp 10.244.1.{pod}:4000 > 198.51.100.9:53");
        let seen_as = expect_node(&lab.run(At::Node, &sent), "172.31.0.1");
        assert!(ports.insert(seen_as.port()), "{seen_as} twice");
        assert_eq!(
            lab.run(At::Uplink, &format!("udp 198.51.100.9:53 > {seen_as}"))
                .replace("redirect ", ""),
            format!("udp 198.51.100.9:53 > 10.244.1.{pod}:4000"),
        );
    }
}

#[test]
fn a_connection_that_was_idle_too_long_is_decided_about_anew() {
    let mut lab = lab();
    let sent = "udp 10.244.1.5:4000 > 198.51.100.9:53";
    expect_node(&lab.run(At::Node, sent), "172.31.0.1");
    let mut table = Table::<TupleV1, ConnectionV3>::open_lru(&lab.pins, OPENING_MAP).unwrap();
    for (key, value) in table.entries().unwrap() {
        let old = value.last_seen.saturating_sub(122_000_000_000);
        table
            .put(
                key,
                ConnectionV3 {
                    last_seen: old,
                    ..value
                },
            )
            .unwrap();
    }
    keep(&lab, &["0.0.0.0/0"]);
    assert_eq!(lab.run(At::Node, sent), format!("pass {sent}"));
}
