//! The edge path: what `edge` sends on before the stack has it, and what it leaves to the tc
//! programs.

use agent::desired::{Choice, LbService};
use agent::lb::ebpf::attach::{Side, Target};
use agent::lb::ebpf::xdp::Edge;
use agent_abi::counters::Counter;
use aya::programs::{TestRun as _, TestRunOptions};
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use expect_test::expect;
use model::{SessionAffinity, SourceRanges};

use crate::lab::{At, Lab, backend, index, network, set_direct, set_nodes};
use crate::packet::{describe, frame};

/// The nodes of the backends, in reach of the uplink, and a second uplink to another one.
const NETWORK: &str = "
link set uplink address 02:00:00:00:00:11
neigh add 172.31.0.2 lladdr 02:00:00:00:00:22 dev uplink nud permanent
neigh add 172.31.0.3 lladdr 02:00:00:00:00:33 dev uplink nud permanent
neigh add fd00::2 lladdr 02:00:00:00:00:22 dev uplink nud permanent
link add uplink2 type veth peer name switch2
link set uplink2 up
link set switch2 up
addr add 172.31.1.1/24 dev uplink2
neigh add 172.31.1.4 lladdr 02:00:00:00:00:44 dev uplink2 nud permanent
";
const LINK_HEADER: usize = 14;
const PACKET: &str = "tcp 198.51.100.9:4000 > 192.0.2.10:80 S";

/// Keeps what it is attached to, as the agent does.
pub(crate) struct Node {
    pub(crate) lab: Lab,
    edge: Edge,
}

impl Node {
    pub(crate) fn new() -> Self {
        let mut lab = Lab::new();
        network(NETWORK);
        let links = lab.directory("links");
        std::fs::create_dir(&links).unwrap();
        let mut edge = Edge::new(links);
        let targets = [target(lab.uplink, "uplink")];
        let refused = edge.follow(lab.programs(), &targets);
        assert!(refused.is_empty(), "{refused:?}");
        Self { lab, edge }
    }

    /// Runs a frame; the answer is the verdict and the frame that comes out.
    #[track_caller]
    pub(crate) fn run(&mut self, frame: &[u8]) -> (&'static str, Vec<u8>) {
        // `xdp_md` of linux/bpf.h: `data_end` and `ingress_ifindex` are its second and fourth word.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&u32::try_from(frame.len()).unwrap().to_ne_bytes());
        context[12..16].copy_from_slice(&self.lab.uplink.to_ne_bytes());
        let mut out = vec![0; frame.len() + 128];
        let program = self.lab.programs().xdp("edge").unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        let verdict = match result.return_value {
            1 => "drop",
            2 => "pass",
            3 => "transmit",
            4 => "redirect",
            other => panic!("verdict {other}"),
        };
        (verdict, out)
    }

    /// The same as text, with the tunnel around the packet.
    #[track_caller]
    fn send(&mut self, packet: &str) -> String {
        let (verdict, out) = self.run(&frame(packet));
        match verdict {
            "drop" => verdict.to_owned(),
            "pass" => format!("pass {}", describe(&out)),
            _ => format!("{verdict} {}", describe_tunnel(&out)),
        }
    }
}

fn target(index: u32, name: &str) -> Target {
    Target {
        index,
        name: name.into(),
        side: Side::Uplink,
    }
}

/// With direct server return by hash, and the backends of one network on one node.
pub(crate) fn direct(unit: &mut LbService) {
    unit.choice = Choice::Hash {
        source: true,
        port: true,
        destination: true,
    };
    set_direct(unit, true);
    set_nodes(unit, |backend| {
        let address = backend.address.to_string();
        [
            ("10.244.2.", "172.31.0.2"),
            ("10.244.3.", "172.31.0.3"),
            ("10.244.4.", "172.31.1.4"),
            ("10.244.5.", "172.31.0.5"),
            ("fd00:20:", "fd00::2"),
        ]
        .into_iter()
        .find(|(network, _)| address.starts_with(network))
        .map(|(_, node)| node.parse().unwrap())
    });
}

#[track_caller]
fn describe_tunnel(frame: &[u8]) -> String {
    let (link, packet) = frame.split_at(LINK_HEADER);
    let macs = format!("{:02x?} > {:02x?}", link[11], link[5]);
    let (outer, inner) = if link[12..] == [0x08, 0x00] {
        let (header, inner) = Ipv4Header::from_slice(packet).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(header.protocol, IpNumber::IPV4);
        assert_eq!(usize::from(header.total_len), packet.len());
        let text = format!("{:?} > {:?}", header.source, header.destination);
        (text, inner)
    } else {
        let (header, inner) = Ipv6Header::from_slice(packet).unwrap();
        assert_eq!(header.next_header, IpNumber::IPV6);
        assert_eq!(usize::from(header.payload_length), inner.len());
        let (source, destination) = (header.source_addr(), header.destination_addr());
        (format!("{source} > {destination}"), inner)
    };
    let inner = [link, inner].concat();
    format!("{macs}, {outer}, {}", describe(&inner))
}

#[test]
fn packets_leave_in_a_tunnel_to_the_backends_node() {
    let mut node = Node::new();
    node.lab
        .service_with("tcp", "192.0.2.10:80", "10.244.2.7:8080", direct);
    node.lab
        .service_with("udp", "[fd00:1b::10]:53", "[fd00:20::7]:53", direct);
    expect!["transmit 11 > 22, [172, 31, 0, 1] > [172, 31, 0, 2], tcp 198.51.100.9:4000 > 192.0.2.10:80 S"]
        .assert_eq(&node.send(PACKET));
    expect!["transmit 11 > 22, fd00::1 > fd00::2, udp [2001:db8::9]:4000 > [fd00:1b::10]:53"]
        .assert_eq(&node.send("udp [2001:db8::9]:4000 > [fd00:1b::10]:53"));
    let counters = [
        Counter::XdpSent,
        Counter::TunnelSent,
        Counter::PacketConnections,
    ];
    assert_eq!(counters.map(|c| node.lab.counter(c)), [2, 2, 2]);
}

#[test]
fn every_packet_goes_where_the_tc_program_sends_it() {
    let mut node = Node::new();
    // Of two that differ in their address alone, which is not asked, no entry of one speaks for the other.
    for address in ["192.0.2.10:80", "192.0.2.11:80"] {
        let backends = "10.244.2.7:80 10.244.3.7:80 10.244.3.8:80";
        node.lab.service_with("tcp", address, backends, |unit| {
            direct(unit);
            unit.choice = Choice::Hash {
                source: true,
                port: true,
                destination: false,
            };
        });
    }
    let mut nodes = std::collections::BTreeSet::new();
    for port in 4000..4064 {
        let packet = frame(&format!("tcp 198.51.100.9:{port} > 192.0.2.10:80 S"));
        let (verdict, early) = node.run(&packet);
        assert_eq!(verdict, "transmit");
        let other = frame(&format!("tcp 198.51.100.9:{port} > 192.0.2.11:80 S"));
        let (_, by_tc) = node.lab.run_frame(At::Uplink, &other);
        assert_eq!(node_of(&early), node_of(&by_tc), "port {port}");
        let (verdict, late) = node.lab.run_frame(At::Uplink, &packet);
        assert_eq!(verdict, "redirect");
        assert_eq!(early[LINK_HEADER..], late[LINK_HEADER..], "port {port}");
        // Now there is an entry, which says the same.
        assert_eq!(node.run(&packet), ("transmit", early.clone()));
        nodes.insert(early[5]);
    }
    assert_eq!(nodes.len(), 2);
}

/// The address of the node that a packet in a tunnel goes to.
fn node_of(packet: &[u8]) -> &[u8] {
    &packet[LINK_HEADER + 16..LINK_HEADER + 20]
}

#[test]
fn a_connection_keeps_its_backend_while_others_come_and_go() {
    let mut node = Node::new();
    let sets = [
        "10.244.2.7:80 10.244.3.7:80",
        "10.244.2.7:80 10.244.3.7:80 10.244.3.8:80 10.244.3.9:80",
        "10.244.3.9:80",
    ];
    let id = node
        .lab
        .service_with("tcp", "192.0.2.10:80", sets[0], direct);
    let syn = |port| frame(&format!("tcp 198.51.100.9:{port} > 192.0.2.10:80 S"));
    let segment = |port| frame(&format!("tcp 198.51.100.9:{port} > 192.0.2.10:80 A"));
    let begun: Vec<_> = (4000..4064).map(|port| node.run(&syn(port))).collect();
    for set in &sets[1..] {
        node.lab.change(id, |unit| {
            unit.backends = set.split(' ').map(backend).collect();
            direct(unit);
        });
        for (port, (verdict, first)) in (4000..).zip(&begun) {
            let (now, packet) = node.run(&segment(port));
            assert_eq!((now, node_of(&packet)), (*verdict, node_of(first)), "{set}");
        }
        // One that nobody has seen goes where the packet says, and so does a new one.
        for new in [segment(5000), syn(5001)] {
            assert_eq!(node.run(&new).0, "transmit");
        }
    }
}

#[test]
fn an_entry_decides_where_the_choice_is_not_by_the_packet_alone() {
    let random = |unit: &mut LbService| unit.choice = Choice::Random;
    let sticky = |unit: &mut LbService| {
        unit.affinity = SessionAffinity::ClientIp {
            timeout: std::time::Duration::from_secs(60),
        };
    };
    for change in [&random as &dyn Fn(&mut LbService), &sticky] {
        let mut node = Node::new();
        let backends = "10.244.2.7:80 10.244.3.7:80";
        node.lab
            .service_with("tcp", "192.0.2.10:80", backends, |unit| {
                direct(unit);
                change(unit);
            });
        assert_eq!(node.send(PACKET), format!("pass {PACKET}"));
        let (_, late) = node.lab.run_frame(At::Uplink, &frame(PACKET));
        let (verdict, early) = node.run(&frame(PACKET));
        assert_eq!(verdict, "transmit");
        assert_eq!(early[LINK_HEADER..], late[LINK_HEADER..]);
    }
}

#[test]
fn services_that_are_not_for_the_edge_are_left_to_tc() {
    let nothing = |_: &mut LbService| {};
    let indirect = |unit: &mut LbService| set_direct(unit, false);
    let no_node = |unit: &mut LbService| set_nodes(unit, |_| None);
    for (what, backends, change) in [
        (
            "no direct return",
            "10.244.2.7:80",
            &indirect as &dyn Fn(&mut LbService),
        ),
        ("a local backend", "10.244.1.5:80", &nothing),
        ("no endpoint", "", &nothing),
        ("a node that is not known", "10.244.2.7:80", &no_node),
        ("a neighbour that is not known", "10.244.5.7:80", &nothing),
        ("an uplink without XDP", "10.244.4.7:80", &nothing),
    ] {
        let mut node = Node::new();
        node.lab
            .service_with("tcp", "192.0.2.10:80", backends, |unit| {
                direct(unit);
                change(unit);
            });
        assert_eq!(node.send(PACKET), format!("pass {PACKET}"), "{what}");
        assert_eq!(node.lab.counter(Counter::XdpSent), 0, "{what}");
    }
}

#[test]
fn packets_that_need_more_are_left_to_tc_untouched() {
    let mut node = Node::new();
    node.lab
        .service_with("tcp", "192.0.2.10:80", "10.244.2.7:80", direct);
    node.lab
        .service_with("udp", "[fd00:1b::10]:53", "[fd00:20::7]:53", direct);
    let changed = |packet: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = frame(packet);
        change(&mut bytes);
        bytes
    };
    let v4 = |change: &dyn Fn(&mut Vec<u8>)| changed(PACKET, change);
    let v6 = |change: &dyn Fn(&mut Vec<u8>)| {
        changed("udp [2001:db8::9]:4000 > [fd00:1b::10]:53", change)
    };
    for (what, packet) in [
        (
            "another Service",
            frame("tcp 198.51.100.9:4000 > 192.0.2.10:81 S"),
        ),
        ("a first fragment", v4(&|p| p[20] |= 0x20)),
        ("a later fragment", v4(&|p| p[21] = 4)),
        (
            "IP options",
            v4(&|p| {
                p[14] = 0x46;
                p.splice(34..34, [1; 4]);
            }),
        ),
        (
            "a VLAN tag",
            v4(&|p| drop(p.splice(12..12, [0x81, 0, 0, 5]))),
        ),
        ("ICMP", v4(&|p| p[23] = 1)),
        ("a tunnel", v4(&|p| p[23] = 4)),
        ("ARP", v4(&|p| p[13] = 6)),
        ("less than it says", v4(&|p| p[17] += 1)),
        ("less than a header says", v4(&|p| p[17] = 19)),
        ("half a TCP header", v4(&|p| p.truncate(40))),
        ("half an IP header", v4(&|p| p.truncate(30))),
        (
            "an extension header",
            v6(&|p| {
                p[20] = 60;
                p.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
            }),
        ),
        ("half an IPv6 header", v6(&|p| p.truncate(50))),
        ("too big for the tunnel", long(1481)),
    ] {
        assert_eq!(node.run(&packet), ("pass", packet), "{what}");
    }
    assert_eq!(node.lab.counter(Counter::XdpSent), 0);
    assert_eq!(node.run(&long(1480)).0, "transmit");
}

/// An IPv4 packet of this many bytes.
fn long(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([198, 51, 100, 9], [192, 0, 2, 10], 60)
        .tcp(4000, 80, 1000, 64_000)
        .syn()
        .write(&mut bytes, &vec![0; length - 40])
        .unwrap();
    bytes
}

#[test]
fn padding_of_a_short_frame_does_not_go_into_the_tunnel() {
    let mut node = Node::new();
    node.lab
        .service_with("tcp", "192.0.2.10:80", "10.244.2.7:80", direct);
    let mut packet = frame(PACKET);
    let length = u8::try_from(packet.len() - LINK_HEADER + 20).unwrap();
    packet.resize(60, 0);
    let (verdict, out) = node.run(&packet);
    assert_eq!((verdict, &out[16..18]), ("transmit", &[0, length][..]));
}

#[test]
fn a_connection_that_is_translated_here_stays_with_tc() {
    let mut node = Node::new();
    let id = node
        .lab
        .service_with("tcp", "192.0.2.10:80", "10.244.1.5:80", direct);
    node.lab.run_frame(At::Uplink, &frame(PACKET));
    node.lab.change(id, |unit| {
        let added = [backend("10.244.2.7:80")];
        unit.backends = unit.backends.iter().copied().chain(added).collect();
        direct(unit);
    });
    let segment = PACKET.replace('S', "A");
    assert_eq!(node.send(&segment), format!("pass {segment}"));
    let translated = node.lab.run(At::Uplink, &segment);
    assert!(translated.contains("> 10.244.1.5:80"), "{translated}");
}

#[test]
fn clients_out_of_the_source_ranges_are_dropped_of_any_service() {
    for direct_return in [true, false] {
        let mut node = Node::new();
        node.lab
            .service_with("tcp", "203.0.113.10:80", "10.244.2.7:80", |unit| {
                direct(unit);
                set_direct(unit, direct_return);
                unit.sources = SourceRanges::Only(vec!["198.51.100.8/29".parse().unwrap()]);
            });
        let inside = node.send("tcp 198.51.100.9:4000 > 203.0.113.10:80 S");
        let expected = if direct_return { "transmit" } else { "pass" };
        assert!(inside.starts_with(expected), "{inside}");
        let outside = "tcp 198.51.100.16:4000 > 203.0.113.10:80 S";
        assert_eq!(node.send(outside), "drop");
        assert_eq!(node.lab.counter(Counter::DropSourceRange), 1);
    }
}

#[test]
fn another_uplink_is_used_once_it_is_attached_too_and_no_longer_when_it_is_not() {
    let mut node = Node::new();
    node.lab
        .service_with("tcp", "192.0.2.10:80", "10.244.4.7:80", direct);
    let both = [
        target(node.lab.uplink, "uplink"),
        target(index("uplink2"), "uplink2"),
    ];
    let refused = node.edge.follow(node.lab.programs(), &both);
    assert!(refused.is_empty(), "{refused:?}");
    let sent = node.send(PACKET);
    assert!(sent.starts_with("redirect "), "{sent}");
    assert!(sent.contains("> [172, 31, 1, 4]"), "{sent}");
    node.edge.follow(node.lab.programs(), &both[..1]);
    assert_eq!(node.send(PACKET), format!("pass {PACKET}"));
}
