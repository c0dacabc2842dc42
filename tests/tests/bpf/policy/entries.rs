//! Verdicts and translations in one table: who shares an entry, and who makes way for whom.

use std::collections::BTreeMap;

use agent::sys::map::Table;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_FORWARD, CONNECTION_UNTRANSLATED, CONNECTIONS_MAP,
    ConnectionV3, EPOCH_UNJUDGED, OPENING_MAP, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_TCP, IPPROTO_UDP};

use super::{EGRESS, INGRESS, OUTCOME_ALLOW, OUTCOME_DENY, POD, expect, lab, select, verdict};
use crate::lab::{At, Lab, address};

const SERVICE: &str = "10.96.0.10:80";
const BACKEND: &str = "10.244.2.7:8080";
const CLIENT: &str = "10.244.1.5:4000";

/// A node whose pod may send and receive TCP and UDP, by rules.
fn open_lab() -> Lab {
    let lab = lab(INGRESS, EGRESS, 0);
    allow(&lab);
    lab
}

fn allow(lab: &Lab) {
    for set in [INGRESS, EGRESS] {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            verdict(lab, (set, 0), Some((protocol, None)), OUTCOME_ALLOW);
        }
    }
}

fn entries(lab: &Lab, map: &'static str) -> BTreeMap<TupleV1, ConnectionV3> {
    let table = Table::open_lru(&lab.pins, map).unwrap();
    table.entries().unwrap().into_iter().collect()
}

fn of_pod(entries: &BTreeMap<TupleV1, ConnectionV3>) -> Vec<ConnectionV3> {
    let pod = address(POD[0]);
    let sent = entries.iter().filter(|(key, _)| key.source == pod);
    sent.map(|(_, value)| *value).collect()
}

/// The pod asks the Service and is answered, up to where both sides have shown that they receive.
#[track_caller]
fn ask_service(lab: &mut Lab) {
    for (at, packet, expected) in [
        (
            At::Pod,
            format!("tcp {CLIENT} > {SERVICE} S"),
            format!("redirect tcp {CLIENT} > {BACKEND} S"),
        ),
        (
            At::Uplink,
            format!("tcp {BACKEND} > {CLIENT} SA"),
            format!("redirect tcp {SERVICE} > {CLIENT} SA"),
        ),
        (
            At::NodeToPod,
            format!("tcp {SERVICE} > {CLIENT} SA"),
            format!("pass tcp {SERVICE} > {CLIENT} SA"),
        ),
        (
            At::Pod,
            format!("tcp {CLIENT} > {SERVICE} A"),
            format!("redirect tcp {CLIENT} > {BACKEND} A"),
        ),
    ] {
        assert_eq!(lab.run(at, &packet), expected);
    }
}

#[test]
fn a_connection_to_a_service_has_its_verdict_in_the_entry_that_translates_it() {
    let mut lab = open_lab();
    lab.service("tcp", SERVICE, BACKEND);
    ask_service(&mut lab);
    assert!(entries(&lab, OPENING_MAP).is_empty());
    let all = entries(&lab, CONNECTIONS_MAP);
    assert_eq!(all.len(), 2, "{all:#?}");
    let [sent] = of_pod(&all)[..] else {
        panic!("{all:#?}");
    };
    assert_eq!(sent.flags, CONNECTION_FORWARD | CONNECTION_ANSWERED);
    assert_eq!(sent.rewrite.destination, address("10.244.2.7"));
    assert_ne!(sent.epoch, EPOCH_UNJUDGED);
    assert_eq!(sent.interface, lab.pod);
    // What is said of it later is said there, too.
    verdict(&lab, (EGRESS, 0), Some((IPPROTO_TCP, None)), OUTCOME_DENY);
    expect(
        &mut lab,
        At::Pod,
        &format!("tcp {CLIENT} > {SERVICE} A"),
        false,
    );
    assert_eq!(entries(&lab, CONNECTIONS_MAP).len(), 2);
}

#[test]
fn the_pods_of_both_ends_keep_their_verdicts_when_the_connection_works() {
    let mut lab = open_lab();
    lab.service("tcp", "172.31.0.1:30080", "10.244.1.5:80");
    let client = "172.31.9.9:4000";
    for (at, packet) in [
        (At::Uplink, format!("tcp {client} > 172.31.0.1:30080 S")),
        (At::NodeToPod, format!("tcp {client} > 10.244.1.5:80 S")),
        (At::Pod, format!("tcp 10.244.1.5:80 > {client} SA")),
        (At::Uplink, format!("tcp {client} > 172.31.0.1:30080 A")),
    ] {
        expect(&mut lab, at, &packet, true);
    }
    let all = entries(&lab, CONNECTIONS_MAP);
    let [answers] = of_pod(&all)[..] else {
        panic!("{all:#?}");
    };
    assert_eq!(answers.flags, CONNECTION_ANSWERED);
    assert_ne!(answers.epoch, EPOCH_UNJUDGED, "it was judged as it began");
}

#[test]
fn a_connection_past_every_service_makes_way_for_a_translation() {
    for protocol in ["tcp", "udp"] {
        let mut lab = open_lab();
        let (begins, answers, goes_on) = match protocol {
            "tcp" => (" S", " SA", " A"),
            _ => ("", "", ""),
        };
        // Somebody has the address before the Service does.
        for (at, packet) in [
            (At::Pod, format!("{protocol} {CLIENT} > {SERVICE}{begins}")),
            (
                At::NodeToPod,
                format!("{protocol} {SERVICE} > {CLIENT}{answers}"),
            ),
            (At::Pod, format!("{protocol} {CLIENT} > {SERVICE}{goes_on}")),
        ] {
            assert_eq!(lab.run(at, &packet), format!("pass {packet}"));
        }
        let all = entries(&lab, CONNECTIONS_MAP);
        let [before] = of_pod(&all)[..] else {
            panic!("{all:#?}");
        };
        let expected = CONNECTION_UNTRANSLATED | CONNECTION_FORWARD | CONNECTION_ANSWERED;
        assert_eq!(before.flags & expected, expected);
        lab.service(protocol, SERVICE, BACKEND);
        let first = format!("{protocol} {CLIENT} > {SERVICE}{begins}");
        let translated = format!("redirect {protocol} {CLIENT} > {BACKEND}{begins}");
        for _ in 0..2 {
            assert_eq!(lab.run(At::Pod, &first), translated);
        }
        let answer = format!("{protocol} {BACKEND} > {CLIENT}{answers}");
        assert_eq!(
            lab.run(At::Uplink, &answer),
            format!("redirect {protocol} {SERVICE} > {CLIENT}{answers}")
        );
        assert!(
            of_pod(&entries(&lab, CONNECTIONS_MAP))
                .iter()
                .all(|entry| { entry.flags & CONNECTION_UNTRANSLATED == 0 })
        );
    }
}

#[test]
fn a_client_may_speak_to_a_pod_and_by_its_service_from_one_port() {
    let mut lab = open_lab();
    lab.service("udp", "172.31.0.1:30080", "10.244.1.5:80");
    let client = "172.31.9.9:4000";
    let to_pod = format!("udp {client} > 10.244.1.5:80");
    let from_pod = format!("udp 10.244.1.5:80 > {client}");
    // To the pod itself, both ways.
    for (at, packet) in [(At::NodeToPod, &to_pod), (At::Pod, &from_pod)] {
        assert_eq!(lab.run(at, packet), format!("pass {packet}"));
    }
    // By the Service: the answers come from it now.
    assert_eq!(
        lab.run(At::Uplink, &format!("udp {client} > 172.31.0.1:30080")),
        format!("redirect {to_pod}")
    );
    assert_eq!(lab.run(At::NodeToPod, &to_pod), format!("pass {to_pod}"));
    assert_eq!(
        lab.run(At::Pod, &from_pod),
        format!("redirect udp 172.31.0.1:30080 > {client}")
    );
    assert_eq!(lab.counter(Counter::DropPolicyEgress), 0);
}

#[test]
fn a_flood_that_policy_lets_pass_drives_out_no_connection_that_works() {
    const SIZE: u32 = 2048;
    let mut lab = Lab::policed_sized(SIZE);
    select(&lab, INGRESS, EGRESS, 0);
    // What others begin may come in; the pod begins nothing, so its answers pass by their entries alone.
    verdict(&lab, (INGRESS, 0), Some((IPPROTO_TCP, None)), OUTCOME_ALLOW);
    let works = |number: u32| format!("10.50.{}.{}:4000", number / 250, number % 250 + 1);
    // Half of what the table is sure to hold.
    let working: Vec<String> = (0..SIZE / 4).map(works).collect();
    for client in &working {
        expect(
            &mut lab,
            At::NodeToPod,
            &format!("tcp {client} > 10.244.1.5:80 S"),
            true,
        );
        expect(
            &mut lab,
            At::Pod,
            &format!("tcp 10.244.1.5:80 > {client} SA"),
            true,
        );
        expect(
            &mut lab,
            At::NodeToPod,
            &format!("tcp {client} > 10.244.1.5:80 A"),
            true,
        );
    }
    for number in 0..5 * SIZE {
        let [.., b, c, d] = number.to_be_bytes();
        let packet = format!("tcp 11.{b}.{c}.{d}:4000 > 10.244.1.5:80 S");
        expect(&mut lab, At::NodeToPod, &packet, true);
    }
    for client in &working {
        expect(
            &mut lab,
            At::Pod,
            &format!("tcp 10.244.1.5:80 > {client} A"),
            true,
        );
    }
}
