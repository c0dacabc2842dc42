//! What becomes of connections that policy has let through, and of those that are translated.

use std::time::Duration;

use agent::policy::ebpf::image::Op;
use agent_abi::policy::{EndpointV1, NO_SET, OUTCOME_ALLOW};
use agent_abi::settings::SETTING_MASQUERADE_ALL;
use agent_abi::{IPPROTO_TCP, IPPROTO_UDP};
use tests::harness::poll;

use super::{EGRESS, FRIEND, INGRESS, POD, at, ends, expect, expect_frame, lab, verdict, write};
use crate::lab::{At, address};
use crate::packet::frame;
use crate::pieces::cut;
use crate::wire::{ethernet, udp};

#[test]
fn a_service_is_judged_by_its_backend_and_answers() {
    let mut lab = lab(INGRESS, EGRESS, 0);
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:8080");
    lab.service("tcp", "10.96.0.11:80", "10.244.2.8:8080");
    lab.service("udp", "10.96.0.12:53", "");
    verdict(
        &lab,
        (EGRESS, FRIEND),
        Some((IPPROTO_TCP, Some(8080))),
        OUTCOME_ALLOW,
    );
    expect(
        &mut lab,
        At::Pod,
        "tcp 10.244.1.5:4000 > 10.96.0.11:80 S",
        false,
    );
    expect(
        &mut lab,
        At::Pod,
        "tcp 10.244.1.5:4000 > 10.96.0.10:80 S",
        true,
    );
    expect(
        &mut lab,
        At::NodeToPod,
        "tcp 10.96.0.10:80 > 10.244.1.5:4000 SA",
        true,
    );
    expect(
        &mut lab,
        At::NodeToPod,
        "tcp 10.96.0.11:80 > 10.244.1.5:4000 SA",
        false,
    );
    expect(
        &mut lab,
        At::Pod,
        "tcp 10.244.1.5:4000 > 10.96.0.10:80 A",
        true,
    );
    // Who is refused is told so.
    expect(
        &mut lab,
        At::Pod,
        "udp 10.244.1.5:4000 > 10.96.0.12:53",
        true,
    );
}

#[test]
fn a_client_behind_the_nodes_address_is_judged_as_itself() {
    let mut lab = lab(INGRESS, NO_SET, 0);
    lab.configure(SETTING_MASQUERADE_ALL, [0; 16], 0);
    lab.service("tcp", "172.31.0.1:30080", "10.244.1.5:80");
    verdict(&lab, (INGRESS, FRIEND), None, OUTCOME_ALLOW);
    for (client, passes) in [("172.31.9.9", false), ("10.244.2.7", true)] {
        let forwarded = lab.run(
            At::Uplink,
            &format!("tcp {client}:4000 > 172.31.0.1:30080 S"),
        );
        let packet = forwarded.strip_prefix("redirect ").unwrap();
        assert!(packet.contains("172.31.0.1:"), "{packet}");
        expect(&mut lab, At::NodeToPod, packet, passes);
    }
}

#[test]
fn a_connection_that_is_forbidden_now_is_cut_and_one_that_is_not_goes_on() {
    let mut lab = lab(NO_SET, NO_SET, 0);
    let (to_pod, from_pod) = (
        "tcp 10.244.2.7:4000 > 10.244.1.5:80",
        "tcp 10.244.1.5:80 > 10.244.2.7:4000",
    );
    let begun_by_pod = "tcp 10.244.1.5:5000 > 10.244.2.7:443";
    let download = "tcp 10.244.2.7:443 > 10.244.1.5:5000";
    expect(&mut lab, At::NodeToPod, &format!("{to_pod} S"), true);
    expect(&mut lab, At::Pod, &format!("{begun_by_pod} S"), true);
    let endpoint = EndpointV1 {
        ingress: INGRESS,
        egress: NO_SET,
        flags: 0,
        _pad: 0,
    };
    write(&lab, Op::PutEndpoint((128, address(POD[0])), endpoint));
    // What the pod fetches is no business of its ingress rules.
    expect(&mut lab, At::NodeToPod, &format!("{download} A"), true);
    expect(&mut lab, At::Pod, &format!("{begun_by_pod} A"), true);
    for _ in 0..2 {
        expect(&mut lab, At::NodeToPod, &format!("{to_pod} A"), false);
        expect(&mut lab, At::Pod, &format!("{from_pod} A"), false);
    }
    // Whichever side sends first after the change, it is cut.
    let endpoint = EndpointV1 {
        ingress: INGRESS,
        egress: EGRESS,
        ..endpoint
    };
    write(&lab, Op::PutEndpoint((128, address(POD[0])), endpoint));
    for _ in 0..2 {
        expect(&mut lab, At::NodeToPod, &format!("{download} A"), false);
        expect(&mut lab, At::Pod, &format!("{begun_by_pod} A"), false);
    }
}

#[test]
fn a_flow_that_nothing_is_heard_of_is_forgotten() {
    let mut lab = lab(INGRESS, EGRESS, 0);
    verdict(&lab, (EGRESS, FRIEND), None, OUTCOME_ALLOW);
    let (question, answer) = (
        "udp 10.244.1.5:5000 > 10.244.2.7:53",
        "udp 10.244.2.7:53 > 10.244.1.5:5000",
    );
    expect(&mut lab, At::Pod, question, true);
    expect(&mut lab, At::NodeToPod, answer, true);
    lab.settings(|settings| settings.udp_seconds = 1);
    let dropped = poll(Duration::from_secs(5), || {
        let (verdict, _) = lab.run_frame(At::NodeToPod, &frame(answer));
        (verdict == "drop").then_some(())
    });
    assert!(dropped.is_some(), "an answer passes for ever");
    expect(&mut lab, At::NodeToPod, answer, false);
}

#[test]
fn a_later_fragment_follows_its_first_one_and_passes_no_rule_of_a_port() {
    let mut lab = lab(INGRESS, NO_SET, 0);
    verdict(
        &lab,
        (INGRESS, FRIEND),
        Some((IPPROTO_UDP, Some(80))),
        OUTCOME_ALLOW,
    );
    for (pod, peer) in ends() {
        let datagram = |port, id| {
            let whole = udp(at(peer, 4000), at(pod, port), &[7; 64]);
            let pieces = cut(&whole, 64, id, None);
            [ethernet(&pieces[0]), ethernet(&pieces[1])]
        };
        let [first, later] = datagram(80, 1);
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &later,
            false,
            "without its first one",
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &first,
            true,
            "first of an open port",
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &later,
            true,
            "later of an open port",
        );
        let [first, later] = datagram(81, 2);
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &first,
            false,
            "first of a closed port",
        );
        expect_frame(
            &mut lab,
            At::NodeToPod,
            &later,
            false,
            "later of a closed port",
        );
    }
}
