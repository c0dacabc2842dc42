//! Direct return: packets go to the backend's node as they are, and its answers leave from there.

use std::net::{IpAddr, SocketAddr};

use agent::desired::{LbService, Pool};
use agent_abi::counters::Counter;

use crate::lab::{At, Lab, set_direct, set_nodes};
use crate::packet::{describe, frame};
use crate::wire::{LINK, ethernet, icmp_error, tunnel, udp, with_ends};

/// One family: this node, another one, a client, a load balancer's address, a backend of each.
pub(crate) struct Family {
    node: &'static str,
    other: &'static str,
    pub(crate) client: &'static str,
    pub(crate) service: &'static str,
    pub(crate) here: &'static str,
    there: &'static str,
    header: usize,
}

pub(crate) const FAMILIES: [Family; 2] = [
    Family {
        node: "172.31.0.1",
        other: "172.31.0.2",
        client: "172.31.9.9:4000",
        service: "203.0.113.5:80",
        here: "10.244.1.5:8080",
        there: "10.244.2.7:8080",
        header: 20,
    },
    Family {
        node: "fd00::1",
        other: "fd00::2",
        client: "[fd00::99]:4000",
        service: "[fd00:1b::5]:80",
        here: "[fd00:10::5]:8080",
        there: "[fd00:20::7]:8080",
        header: 40,
    },
];

impl Family {
    /// A node with a service of direct return and one backend.
    pub(crate) fn lab(&self, protocol: &str, backend: &str) -> Lab {
        let mut lab = Lab::new();
        lab.service_with(protocol, self.service, backend, |unit| self.direct(unit));
        lab
    }

    fn direct(&self, unit: &mut LbService) {
        set_direct(unit, true);
        set_nodes(unit, |backend| {
            (!backend.local).then(|| address(self.other))
        });
    }

    fn packet(&self, protocol: &str) -> String {
        let flags = if protocol == "tcp" { " S" } else { "" };
        format!("{protocol} {} > {}{flags}", self.client, self.service)
    }

    /// What another node sends here.
    pub(crate) fn received(&self, inner: &[u8]) -> Vec<u8> {
        ethernet(&tunnel(address(self.other), address(self.node), inner))
    }

    fn datagram(&self, length: usize) -> Vec<u8> {
        let payload = vec![7; length - self.header - 8];
        udp(ends(self.client), ends(self.service), &payload)
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ends(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_packet_for_a_backend_elsewhere_leaves_for_its_node_as_it_is() {
    for family in FAMILIES {
        for protocol in ["tcp", "udp", "sctp"] {
            let mut lab = family.lab(protocol, family.there);
            let inner = frame(&family.packet(protocol));
            let sent = tunnel(address(family.node), address(family.other), &inner[LINK..]);
            for _ in 0..2 {
                let (verdict, got) = lab.run_frame(At::Uplink, &inner);
                assert_eq!((verdict.as_str(), got), ("redirect", ethernet(&sent)));
            }
            assert_eq!(lab.counter(Counter::TunnelSent), 2);
        }
    }
}

#[test]
fn a_tunnelled_packet_reaches_the_backend_here_and_its_answer_leaves_from_here() {
    for family in FAMILIES {
        for protocol in ["tcp", "udp", "sctp"] {
            let mut lab = family.lab(protocol, family.here);
            let inner = frame(&family.packet(protocol));
            let (_, got) = lab.run_frame(At::Uplink, &family.received(&inner[LINK..]));
            let answer_flags = if protocol == "tcp" { " SA" } else { "" };
            let (client, service, here) = (family.client, family.service, family.here);
            assert_eq!(
                describe(&got),
                family.packet(protocol).replace(service, here)
            );
            assert_eq!(
                lab.run(
                    At::Pod,
                    &format!("{protocol} {here} > {client}{answer_flags}")
                ),
                format!("redirect {protocol} {service} > {client}{answer_flags}")
            );
            assert_eq!(lab.counter(Counter::TunnelReceived), 1);
        }
    }
}

#[test]
fn a_tunnelled_packet_goes_into_no_other_tunnel() {
    for family in FAMILIES {
        let mut lab = family.lab("tcp", family.there);
        let inner = frame(&family.packet("tcp"));
        let (verdict, got) = lab.run_frame(At::Uplink, &family.received(&inner[LINK..]));
        let got = describe(&got);
        let words: Vec<&str> = got.split(' ').collect();
        assert_eq!((verdict.as_str(), words[3]), ("redirect", family.there));
        assert_eq!(ends(words[1]).ip(), address(family.node), "{got}");
        assert_eq!(lab.counter(Counter::TunnelSent), 0);
    }
}

#[test]
fn clients_of_this_node_and_backends_here_need_no_tunnel() {
    for family in FAMILIES {
        let pod = family.here.replace(":8080", ":4000");
        for (at, client, backend) in [
            (At::Pod, pod.as_str(), family.there),
            (At::Uplink, family.client, family.here),
        ] {
            let mut lab = family.lab("udp", backend);
            assert_eq!(
                lab.run(at, &format!("udp {client} > {}", family.service)),
                format!("redirect udp {client} > {backend}")
            );
        }
    }
}

#[test]
fn a_packet_too_long_for_the_tunnel_is_answered_with_what_fits() {
    for family in FAMILIES {
        let mut lab = family.lab("udp", family.there);
        let fits = 1500 - family.header;
        let (verdict, got) = lab.run_frame(At::Uplink, &ethernet(&family.datagram(fits)));
        assert_eq!((verdict.as_str(), got.len()), ("redirect", LINK + 1500));
        for length in [fits + 1, 1500] {
            let packet = family.datagram(length);
            let (verdict, mut got) = lab.run_frame(At::Uplink, &ethernet(&packet));
            let kind = if family.header == 20 { [3, 4] } else { [2, 0] };
            let expected = icmp_error(
                ends(family.service).ip(),
                ends(family.client).ip(),
                kind,
                u32::try_from(fits).unwrap(),
                &packet[..family.header + 8],
            );
            // It goes back where the packet came from.
            got[..12].rotate_left(6);
            assert_eq!((verdict.as_str(), got), ("redirect", ethernet(&expected)));
        }
        assert_eq!(lab.counter(Counter::DropTooBig), 2);
    }
}

#[test]
fn a_tunnel_to_another_address_or_in_pieces_is_not_this_nodes() {
    for family in FAMILIES {
        let mut lab = family.lab("udp", family.here);
        let inner = &frame(&family.packet("udp"))[LINK..];
        let elsewhere = tunnel(ends(family.client).ip(), address(family.other), inner);
        let mut cases = vec![("to another node", ethernet(&elsewhere))];
        if family.header == 20 {
            // More fragments; a later fragment.
            for (what, flags) in [("first piece", [0x20, 0]), ("later piece", [0, 8])] {
                let mut piece = family.received(inner);
                piece[LINK + 6..LINK + 8].copy_from_slice(&flags);
                cases.push((what, piece));
            }
        }
        for (what, sent) in cases {
            let got = lab.run_frame(At::Uplink, &sent);
            assert_eq!(got, ("pass".to_owned(), sent), "{what}");
        }
    }
}

#[test]
fn a_policy_of_local_keeps_the_packet_here() {
    for family in FAMILIES {
        let mut lab = Lab::new();
        let backends = format!("{} {}", family.here, family.there);
        lab.service_with("udp", family.service, &backends, |unit| {
            family.direct(unit);
            let frontends = std::sync::Arc::clone(&unit.frontends);
            unit.frontends = frontends
                .iter()
                .copied()
                .map(|mut frontend| {
                    frontend.outside = Pool::Local;
                    frontend
                })
                .collect();
        });
        for port in 4000..4020 {
            let client = SocketAddr::new(ends(family.client).ip(), port);
            assert_eq!(
                lab.run(At::Uplink, &format!("udp {client} > {}", family.service)),
                format!("redirect udp {client} > {}", family.here)
            );
        }
    }
}

#[test]
fn an_error_about_an_answer_follows_its_connection_to_the_backends_node() {
    for family in FAMILIES {
        let (kind, router) = if family.header == 20 {
            ([3, 4], "172.31.9.254")
        } else {
            ([2, 0], "fd00::98")
        };
        let (service, client) = (ends(family.service), ends(family.client));
        let error = |receiver: SocketAddr, answer: &[u8]| {
            let quoted = &answer[..family.header + 8];
            icmp_error(address(router), receiver.ip(), kind, 1400, quoted)
        };
        let answer = udp(service, client, &[7; 16]);
        let comes = error(service, &answer);
        let mut lab = family.lab("udp", family.there);
        lab.run_frame(At::Uplink, &frame(&family.packet("udp")));
        let (verdict, got) = lab.run_frame(At::Uplink, &ethernet(&comes));
        let sent = tunnel(address(family.node), address(family.other), &comes);
        assert_eq!((verdict.as_str(), got), ("redirect", ethernet(&sent)));

        let mut lab = family.lab("udp", family.here);
        let inner = frame(&family.packet("udp"));
        // Of the second one at the latest, the client is known.
        for _ in 0..2 {
            lab.run_frame(At::Uplink, &family.received(&inner[LINK..]));
        }
        let (_, got) = lab.run_frame(At::Uplink, &family.received(&comes));
        let here = ends(family.here);
        let expected = error(here, &with_ends(&answer, here, client));
        assert_eq!(got, ethernet(&expected));
        assert_eq!(lab.counter(Counter::ErrorsTranslated), 1);
    }
}

#[test]
fn a_tunnel_that_carries_nothing_for_a_frontend_is_left_to_the_node() {
    for family in FAMILIES {
        let mut lab = family.lab("udp", family.here);
        for destination in [family.here, family.client] {
            let inner = udp(ends(family.client), ends(destination), &[7; 16]);
            let sent = family.received(&inner);
            let got = lab.run_frame(At::Uplink, &sent);
            assert_eq!(got, ("pass".to_owned(), sent), "{destination}");
        }
        assert_eq!(lab.counter(Counter::TunnelReceived), 0);
    }
}

#[test]
fn a_tunnel_from_anybody_but_a_node_is_left_to_the_node() {
    for family in FAMILIES {
        let mut lab = family.lab("udp", family.here);
        let inner = udp(ends(family.client), ends(family.service), &[7; 16]);
        let stranger = ends(family.client).ip();
        let sent = ethernet(&tunnel(stranger, address(family.node), &inner));
        let got = lab.run_frame(At::Uplink, &sent);
        assert_eq!(got, ("pass".to_owned(), sent));
        assert_eq!(lab.counter(Counter::TunnelReceived), 0);
    }
}

#[test]
fn datagrams_that_go_on_for_a_second_are_none_of_a_flood() {
    for family in &FAMILIES {
        let mut lab = family.lab("udp", family.there);
        let packet = frame(&family.packet("udp"));
        let mut promoted = Vec::new();
        for wait in [0, 0, 1_050] {
            std::thread::sleep(std::time::Duration::from_millis(wait));
            let (verdict, _) = lab.run_frame(At::Uplink, &packet);
            assert_eq!(verdict, "redirect");
            promoted.push(lab.counter(Counter::ConnectionsPromoted));
        }
        assert_eq!(promoted, [0, 0, 1], "{}", family.client);
    }
}
