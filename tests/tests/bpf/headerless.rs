//! The program at a device without Ethernet headers. IPIP's has none, and neither has TUN, which every
//! kernel can make; the kernel runs programs on their own with such headers alone.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use agent::lb::ebpf::attach::{Attachments, Mode, Side, Target};
use agent::sys::map::Owned;
use agent_abi::counters::Counter;
use agent_abi::tunnel::TUNNELS_MAP;
use etherparse::{TcpHeaderSlice, TcpOptionElement};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use tests::harness::Tun;
use tests::packets::is_valid_packet;

use crate::lab::{Lab, index, network};
use crate::segments::{ASKED, TIMESTAMPS, mss, segment};
use crate::wire::LINK;

const HERE: &str = "10.9.0.1:4000";
const THERE: &str = "10.9.0.2:80";
/// The device takes 1,500 bytes itself, so that nobody else makes anything shorter.
const LONGEST: u32 = 1480;
const FITTING: [u8; 2] = 1440_u16.to_be_bytes();
const V4_HEADER: usize = 20;
const TCP: u8 = 6;

struct Node {
    lab: Lab,
    tun: Tun,
    attachments: Attachments,
    target: Target,
}

impl Node {
    #[track_caller]
    fn new(mode: Mode) -> Self {
        let mut lab = Lab::new();
        let tun = Tun::new("tun").unwrap();
        network(
            "addr add 10.9.0.1/24 dev tun\naddr add fd00:9::1/64 dev tun nodad\nlink set tun up",
        );
        let target = Target {
            index: index("tun"),
            name: "tun".into(),
            side: Side::Tunnel,
        };
        let mut attachments = Attachments::new(lab.directory("links"), mode).unwrap();
        let errors = attachments.follow(lab.programs(), std::slice::from_ref(&target));
        assert!(errors.is_empty(), "{errors:?}");
        let mut node = Self {
            lab,
            tun,
            attachments,
            target,
        };
        node.fit(Some(LONGEST));
        node
    }

    /// Says how long packets may be.
    #[track_caller]
    fn fit(&mut self, longest: Option<u32>) {
        let mut tunnels = Owned::open(&self.lab.pins, TUNNELS_MAP).unwrap();
        let wanted = longest.map(|longest| (self.target.index, longest));
        tunnels.follow(wanted.into_iter().collect()).unwrap();
    }

    /// Has the node send a packet, and takes what leaves.
    #[track_caller]
    fn pass(&mut self, packet: &[u8]) -> Vec<u8> {
        let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap();
        let to: SocketAddr = THERE.parse().unwrap();
        sendto(&socket, packet, SendFlags::empty(), &to).unwrap();
        let length = packet.len();
        let is_it = |found: &[u8]| found.first() == Some(&packet[0]) && found.len() == length;
        self.tun.next(is_it).unwrap()
    }

    /// What the node's own connection to an address asks for.
    #[track_caller]
    fn asks(&mut self, to: &str) -> u16 {
        let to: SocketAddr = to.parse().unwrap();
        let header = if to.is_ipv6() { 40 } else { V4_HEADER };
        // Nobody answers.
        let connect = move || TcpStream::connect_timeout(&to, Duration::from_millis(100)).is_ok();
        assert!(!thread::spawn(connect).join().unwrap());
        let protocol = if to.is_ipv6() { 6 } else { 9 };
        let version = if to.is_ipv6() { 6 } else { 4 };
        let is_tcp = |found: &[u8]| found[0] >> 4 == version && found[protocol] == TCP;
        let packet = self.tun.next(is_tcp).unwrap();
        assert!(is_valid_packet(&packet), "{packet:?}");
        let tcp = TcpHeaderSlice::from_slice(&packet[header..]).unwrap();
        let mut options = tcp.options_iterator();
        options
            .find_map(|option| match option {
                Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
                _ => None,
            })
            .unwrap()
    }
}

fn packet(flags: &str, options: &[u8]) -> Vec<u8> {
    segment(HERE, THERE, flags, options)[LINK..].to_vec()
}

#[test]
fn what_leaves_without_an_ethernet_header_asks_for_segments_that_fit() {
    for mode in [Mode::Tcx, Mode::Clsact] {
        let mut node = Node::new(mode);
        let pins = std::fs::read_dir(node.lab.directory("links")).unwrap();
        assert_eq!(pins.count(), usize::from(mode == Mode::Tcx), "egress alone");
        assert!(node.attachments.forget_lost(true).unwrap().is_empty());
        assert_eq!(node.asks("10.9.0.3:80"), 1440, "{mode:?}");
        assert_eq!(node.asks("[fd00:9::2]:80"), 1440, "IPIP carries no IPv6");
        node.fit(None);
        assert_eq!(node.asks("10.9.0.4:80"), 1460, "{mode:?}");
    }
}

#[test]
fn options_are_found_wherever_they_are() {
    let mut node = Node::new(Mode::of_this_kernel());
    let mut clamped = 0;
    for flags in ["S", "SA"] {
        for place in 0..4 {
            for ip_options in [0, 4, 40] {
                let whole = |value| {
                    let mut options = vec![1; place];
                    options.extend(mss(value));
                    options.extend(TIMESTAMPS);
                    with_ip_options(&packet(flags, &options), ip_options)
                };
                let got = node.pass(&whole(ASKED));
                assert!(is_valid_packet(&got), "{got:?}");
                // The kernel gives the IPv4 header an identification.
                let header = V4_HEADER + ip_options;
                let wanted = whole(FITTING);
                assert_eq!(got[header..], wanted[header..], "{flags} {place}");
                clamped += 1;
                assert_eq!(node.lab.counter(Counter::SegmentsClamped), clamped);
            }
        }
    }
}

/// Nothing, over and over, in front of the transport header.
fn with_ip_options(packet: &[u8], length: usize) -> Vec<u8> {
    let (header, rest) = packet.split_at(V4_HEADER);
    let mut with = [header, &vec![1; length], rest].concat();
    with[0] = 0x40 | u8::try_from((V4_HEADER + length) / 4).unwrap();
    with
}

#[test]
fn everything_else_leaves_as_it_is_without_an_ethernet_header_too() {
    let mut node = Node::new(Mode::of_this_kernel());
    let question = packet("S", &mss(ASKED));
    let changed = |at: usize, value: u8| {
        let mut packet = question.clone();
        packet[at] = value;
        packet
    };
    for (what, sent) in [
        ("as long as it may be", packet("S", &mss(FITTING))),
        ("shorter", packet("S", &mss([1, 0]))),
        ("asks for none", packet("S", &TIMESTAMPS)),
        ("no options", packet("S", &[])),
        ("begins nothing", packet("A", &mss(ASKED))),
        (
            "behind the end",
            packet("S", &[&[0; 4][..], &mss(ASKED)].concat()),
        ),
        ("an option without end", packet("S", &[1, 1, 1, 2])),
        ("another length", packet("S", &[2, 3, 5, 1])),
        ("UDP", changed(9, 17)),
        ("a later fragment", changed(7, 1)),
        ("cut off in the header", question[..V4_HEADER + 13].to_vec()),
        ("cut off in the option", question[..V4_HEADER + 22].to_vec()),
        ("nothing but IP", question[..V4_HEADER].to_vec()),
    ] {
        let got = node.pass(&sent);
        assert_eq!(got[V4_HEADER..], sent[V4_HEADER..], "{what}");
    }
    assert_eq!(node.lab.counter(Counter::SegmentsClamped), 0);
    assert_eq!(node.asks("10.9.0.9:80"), 1440, "the program is there");
}
