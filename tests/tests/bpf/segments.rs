//! TCP asks for segments that fit the tunnel which what it is sent will go through.

use std::net::{IpAddr, SocketAddr};

use agent::sys::map::Owned;
use agent_abi::counters::Counter;
use agent_abi::tunnel::TUNNELS_MAP;
use etherparse::PacketBuilder;

use crate::lab::{At, Lab};
use crate::tunnel::FAMILIES;
use crate::wire::{self, LINK};

/// What fits 1,450 bytes of each family.
const PODS: [(&str, &str, [u8; 2]); 2] = [
    ("10.244.1.5:4000", "10.244.2.7:80", 1410_u16.to_be_bytes()),
    (
        "[fd00:10::5]:4000",
        "[fd00:20::7]:80",
        1390_u16.to_be_bytes(),
    ),
];
pub(crate) const ASKED: [u8; 2] = 1460_u16.to_be_bytes();
pub(crate) const TIMESTAMPS: [u8; 10] = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];

/// A node whose uplink is an overlay's device of 1,450 bytes.
pub(crate) fn overlay() -> Lab {
    let lab = Lab::new();
    let mut tunnels = Owned::open(&lab.pins, TUNNELS_MAP).unwrap();
    tunnels.follow([(lab.uplink, 1450_u32)].into()).unwrap();
    lab
}

/// A frame of TCP with these flags and options.
pub(crate) fn segment(source: &str, destination: &str, flags: &str, options: &[u8]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let ethernet = PacketBuilder::ethernet2(wire::SOURCE_MAC, wire::DESTINATION_MAC);
    let step = match (source.ip(), destination.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), 60),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), 60),
        _ => panic!("two families"),
    };
    let mut step = step.tcp(source.port(), destination.port(), 1000, 64_000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            _ => step.ack(5000),
        };
    }
    let mut bytes = Vec::new();
    let step = step.options_raw(options).unwrap();
    step.write(&mut bytes, &[]).unwrap();
    bytes
}

pub(crate) fn mss([high, low]: [u8; 2]) -> [u8; 4] {
    [2, 4, high, low]
}

#[test]
fn what_enters_the_overlay_asks_for_segments_that_fit_it() {
    for (here, there, fitting) in PODS {
        let mut lab = overlay();
        let mut clamped = 0;
        for flags in ["S", "SA"] {
            for place in 0..4 {
                let options = |value| {
                    // Behind one or three of nothing its value stands at an odd place.
                    let mut options = vec![1; place];
                    options.extend(mss(value));
                    options.extend(TIMESTAMPS);
                    options
                };
                let sent = segment(here, there, flags, &options(ASKED));
                let (verdict, got) = lab.run_frame(At::Node, &sent);
                let wanted = segment(here, there, flags, &options(fitting));
                assert_eq!((verdict.as_str(), got), ("pass", wanted), "{flags} {place}");
                clamped += 1;
                assert_eq!(lab.counter(Counter::SegmentsClamped), clamped);
            }
        }
    }
}

#[test]
fn everything_else_leaves_as_it_is() {
    for (here, there, fitting) in PODS {
        let mut lab = overlay();
        for (flags, options) in [
            ("S", mss(fitting).to_vec()),
            ("S", mss([1, 0]).to_vec()),
            ("S", TIMESTAMPS.to_vec()),
            ("S", vec![]),
            ("A", mss(ASKED).to_vec()),
            // Behind the end of the options, and options without an end.
            ("S", [&[0, 0, 0, 0][..], &mss(ASKED)].concat()),
            ("S", [&[9, 0, 1, 1][..], &mss(ASKED)].concat()),
            ("S", vec![2, 3, 5, 1]),
            ("S", vec![1, 1, 1, 2]),
        ] {
            let sent = segment(here, there, flags, &options);
            let (verdict, got) = lab.run_frame(At::Node, &sent);
            assert_eq!(
                (verdict.as_str(), got),
                ("pass", sent),
                "{flags} {options:?}"
            );
        }
        let sent = segment(here, there, "S", &mss(ASKED));
        let (_, got) = lab.run_frame(At::NodeToPod, &sent);
        assert_eq!(got, sent, "to a pod of this node");
        assert_eq!(lab.counter(Counter::SegmentsClamped), 0);
    }
}

#[test]
fn an_answer_of_direct_return_asks_for_segments_that_fit_the_clients_tunnel() {
    for (family, fitting) in FAMILIES.iter().zip([1440_u16, 1400]) {
        let mut lab = family.lab("tcp", family.here);
        lab.settings(|settings| {
            settings.mtu = 1500;
        });
        let (client, service, here) = (family.client, family.service, family.here);
        let answer = segment(here, client, "SA", &mss(ASKED));
        let question = segment(client, service, "S", &mss(ASKED));
        lab.run_frame(At::Uplink, &family.received(&question[LINK..]));
        let (verdict, got) = lab.run_frame(At::Pod, &answer);
        let wanted = segment(service, client, "SA", &mss(fitting.to_be_bytes()));
        assert_eq!(
            (verdict.as_str(), &got[LINK..]),
            ("redirect", &wanted[LINK..])
        );
        // Of one that came without a tunnel the answer is as long as it likes.
        let straight = segment(
            client.replace("4000", "4001").as_str(),
            service,
            "S",
            &mss(ASKED),
        );
        lab.run_frame(At::Uplink, &straight);
        let answer = segment(
            here,
            client.replace("4000", "4001").as_str(),
            "SA",
            &mss(ASKED),
        );
        let (_, got) = lab.run_frame(At::Pod, &answer);
        let wanted = segment(
            service,
            client.replace("4000", "4001").as_str(),
            "SA",
            &mss(ASKED),
        );
        assert_eq!(got[LINK..], wanted[LINK..]);
    }
}
