//! What the programs tell of single connections.

use std::net::Ipv6Addr;

use agent::desired::{Frontend, Pool};
use agent::policy::ebpf::image::Op;
use agent::sys::clock;
use agent::sys::map::{List, Ring, per_cpu_sums_by_key};
use agent_abi::Address;
use agent_abi::counters::{COUNTERS, Counter};
use agent_abi::flow::{
    ASKED_MAP, FLOW_ALLOWED, FLOW_AUDITED, FLOW_DROPPED, FLOW_REJECTED, FLOWS_MAP, FlowV1,
    LIMIT_BURST,
};
use agent_abi::policy::{
    EndpointV1, OUTCOME_ALLOW, OUTCOME_AUDIT_DENY, OUTCOME_DENY, RULES_MAP, RuleKeyV1,
    VERDICT_BITS, VerdictKeyV1, VerdictV1,
};
use agent_abi::settings::SETTING_MASQUERADE_ALL;
use model::SourceRanges;
use tests::harness::poll;

use crate::lab::{At, Lab, address, set_direct, set_nodes};
use crate::packet::frame;
use crate::source_address::Exhausted;

const SECOND: u64 = 1_000_000_000;

struct Told {
    lab: Lab,
    ring: Ring<FlowV1>,
}

impl Told {
    fn new(lab: Lab) -> Self {
        let ring = Ring::open(&lab.pins, FLOWS_MAP).unwrap();
        Self { lab, ring }
    }

    /// A node whose pod may send to 10.244.2.7 (rule 7) and gets from it what is audited (rule 8);
    /// all else is denied, as rules 1 (in) and 2 (out) say.
    fn policed() -> Self {
        let told = Self::new(Lab::policed());
        let pod = (128, address("10.244.1.5"));
        let endpoint = EndpointV1 {
            ingress: 1,
            egress: 2,
            flags: 0,
            _pad: 0,
        };
        told.write(Op::PutIdentity((128, address("10.244.2.7")), 7));
        for (set, identity, rule, outcome) in [
            (1, 0, 1, OUTCOME_DENY),
            (2, 0, 2, OUTCOME_DENY),
            (2, 7, 7, OUTCOME_ALLOW),
            (1, 7, 8, OUTCOME_AUDIT_DENY),
        ] {
            told.verdict(set, identity, rule, outcome);
        }
        told.write(Op::PutEndpoint(pod, endpoint));
        told
    }

    fn verdict(&self, set: u32, identity: u32, rule: u32, outcome: u8) {
        let key = VerdictKeyV1 {
            set,
            identity,
            protocol: 0,
            _pad: 0,
            port: [0; 2],
        };
        let value = VerdictV1 {
            rule,
            outcome,
            _pad: [0; 3],
        };
        self.write(Op::PutVerdict((key, VERDICT_BITS), value));
    }

    fn write(&self, op: Op) {
        let mut maps = agent::policy::ebpf::maps::Maps::open(&self.lab.pins).unwrap();
        maps.write(op).unwrap();
        maps.advance().unwrap();
    }

    /// Has connections that pass told of, until a time that may be over.
    fn ask(&self, until: u64) {
        let mut asked = List::open(&self.lab.pins, ASKED_MAP).unwrap();
        asked.set(0, until).unwrap();
    }

    /// What was told since the last time.
    fn told(&mut self) -> Vec<FlowV1> {
        std::iter::from_fn(|| self.ring.next_event()).collect()
    }

    /// Runs packets, and expects these lines of them.
    #[track_caller]
    fn check(&mut self, packets: &[(At, &str)], expected: &[&str]) {
        for (at, packet) in packets {
            self.lab.run_frame(*at, &frame(packet));
        }
        let told: Vec<String> = self.told().iter().map(line).collect();
        assert_eq!(told, expected, "{packets:?}");
    }

    /// How often rules decided: allowed, dropped, audited.
    fn rule(&self, rule: u32, begun_by_pod: u32) -> [u64; 3] {
        let rules = per_cpu_sums_by_key::<RuleKeyV1, 3>(&self.lab.pins, RULES_MAP).unwrap();
        let key = RuleKeyV1 { rule, begun_by_pod };
        let found = rules.into_iter().find(|(found, _)| *found == key);
        found.map_or([0; 3], |(_, counts)| counts)
    }
}

/// An event without its time and interface.
fn line(flow: &FlowV1) -> String {
    let ip = |address: &Address| Ipv6Addr::from(*address).to_canonical();
    let end = |address: &Address, port: [u8; 2]| {
        std::net::SocketAddr::new(ip(address), u16::from_be_bytes(port)).to_string()
    };
    let verdict = match flow.verdict {
        FLOW_ALLOWED => "allowed",
        FLOW_DROPPED => "dropped",
        FLOW_AUDITED => "audited",
        FLOW_REJECTED => "rejected",
        other => panic!("verdict {other}"),
    };
    let (_, reason) = COUNTERS[usize::try_from(flow.reason).unwrap()];
    let hook = ["uplink", "from pod", "egress", "xdp", "to pod"][usize::from(flow.hook)];
    let mut text = format!(
        "{verdict} {reason} {hook} {} {} > {}",
        flow.tuple.protocol,
        end(&flow.tuple.source, flow.tuple.source_port),
        end(&flow.tuple.destination, flow.tuple.destination_port),
    );
    if flow.peer != [0; 16] {
        text += &format!(" peer {}", end(&flow.peer, flow.peer_port));
    }
    for (name, value) in [
        ("rule", flow.rule),
        ("service", flow.service),
        ("begun by pod", u32::from(flow.begun_by_pod)),
        ("suppressed", flow.suppressed),
    ] {
        if value != 0 {
            text += &format!(" {name} {value}");
        }
    }
    text
}

#[test]
fn a_drop_by_policy_names_rule_service_and_real_peer() {
    let mut told = Told::policed();
    let service = told.lab.service("tcp", "10.96.0.10:80", "10.244.2.8:8080");
    let (pod, uplink) = (told.lab.pod, told.lab.uplink);
    let through = format!(
        "dropped drop_policy_egress from pod 6 10.244.1.5:4000 > 10.96.0.10:80 peer 10.244.2.8:8080 rule 2 service {service} begun by pod 1"
    );
    told.check(
        &[(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S")],
        &[&through],
    );
    told.check(
        &[(At::NodeToPod, "udp 10.244.2.8:53 > 10.244.1.5:4000")],
        &["dropped drop_policy_ingress to pod 17 10.244.2.8:53 > 10.244.1.5:4000 peer 10.244.2.8:53 rule 1"],
    );
    // Behind the node's address the client is known by the connection.
    told.lab.configure(SETTING_MASQUERADE_ALL, [0; 16], 0);
    let local = told.lab.service("tcp", "192.0.2.10:80", "10.244.1.5:8080");
    let (_, arrived) = told.lab.run_frame(
        At::Uplink,
        &frame("tcp 198.51.100.9:4000 > 192.0.2.10:80 S"),
    );
    told.lab.run_frame(At::NodeToPod, &arrived);
    let events = told.told();
    let [event] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(
        (event.service, event.rule, event.interface),
        (local, 1, pod)
    );
    assert_eq!(event.peer, address("198.51.100.9"), "{}", line(event));
    assert_eq!(event.tuple.source, address("172.31.0.1"));
    assert_ne!(pod, uplink);
    assert_eq!(told.rule(1, 0), [0, 2, 0]);
    assert_eq!(told.rule(2, 1), [0, 1, 0]);
}

#[test]
fn every_reason_of_the_service_path_is_told_without_policy() {
    let mut told = Told::new(Lab::new());
    let empty = told.lab.service("tcp", "10.96.0.11:80", "");
    let ranged = told
        .lab
        .service_with("tcp", "203.0.113.5:80", "10.244.1.5:8080", |unit| {
            unit.sources = SourceRanges::Only(vec!["198.51.100.0/24".parse().unwrap()]);
        });
    let direct = told
        .lab
        .service_with("udp", "192.0.2.20:53", "10.244.2.7:53", |unit| {
            set_direct(unit, true);
            set_nodes(unit, |_| Some("172.31.0.2".parse().unwrap()));
        });
    let rejected = format!(
        "rejected packets_rejected from pod 6 10.244.1.5:4000 > 10.96.0.11:80 service {empty}"
    );
    told.check(
        &[(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.11:80 S")],
        &[&rejected],
    );
    let range = format!(
        "dropped drop_source_range uplink 6 192.0.2.1:4000 > 203.0.113.5:80 service {ranged}"
    );
    told.check(
        &[(At::Uplink, "tcp 192.0.2.1:4000 > 203.0.113.5:80 S")],
        &[&range],
    );
    let local = told
        .lab
        .service_with("tcp", "203.0.113.6:80", "10.244.2.7:8080", |unit| {
            let outside = unit.frontends.iter().map(|frontend| Frontend {
                outside: Pool::Local,
                ..*frontend
            });
            unit.frontends = outside.collect();
        });
    let none_here = format!(
        "dropped drop_no_local_endpoint uplink 6 198.51.100.9:4000 > 203.0.113.6:80 service {local}"
    );
    told.check(
        &[(At::Uplink, "tcp 198.51.100.9:4000 > 203.0.113.6:80 S")],
        &[&none_here],
    );
    told.lab.settings(|settings| settings.mtu = 40);
    let large = format!(
        "rejected drop_too_big uplink 17 198.51.100.9:4000 > 192.0.2.20:53 service {direct}"
    );
    told.check(
        &[(At::Uplink, "udp 198.51.100.9:4000 > 192.0.2.20:53")],
        &[&large],
    );
    // Nothing of those is told that pass.
    told.lab.settings(|settings| settings.mtu = 1500);
    told.check(
        &[
            (At::Uplink, "tcp 198.51.100.9:4000 > 203.0.113.5:80 S"),
            (At::Uplink, "udp 198.51.100.9:4000 > 192.0.2.20:53"),
            (At::Pod, "tcp 10.244.1.5:4000 > 10.244.2.7:80 S"),
        ],
        &[],
    );
}

#[test]
fn a_client_without_a_port_is_told_of() {
    let mut told = Told::new(Exhausted::new().lab);
    told.check(
        &[(At::Uplink, "tcp 172.31.9.9:4000 > 172.31.0.1:30080 S")],
        &["dropped drop_no_port uplink 6 172.31.9.9:4000 > 172.31.0.1:30080 service 1"],
    );
}

#[test]
fn drops_are_limited_by_reason_and_pod_and_the_next_one_says_how_many_there_were() {
    let mut told = Told::policed();
    let burst = usize::try_from(LIMIT_BURST).unwrap();
    let send = |told: &mut Told, port: usize| {
        let packet = format!("udp 10.244.2.8:53 > 10.244.1.5:{port}");
        told.lab.run_frame(At::NodeToPod, &frame(&packet));
    };
    for port in 0..burst + 40 {
        send(&mut told, 1000 + port);
    }
    let events = told.told();
    // One more for each tenth of a second that this took.
    assert!(
        (burst..burst + 10).contains(&events.len()),
        "{}",
        events.len()
    );
    // Another reason has a bucket of its own.
    told.check(
        &[(At::Pod, "udp 10.244.1.5:4000 > 10.244.2.8:53")],
        &["dropped drop_policy_egress from pod 17 10.244.1.5:4000 > 10.244.2.8:53 peer 10.244.2.8:53 rule 2 begun by pod 1"],
    );
    let before: usize = events.iter().map(|event| event.suppressed as usize).sum();
    let mut sent = burst + 40;
    let later = poll(std::time::Duration::from_secs(5), || {
        send(&mut told, 2000);
        sent += 1;
        told.told().into_iter().next()
    })
    .expect("one is told again");
    let heard = events.len() + 1;
    assert_eq!(later.suppressed as usize + before + heard, sent);
    let counted = usize::try_from(told.rule(1, 0)[1]);
    assert_eq!(counted, Ok(sent), "all of them are counted");
}

#[test]
fn a_pod_that_claims_many_addresses_is_told_of_no_more_often() {
    let mut told = Told::new(Lab::policed());
    let endpoint = EndpointV1 {
        ingress: 1,
        egress: 2,
        flags: 0,
        _pad: 0,
    };
    told.write(Op::PutEndpoint((96, address("0.0.0.0")), endpoint));
    for host in 0..200 {
        let packet = format!("udp 10.244.7.{host}:4000 > 10.244.2.8:53");
        told.lab.run_frame(At::Pod, &frame(&packet));
    }
    let events = told.told();
    assert_eq!(told.lab.counter(Counter::DropPolicyEgress), 200);
    let burst = usize::try_from(LIMIT_BURST).unwrap();
    assert!((1..burst + 20).contains(&events.len()), "{}", events.len());
}

#[test]
fn what_passes_is_told_while_somebody_asks_and_only_its_first_packet() {
    let mut told = Told::policed();
    let service = told.lab.service("tcp", "10.96.0.10:80", "10.244.2.7:8080");
    let open = |port: u16| format!("tcp 10.244.1.5:{port} > 10.96.0.10:80");
    let (first, second) = (open(4000), open(4001));
    let packets = [
        (At::Pod, format!("{first} S")),
        (At::Pod, format!("{first} A")),
        (
            At::NodeToPod,
            "tcp 10.96.0.10:80 > 10.244.1.5:4000 SA".to_owned(),
        ),
    ];
    let packets: Vec<(At, &str)> = packets
        .iter()
        .map(|(at, text)| (*at, text.as_str()))
        .collect();
    told.check(&packets, &[]);
    told.ask(clock::monotonic_nanoseconds() + 100 * SECOND);
    told.check(&packets[1..], &[]);
    let allowed = format!(
        "allowed packet_connections from pod 6 10.244.1.5:4001 > 10.96.0.10:80 peer 10.244.2.7:8080 rule 7 service {service} begun by pod 1"
    );
    told.check(
        &[
            (At::Pod, &format!("{second} S")),
            (At::Pod, &format!("{second} A")),
            (At::NodeToPod, "tcp 10.96.0.10:80 > 10.244.1.5:4001 SA"),
        ],
        &[&allowed],
    );
    // Judged again after a change, it is no other connection.
    told.verdict(2, 7, 7, OUTCOME_ALLOW);
    told.check(&[(At::Pod, &format!("{second} A"))], &[]);
    told.ask(clock::monotonic_nanoseconds());
    told.check(&[(At::Pod, &format!("{} S", open(4002)))], &[]);
    assert_eq!(told.rule(7, 1), [3, 0, 0]);
}

#[test]
fn without_policy_connections_through_a_service_are_told() {
    let mut told = Told::new(Lab::new());
    let service = told.lab.service("udp", "10.96.0.10:53", "10.244.2.7:5353");
    told.ask(clock::monotonic_nanoseconds() + 100 * SECOND);
    let allowed = format!(
        "allowed packet_connections from pod 17 10.244.1.5:4000 > 10.96.0.10:53 peer 10.244.2.7:5353 service {service}"
    );
    let packet = (At::Pod, "udp 10.244.1.5:4000 > 10.96.0.10:53");
    told.check(&[packet, packet], &[&allowed]);
}

#[test]
fn an_audited_verdict_is_told_unasked_and_what_is_cut_names_its_rule() {
    let mut told = Told::policed();
    let to_pod = "tcp 10.244.2.7:4000 > 10.244.1.5:80";
    let (syn, ack) = (format!("{to_pod} S"), format!("{to_pod} A"));
    told.check(
        &[(At::NodeToPod, &syn), (At::NodeToPod, &ack)],
        &["audited policy_audited to pod 6 10.244.2.7:4000 > 10.244.1.5:80 peer 10.244.2.7:4000 rule 8"],
    );
    assert_eq!(told.rule(8, 0), [0, 0, 1]);
    told.verdict(1, 7, 9, OUTCOME_DENY);
    let cut = "dropped drop_policy_ingress to pod 6 10.244.2.7:4000 > 10.244.1.5:80 peer 10.244.2.7:4000 rule 9";
    told.check(&[(At::NodeToPod, &ack)], &[cut]);
    told.check(&[(At::NodeToPod, &ack)], &[cut]);
    // Its answers are dropped for the same reason.
    told.check(
        &[(At::Pod, "tcp 10.244.1.5:80 > 10.244.2.7:4000 A")],
        &["dropped drop_policy_ingress from pod 6 10.244.1.5:80 > 10.244.2.7:4000 peer 10.244.2.7:4000 rule 9"],
    );
}

#[test]
fn what_is_unreadable_has_no_addresses_of_another_packet() {
    let mut told = Told::policed();
    told.check(&[(At::Pod, "udp 10.244.1.5:4000 > 10.244.2.7:53")], &[]);
    let mut short = frame("udp 10.244.1.5:4000 > 10.244.2.7:53");
    // A header of four bytes.
    short[14] = 0x41;
    told.lab.run_frame(At::Pod, &short);
    let lines: Vec<String> = told.told().iter().map(line).collect();
    assert_eq!(
        lines,
        ["dropped drop_policy_egress from pod 255 [::]:0 > [::]:0"]
    );
}

#[test]
fn what_nobody_reads_is_counted_as_lost_and_stops_nothing() {
    let mut told = Told::policed();
    told.ask(u64::MAX);
    for port in 0..7000 {
        let packet = format!("udp 10.244.1.5:{} > 10.244.2.7:53", 1024 + port);
        let (verdict, _) = told.lab.run_frame(At::Pod, &frame(&packet));
        assert_eq!(verdict, "pass");
    }
    let lost = told.lab.counter(Counter::FlowsLost);
    let told = told.told().len() as u64;
    assert!(
        lost > 0 && told > 1000 && lost + told == 7000,
        "{lost} {told}"
    );
}
