//! Fragments in any order: a later one that comes before its first one waits for it.

use std::net::SocketAddr;

use agent_abi::counters::Counter;

use crate::lab::{At, Lab};
use crate::wire::{LINK, ethernet, udp};

/// Data of a fragment; a multiple of eight (RFC 791 §3.2).
const PIECE: usize = 64;
const DESTINATION_OPTIONS: u8 = 60;

/// Who sends what, and as what it leaves where it is known.
#[derive(Clone, Copy, Debug)]
struct Case {
    at: At,
    source: &'static str,
    destination: &'static str,
    leaves_for: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        at: At::Pod,
        source: "10.244.1.5:4000",
        destination: "10.96.0.10:53",
        leaves_for: "10.244.2.7",
    },
    Case {
        at: At::Uplink,
        source: "172.31.9.9:4000",
        destination: "172.31.0.1:30053",
        leaves_for: "10.244.2.7",
    },
    Case {
        at: At::Pod,
        source: "[fd00:10::5]:4000",
        destination: "[fd00:96::10]:53",
        leaves_for: "fd00:20::7",
    },
    Case {
        at: At::Uplink,
        source: "[fd00::99]:4000",
        destination: "[fd00::1]:30053",
        leaves_for: "fd00:20::7",
    },
];

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.service("udp", "10.96.0.10:53 172.31.0.1:30053", "10.244.2.7:5353");
    lab.service(
        "udp",
        "[fd00:96::10]:53 [fd00::1]:30053",
        "[fd00:20::7]:5353",
    );
    lab
}

impl Case {
    fn datagram(&self, pieces: usize) -> Vec<u8> {
        let read = |text: &str| text.parse::<SocketAddr>().unwrap();
        let payload: Vec<u8> = (0..pieces * PIECE - 8)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        udp(read(self.source), read(self.destination), &payload)
    }

    fn frames(&self, pieces: usize) -> Vec<Vec<u8>> {
        cut(&self.datagram(pieces), PIECE, None)
    }

    fn is_v6(&self) -> bool {
        self.source.starts_with('[')
    }
}

/// The fragments of a packet, in frames.
fn cut(packet: &[u8], piece: usize, options: Option<u8>) -> Vec<Vec<u8>> {
    let pieces = crate::pieces::cut(packet, piece, 0x0707, options);
    pieces.iter().map(|piece| ethernet(piece)).collect()
}

/// The destination address of a frame.
fn destination(frame: &[u8]) -> String {
    let packet = &frame[LINK..];
    if packet[0] >> 4 == 4 {
        let octets: [u8; 4] = packet[16..20].try_into().unwrap();
        std::net::Ipv4Addr::from(octets).to_string()
    } else {
        let octets: [u8; 16] = packet[24..40].try_into().unwrap();
        std::net::Ipv6Addr::from(octets).to_string()
    }
}

#[test]
fn a_later_fragment_waits_for_its_first_one_and_follows_it() {
    for case in CASES {
        let frames = case.frames(3);
        let first = {
            let mut lab = lab();
            lab.run_frame(case.at, &frames[0])
        };
        let mut lab = lab();
        for later in [2, 1] {
            assert_eq!(lab.run_frame(case.at, &frames[later]).0, "drop", "{case:?}");
        }
        assert_eq!(lab.counter(Counter::FragmentsHeld), 2);
        let (verdict, got) = lab.run_frame(case.at, &frames[0]);
        assert_eq!(verdict, first.0);
        if case.at != At::Uplink {
            // Of a client outside, the new source port is a matter of chance.
            assert_eq!(got, first.1, "{case:?}: the first one is itself again");
        }
        assert_eq!(destination(&got), case.leaves_for);
        assert_eq!(lab.counter(Counter::FragmentsReleased), 2, "{case:?}");
        // They come in anew, or late.
        for later in [2, 1] {
            let (verdict, got) = lab.run_frame(case.at, &frames[later]);
            assert_eq!(
                (verdict.as_str(), destination(&got).as_str()),
                ("redirect", case.leaves_for)
            );
        }
        assert_eq!(lab.run_frame(case.at, &frames[0]).0, "redirect");
        assert_eq!(lab.counter(Counter::FragmentsReleased), 2, "none twice");
    }
}

#[test]
fn a_first_fragment_that_passes_releases_what_waits() {
    for case in CASES {
        let mut lab = lab();
        let port = |text: &'static str| text.replace(":53", ":54").replace(":30053", ":30054");
        let to = port(case.destination);
        let elsewhere = Case {
            destination: Box::leak(to.into_boxed_str()),
            ..case
        };
        let frames = elsewhere.frames(2);
        assert_eq!(lab.run_frame(case.at, &frames[1]).0, "drop");
        for index in [0, 1] {
            let got = lab.run_frame(case.at, &frames[index]);
            assert_eq!(got, ("pass".to_owned(), frames[index].clone()));
        }
        assert_eq!(lab.counter(Counter::FragmentsReleased), 1, "{case:?}");
        assert_eq!(lab.counter(Counter::FragmentsTranslated), 0);
    }
}

#[test]
fn fragments_of_an_answer_wait_too_and_those_of_no_service_pass_as_they_are() {
    for case in CASES.into_iter().filter(|case| case.at == At::Pod) {
        let mut lab = lab();
        lab.run_frame(At::Pod, &ethernet(&case.datagram(1)));
        let (backend, stranger) = if case.is_v6() {
            ("[fd00:20::7]:5353", "[fd00:20::8]:5353")
        } else {
            ("10.244.2.7:5353", "10.244.2.8:5353")
        };
        let answer = |source| Case {
            at: At::Uplink,
            source,
            destination: case.source,
            leaves_for: "",
        };
        let frames = answer(backend).frames(2);
        assert_eq!(lab.run_frame(At::Uplink, &frames[1]).0, "drop");
        assert_eq!(lab.run_frame(At::Uplink, &frames[0]).0, "redirect");
        assert_eq!(lab.counter(Counter::FragmentsReleased), 1);
        let frames = answer(stranger).frames(2);
        assert_eq!(lab.run_frame(At::Uplink, &frames[1]).0, "drop");
        for index in [0, 1] {
            let got = lab.run_frame(At::Uplink, &frames[index]);
            assert_eq!(got, ("pass".to_owned(), frames[index].clone()));
        }
        assert_eq!(lab.counter(Counter::FragmentsReleased), 2);
    }
}

#[test]
fn what_does_not_fit_passes_and_is_counted() {
    for case in CASES {
        let mut lab = lab();
        let long = cut(&case.datagram(80), 2048, None);
        assert_eq!(lab.run_frame(case.at, &long[1]).0, "pass");
        assert_eq!(lab.counter(Counter::FragmentsNotHeld), 1);
        let frames = case.frames(46);
        for (index, frame) in frames.iter().enumerate().skip(1) {
            let expected = if index <= 44 { "drop" } else { "pass" };
            assert_eq!(lab.run_frame(case.at, frame).0, expected, "{index}");
        }
        assert_eq!(lab.counter(Counter::FragmentsNotHeld), 2);
        assert_eq!(lab.run_frame(case.at, &frames[0]).0, "redirect");
        assert_eq!(lab.counter(Counter::FragmentsReleased), 44);
    }
}

#[test]
fn an_extension_header_behind_the_fragment_header_hides_no_later_fragment() {
    for case in CASES.into_iter().filter(Case::is_v6) {
        for order in [[0, 1], [1, 0]] {
            let mut lab = lab();
            let frames = cut(&case.datagram(3), 2 * PIECE, Some(DESTINATION_OPTIONS));
            for index in order {
                let (verdict, got) = lab.run_frame(case.at, &frames[index]);
                if order[0] == 1 && index == 1 {
                    assert_eq!(verdict, "drop");
                    continue;
                }
                let got = (verdict.as_str(), destination(&got));
                assert_eq!(got, ("redirect", case.leaves_for.to_owned()), "{index}");
            }
            let released = u64::from(order[0] == 1);
            assert_eq!(lab.counter(Counter::FragmentsReleased), released);
        }
    }
}
