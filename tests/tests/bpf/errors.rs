//! ICMP errors about translated packets: who sent the packet gets an error about what it sent.

use std::net::SocketAddr;

use agent_abi::counters::Counter;

use crate::lab::{At, Lab};
use crate::packet::frame;
use crate::wire::{LINK, ethernet, icmp_error, with_ends};

/// Type, code and the four bytes behind the checksum.
type Kind = ([u8; 2], u32);
/// Fragmentation needed, host unreachable, time exceeded (RFC 792, RFC 1191 §4).
const V4: [Kind; 3] = [([3, 4], 1400), ([3, 1], 0), ([11, 0], 0)];
/// Packet too big, address unreachable, hop limit exceeded (RFC 4443).
const V6: [Kind; 3] = [([2, 0], 1280), ([1, 3], 0), ([3, 0], 0)];

/// Ends of a packet: source, destination.
type Ends = (SocketAddr, SocketAddr);

/// One error: where it comes by, who sends it, to whom, and about which packet; then who seems to
/// send it when it leaves, and what it is about.
struct Error {
    what: &'static str,
    at: At,
    sender: SocketAddr,
    about: Ends,
    leaves_from: SocketAddr,
    leaves_about: Ends,
}

/// A client, a Service, a backend, and a router on either way.
struct Path {
    at: At,
    client: &'static str,
    service: &'static str,
    backend: &'static str,
    client_router: &'static str,
    backend_router: &'static str,
}

const PATHS: [Path; 4] = [
    Path {
        at: At::Pod,
        client: "10.244.1.5:4000",
        service: "10.96.0.10:80",
        backend: "10.244.2.7:8080",
        client_router: "10.244.1.5:0",
        backend_router: "172.31.0.254:0",
    },
    Path {
        at: At::Uplink,
        client: "172.31.9.9:4000",
        service: "172.31.0.1:30080",
        backend: "10.244.2.7:8080",
        client_router: "172.31.9.254:0",
        backend_router: "172.31.0.254:0",
    },
    Path {
        at: At::Pod,
        client: "[fd00:10::5]:4000",
        service: "[fd00:96::10]:80",
        backend: "[fd00:20::7]:8080",
        client_router: "[fd00:10::5]:0",
        backend_router: "[fd00::fe]:0",
    },
    Path {
        at: At::Uplink,
        client: "[fd00::99]:4000",
        service: "[fd00::1]:30080",
        backend: "[fd00:20::7]:8080",
        client_router: "[fd00::98]:0",
        backend_router: "[fd00::fe]:0",
    },
];

impl Path {
    /// Opens the connection; the answer is every error that there can be about it.
    #[track_caller]
    fn errors(&self, lab: &mut Lab, protocol: &str) -> Vec<Error> {
        lab.service(protocol, self.service, self.backend);
        let flags = if protocol == "tcp" { " S" } else { "" };
        let sent = format!("{protocol} {} > {}{flags}", self.client, self.service);
        lab.run(self.at, &sent);
        // Of the second one at the latest, the client is known.
        let forwarded = lab.run(self.at, &sent);
        let translated = forwarded.split(' ').nth(2).expect("a packet");
        let read = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (client, service, backend) =
            (read(self.client), read(self.service), read(self.backend));
        let translated = read(translated);
        let there = ((translated, backend), (client, service));
        let back = ((service, client), (backend, translated));
        let error = |what, at, sender, (about, leaves_about), leaves_from| Error {
            what,
            at,
            sender,
            about,
            leaves_from,
            leaves_about,
        };
        let (near, far) = (read(self.client_router), read(self.backend_router));
        vec![
            error("a router's on the way", At::Uplink, far, there, far),
            error("the backend's own", At::Uplink, backend, there, service),
            error(
                "one on the way back",
                self.at,
                near,
                back,
                near_seen(near, client, translated),
            ),
        ]
    }
}

/// A router stays who it is; the client is known to the backend as `translated`.
fn near_seen(near: SocketAddr, client: SocketAddr, translated: SocketAddr) -> SocketAddr {
    if near.ip() == client.ip() {
        translated
    } else {
        near
    }
}

impl Error {
    /// The error as it comes and as it should leave, about a packet of which `quoted` bytes are
    /// quoted.
    fn frames(&self, protocol: &str, (kind, rest): Kind, quoted: usize) -> [Vec<u8>; 2] {
        let (source, destination) = self.about;
        let packet = &frame(&format!("{protocol} {source} > {destination}"))[LINK..];
        let (leaves_source, leaves_destination) = self.leaves_about;
        let leaves = with_ends(packet, leaves_source, leaves_destination);
        let quoted = quoted.min(packet.len());
        [
            (self.sender, source, packet),
            (self.leaves_from, leaves_source, &leaves[..]),
        ]
        .map(|(from, to, packet)| {
            let error = icmp_error(from.ip(), to.ip(), kind, rest, &packet[..quoted]);
            ethernet(&error)
        })
    }
}

#[test]
fn an_error_is_about_what_its_receiver_sent() {
    for path in PATHS {
        for protocol in ["tcp", "udp", "sctp"] {
            let mut lab = Lab::new();
            let is_v4 = path.client.starts_with('1');
            let header = if is_v4 { 20 } else { 40 };
            for error in path.errors(&mut lab, protocol) {
                for kind in if is_v4 { V4 } else { V6 } {
                    // RFC 792 asks for eight bytes; today's routers quote what fits.
                    for quoted in [header + 8, header + 15, usize::MAX] {
                        let [comes, leaves] = error.frames(protocol, kind, quoted);
                        let (_, got) = lab.run_frame(error.at, &comes);
                        let (what, client) = (error.what, path.client);
                        let case = format!("{what} {kind:?} about {protocol} of {client}");
                        assert_eq!(got, leaves, "{case}, {quoted} bytes quoted");
                    }
                }
            }
            assert_eq!(lab.counter(Counter::ErrorsTranslated), 27);
        }
    }
}

#[test]
fn an_error_about_no_connection_passes_untouched() {
    for path in PATHS {
        let mut lab = Lab::new();
        let mut errors = path.errors(&mut lab, "udp");
        lab.clear();
        for error in &mut errors {
            for kind in if path.client.starts_with('1') { V4 } else { V6 } {
                let [comes, _] = error.frames("udp", kind, usize::MAX);
                let got = lab.run_frame(error.at, &comes);
                assert_eq!(got, ("pass".to_owned(), comes), "{}", error.what);
            }
        }
    }
}

#[test]
fn bytes_behind_an_error_are_no_part_of_its_quotation() {
    for path in PATHS {
        let is_v4 = path.client.starts_with('1');
        let (header, kind) = if is_v4 { (20, V4[0]) } else { (40, V6[0]) };
        let mut lab = Lab::new();
        for error in path.errors(&mut lab, "udp") {
            for quoted in header..header + 4 {
                let [mut padded, _] = error.frames("udp", kind, quoted);
                let [whole, _] = error.frames("udp", kind, header + 8);
                padded.extend_from_slice(&whole[padded.len()..]);
                let got = lab.run_frame(error.at, &padded);
                assert_eq!(got, ("pass".to_owned(), padded), "{}", error.what);
            }
        }
    }
}

#[test]
fn a_quotation_without_both_ports_passes_untouched() {
    for path in PATHS {
        let is_v4 = path.client.starts_with('1');
        let (header, kind) = if is_v4 { (20, V4[0]) } else { (40, V6[0]) };
        let mut lab = Lab::new();
        for error in path.errors(&mut lab, "tcp") {
            for quoted in 0..header + 8 {
                let [comes, leaves] = error.frames("tcp", kind, quoted);
                let (verdict, got) = lab.run_frame(error.at, &comes);
                let case = format!("{} of {}, {quoted} bytes", error.what, path.client);
                if quoted < header + 4 {
                    assert_eq!((verdict.as_str(), &got), ("pass", &comes), "{case}");
                } else {
                    assert_eq!(got, leaves, "{case}");
                }
            }
        }
    }
}
