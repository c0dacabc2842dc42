//! New and established connections, both directions.

use agent::sys::map::Table;
use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, OPENING_MAP, TupleV1};
use agent_abi::counters::Counter;
use expect_test::expect;

use crate::lab::{At, Lab};

#[test]
fn pod_reaches_remote_backend_and_gets_the_reply_from_the_service() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53", "10.244.2.7:5353");
    expect!["redirect udp 10.244.1.5:4000 > 10.244.2.7:5353"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53"));
    expect!["redirect udp 10.96.0.10:53 > 10.244.1.5:4000"]
        .assert_eq(&lab.run(At::Uplink, "udp 10.244.2.7:5353 > 10.244.1.5:4000"));
}

#[test]
fn tcp_and_ipv6_are_translated_alike() {
    let mut lab = Lab::new();
    lab.service("tcp", "[fd00:96::10]:80", "[fd00:20::7]:8080");
    expect!["redirect tcp [fd00:10::5]:4000 > [fd00:20::7]:8080 S"]
        .assert_eq(&lab.run(At::Pod, "tcp [fd00:10::5]:4000 > [fd00:96::10]:80 S"));
    expect!["redirect tcp [fd00:96::10]:80 > [fd00:10::5]:4000 SA"]
        .assert_eq(&lab.run(At::Uplink, "tcp [fd00:20::7]:8080 > [fd00:10::5]:4000 SA"));
}

#[test]
fn a_connection_stays_with_its_backend() {
    let mut lab = Lab::new();
    lab.service(
        "tcp",
        "10.96.0.10:80",
        "10.244.2.1:80 10.244.2.2:80 10.244.2.3:80 10.244.2.4:80",
    );
    let first = lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S");
    for _ in 0..16 {
        let again = lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 A");
        assert_eq!(again.replace(" A", " S"), first);
    }
    assert_eq!(lab.counter(Counter::PacketConnections), 1);
}

#[test]
fn connections_spread_over_all_backends() {
    let mut lab = Lab::new();
    lab.service(
        "tcp",
        "10.96.0.10:80",
        "10.244.2.1:80 10.244.2.2:80 10.244.2.3:80 10.244.2.4:80",
    );
    let mut seen = std::collections::BTreeMap::new();
    for port in 10_000..10_400 {
        let packet = lab.run(At::Pod, &format!("tcp 10.244.1.5:{port} > 10.96.0.10:80 S"));
        let backend = packet.split(" > ").nth(1).unwrap().to_owned();
        *seen.entry(backend).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    // 400 throws of a four-sided die: below 60 for one side is five standard deviations away.
    assert!(seen.values().all(|count| *count > 60), "{seen:?}");
}

#[test]
fn udp_flow_moves_on_the_very_packet_when_its_backend_is_gone() {
    let mut lab = Lab::new();
    let old = lab.service("udp", "10.96.0.10:53", "10.244.2.7:53");
    // One alone would leave no trace but for its answer.
    for _ in 0..2 {
        expect!["redirect udp 10.244.1.5:4000 > 10.244.2.7:53"]
            .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53"));
    }
    lab.set_backends(old, "");
    lab.service("udp", "10.96.0.10:53", "10.244.2.8:53");
    expect!["redirect udp 10.244.1.5:4000 > 10.244.2.8:53"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53"));
    assert_eq!(lab.counter(Counter::FlowsRebalanced), 1);
}

#[test]
fn tcp_connection_outlives_its_backends_entry_and_a_new_one_does_not_follow_it() {
    let mut lab = Lab::new();
    let old = lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S");
    lab.run(At::Uplink, "tcp 10.244.2.7:80 > 10.244.1.5:4000 SA");
    lab.set_backends(old, "");
    lab.service("tcp", "10.96.0.10:80", "10.244.2.8:80");
    expect!["redirect tcp 10.244.1.5:4000 > 10.244.2.7:80 A"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 A"));
    expect!["redirect tcp 10.244.1.5:4000 > 10.244.2.8:80 S"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S"));
}

const FOUR: &str = "10.244.2.1:80 10.244.2.2:80 10.244.2.3:80 10.244.2.4:80";

#[test]
fn what_is_sent_again_before_an_answer_goes_where_the_first_went() {
    for (protocol, flags) in [("tcp", " S"), ("udp", ""), ("sctp", "")] {
        let mut lab = Lab::new();
        lab.service(protocol, "10.96.0.10:80", FOUR);
        for port in 10_000..10_050 {
            let packet = format!("{protocol} 10.244.1.5:{port} > 10.96.0.10:80{flags}");
            let first = lab.run(At::Pod, &packet);
            for _ in 0..3 {
                assert_eq!(lab.run(At::Pod, &packet), first);
            }
        }
        assert_eq!(lab.counter(Counter::PacketConnections), 50);
    }
}

/// A client whose first packet goes to a backend, and to another one of a larger set.
fn torn(lab: &mut Lab, protocol: &str, flags: &str) -> (String, String, String) {
    for port in 10_000_u16.. {
        let client = format!("10.244.1.5:{port}");
        let packet = format!("{protocol} {client} > 10.96.0.10:80{flags}");
        let id = lab.service(protocol, "10.96.0.10:80", "10.244.2.1:80");
        let first = lab.run(At::Pod, &packet);
        lab.set_backends(id, FOUR);
        let second = lab.run(At::Pod, &packet);
        if first != second {
            let backend = |translated: &str| {
                let to = translated.split(" > ").nth(1).unwrap();
                to.split(' ').next().unwrap().to_owned()
            };
            return (client, backend(&first), backend(&second));
        }
        lab.clear();
    }
    unreachable!("three in four move");
}

#[test]
fn the_backend_that_answers_first_has_the_connection() {
    for (is_the_first, policed) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut lab = if policed { Lab::policed() } else { Lab::new() };
        let (client, a, b) = torn(&mut lab, "tcp", " S");
        let (winner, loser) = if is_the_first { (&a, &b) } else { (&b, &a) };
        let answer =
            |lab: &mut Lab, from: &str| lab.run(At::Uplink, &format!("tcp {from} > {client} SA"));
        let translated = format!("redirect tcp 10.96.0.10:80 > {client} SA");
        assert_eq!(answer(&mut lab, winner), translated);
        assert_eq!(
            answer(&mut lab, loser),
            format!("pass tcp {loser} > {client} SA")
        );
        for flags in ["A", "S", "A"] {
            assert_eq!(
                lab.run(At::Pod, &format!("tcp {client} > 10.96.0.10:80 {flags}")),
                format!("redirect tcp {client} > {winner} {flags}")
            );
        }
        assert_eq!(
            answer(&mut lab, loser),
            format!("pass tcp {loser} > {client} SA")
        );
        assert_eq!(answer(&mut lab, winner), translated);
    }
}

#[test]
fn a_syn_of_a_connection_that_works_harms_it_in_no_set() {
    let mut lab = Lab::new();
    let id = lab.service("tcp", "10.96.0.10:80", "10.244.2.1:80");
    let clients: Vec<String> = (10_000..10_020)
        .map(|port| format!("10.244.1.5:{port}"))
        .collect();
    let from = |client: &str, flags: &str| format!("tcp {client} > 10.96.0.10:80 {flags}");
    let works = |lab: &mut Lab, client: &str| {
        assert_eq!(
            lab.run(At::Pod, &from(client, "A")),
            format!("redirect tcp {client} > 10.244.2.1:80 A")
        );
        assert_eq!(
            lab.run(At::Uplink, &format!("tcp 10.244.2.1:80 > {client} A")),
            format!("redirect tcp 10.96.0.10:80 > {client} A")
        );
    };
    for client in &clients {
        lab.run(At::Pod, &from(client, "S"));
        lab.run(At::Uplink, &format!("tcp 10.244.2.1:80 > {client} SA"));
        works(&mut lab, client);
    }
    lab.set_backends(id, FOUR);
    for client in &clients {
        let first = lab.run(At::Pod, &from(client, "S"));
        let to = first
            .split(" > ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        if to != "10.244.2.1:80" {
            let answer = format!("tcp {to} > {client} SA");
            assert_eq!(lab.run(At::Uplink, &answer), format!("pass {answer}"));
        }
        assert_eq!(
            lab.run(At::Pod, &from(client, "S")),
            format!("redirect tcp {client} > 10.244.2.1:80 S")
        );
        works(&mut lab, client);
    }
}

#[test]
fn a_closed_tuple_used_again_goes_by_the_set_of_now() {
    let mut lab = Lab::new();
    let id = lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    let out = |flags: &str| format!("tcp 10.244.1.5:4000 > 10.96.0.10:80 {flags}");
    let back = |from: &str, flags: &str| format!("tcp {from} > 10.244.1.5:4000 {flags}");
    for backend in ["10.244.2.7:80", "10.244.2.7:80", "10.244.2.8:80"] {
        lab.set_backends(id, backend);
        for flags in ["S", "A", "FA"] {
            assert_eq!(
                lab.run(At::Pod, &out(flags)),
                format!("redirect tcp 10.244.1.5:4000 > {backend} {flags}")
            );
            assert_eq!(
                lab.run(At::Uplink, &back(backend, "SA")),
                "redirect tcp 10.96.0.10:80 > 10.244.1.5:4000 SA"
            );
        }
    }
    assert_eq!(lab.counter(Counter::PacketConnections), 3);
}

#[test]
fn a_closed_tuple_used_again_is_is_a_new_connection() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    for flags in ["S", "A", "FA", "S"] {
        lab.run(
            At::Pod,
            &format!("tcp 10.244.1.5:4000 > 10.96.0.10:80 {flags}"),
        );
    }
    assert_eq!(lab.counter(Counter::PacketConnections), 2);
}

#[test]
fn one_backend_behind_two_services_keeps_the_connections_apart() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53", "10.244.2.7:53");
    lab.service("udp", "10.96.0.11:53", "10.244.2.7:53");
    expect!["redirect udp 10.244.1.5:4000 > 10.244.2.7:53"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53"));
    let second = lab.run(At::Pod, "udp 10.244.1.5:4000 > 10.96.0.11:53");
    let moved = second
        .strip_prefix("redirect udp ")
        .unwrap()
        .strip_suffix(" > 10.244.2.7:53")
        .unwrap();
    assert_ne!(
        moved, "10.244.1.5:4000",
        "the second connection needs a source port of its own"
    );
    assert_eq!(
        lab.run(At::Uplink, &format!("udp 10.244.2.7:53 > {moved}")),
        "redirect udp 10.96.0.11:53 > 10.244.1.5:4000"
    );
    expect!["redirect udp 10.96.0.10:53 > 10.244.1.5:4000"]
        .assert_eq(&lab.run(At::Uplink, "udp 10.244.2.7:53 > 10.244.1.5:4000"));
}

#[test]
fn the_node_itself_reaches_remote_and_local_backends() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53", "10.244.2.7:53");
    lab.service("udp", "10.96.0.11:53", "10.244.1.5:53");
    expect!["redirect udp 172.31.0.1:4000 > 10.244.2.7:53"]
        .assert_eq(&lab.run(At::Node, "udp 172.31.0.1:4000 > 10.96.0.10:53"));
    expect!["pass udp 10.96.0.10:53 > 172.31.0.1:4000"]
        .assert_eq(&lab.run(At::Uplink, "udp 10.244.2.7:53 > 172.31.0.1:4000"));
    expect!["redirect udp 172.31.0.1:4001 > 10.244.1.5:53"]
        .assert_eq(&lab.run(At::Node, "udp 172.31.0.1:4001 > 10.96.0.11:53"));
    expect!["redirect udp 10.96.0.11:53 > 172.31.0.1:4001"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:53 > 172.31.0.1:4001"));
}

#[test]
fn a_backend_in_the_hosts_network_answers_pods_with_the_services_address() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.1:443", "172.31.0.1:6443");
    expect!["pass tcp 10.244.1.5:4000 > 172.31.0.1:6443 S"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.1:443 S"));
    expect!["pass tcp 10.96.0.1:443 > 10.244.1.5:4000 SA"]
        .assert_eq(&lab.run(At::NodeToPod, "tcp 172.31.0.1:6443 > 10.244.1.5:4000 SA"));
}

#[test]
fn traffic_to_no_service_passes_untouched() {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53", "10.244.2.7:53");
    for (at, packet) in [
        (At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:54"),
        (At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:53 S"),
        (At::Uplink, "udp 10.244.2.7:53 > 10.244.1.5:4000"),
        (At::Node, "tcp [fd00::1]:4000 > [fd00:96::10]:53 S"),
    ] {
        assert_eq!(lab.run(at, packet), format!("pass {packet}"));
    }
}

/// Makes every connection one that was silent for so many seconds more.
#[track_caller]
pub(crate) fn silent(lab: &Lab, seconds: u64) {
    for name in [CONNECTIONS_MAP, OPENING_MAP] {
        let mut table = Table::<TupleV1, ConnectionV3>::open_lru(&lab.pins, name).unwrap();
        for (key, mut value) in table.entries().unwrap() {
            value.last_seen = value.last_seen.saturating_sub(seconds * 1_000_000_000);
            table.put(key, value).unwrap();
        }
    }
}

#[test]
fn a_tcp_connection_that_was_silent_for_too_long_gives_up_its_port() {
    for (seconds, is_free) in [(1, true), (60, false)] {
        let mut lab = Lab::new();
        lab.settings(|settings| settings.tcp_seconds = seconds);
        lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
        lab.service("tcp", "10.96.0.11:80", "10.244.2.7:80");
        lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S");
        lab.run(At::Uplink, "tcp 10.244.2.7:80 > 10.244.1.5:4000 SA");
        lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 A");
        silent(&lab, 2);
        // The same port of the same backend, by way of another Service.
        let second = lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.11:80 S");
        let kept = second == "redirect tcp 10.244.1.5:4000 > 10.244.2.7:80 S";
        assert_eq!(kept, is_free, "{seconds} s: {second}");
    }
}

#[test]
fn a_tcp_connection_that_has_ended_holds_its_port_for_as_long_as_is_asked() {
    for (seconds, is_free) in [(1, true), (60, false)] {
        let mut lab = Lab::new();
        lab.settings(|settings| settings.tcp_closing_seconds = seconds);
        lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
        lab.service("tcp", "10.96.0.11:80", "10.244.2.7:80");
        let first = |flags: &str| format!("tcp 10.244.1.5:4000 > 10.96.0.10:80 {flags}");
        let answer = |flags: &str| format!("tcp 10.244.2.7:80 > 10.244.1.5:4000 {flags}");
        lab.run(At::Pod, &first("S"));
        lab.run(At::Uplink, &answer("SA"));
        lab.run(At::Pod, &first("A"));
        lab.run(At::Pod, &first("FA"));
        lab.run(At::Uplink, &answer("FA"));
        silent(&lab, 2);
        // The same port of the same backend, by way of another Service.
        let second = lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.11:80 S");
        let kept = second == "redirect tcp 10.244.1.5:4000 > 10.244.2.7:80 S";
        assert_eq!(kept, is_free, "{seconds} s: {second}");
    }
}
