//! Datagrams in pieces that come in no order, to Services and back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use tests::harness::{Lab, ServiceSpec};

use crate::cluster::{Cluster, web};
use crate::pieces::cut;

/// Where the backend answers; no other server of the lab does.
const SERVER: u16 = 7070;
const PATIENCE: Duration = Duration::from_secs(2);
/// Data of a fragment on an Ethernet of 1500 bytes, with an IPv6 fragment header.
const PIECE: usize = 1448;

/// One end: its datagrams leave in pieces, in the order it is told, and come as its kernel has put
/// them together.
struct End {
    address: SocketAddr,
    received: UdpSocket,
    sent: OwnedFd,
}

impl End {
    fn at(lab: &Lab, name: &str, v6: bool, port: u16) -> Self {
        let address = SocketAddr::new(lab.address(name, v6), port);
        let open = || -> Result<Self> {
            let family = match v6 {
                true => AddressFamily::INET6,
                false => AddressFamily::INET,
            };
            let received = UdpSocket::bind(address).context("cannot bind")?;
            received.set_read_timeout(Some(PATIENCE))?;
            // Its packets bring their own IP header (raw(7)).
            let sent = socket(family, SocketType::RAW, Some(ipproto::RAW))?;
            Ok(Self {
                address,
                received,
                sent,
            })
        };
        lab.place(name).namespace.run(open).unwrap()
    }

    fn send(&self, to: SocketAddr, payload: &[u8], order: fn(&mut Vec<Vec<u8>>)) {
        let builder = match (self.address.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            ends => panic!("{ends:?} mix families"),
        };
        let builder = builder.udp(self.address.port(), to.port());
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        let mut pieces = cut(&packet, PIECE, self.address.port() ^ to.port(), None);
        order(&mut pieces);
        for piece in pieces {
            let to = SocketAddr::new(to.ip(), 0);
            sendto(&self.sent, &piece, SendFlags::empty(), &to).unwrap();
        }
    }

    #[track_caller]
    fn receive(&self, what: &str) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_536];
        let (length, from) = self
            .received
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        buffer.truncate(length);
        (buffer, from)
    }
}

fn payload(length: usize, seed: usize) -> Vec<u8> {
    let byte = |at| u8::try_from((at * 7 + seed) % 251).unwrap();
    (0..length).map(byte).collect()
}

type Order = (&'static str, fn(&mut Vec<Vec<u8>>));
const ORDERS: [Order; 3] = [
    ("in order", |_| {}),
    ("reversed", |pieces| pieces.reverse()),
    // Half of the later ones, the first one, the rest.
    ("shuffled", |pieces| {
        let half = pieces.len() / 2;
        pieces[..=half].reverse();
    }),
];

/// Sends datagrams from one place to an address, and answers of the same length back.
#[track_caller]
fn exchange(lab: &Lab, from: &str, to: SocketAddr, server: &End, ports: &mut u16) {
    for length in [4000, 8000] {
        for (name, order) in ORDERS {
            *ports += 1;
            let what = format!("{length} bytes from {from} to {to}, {name}");
            // A flow of its own, so that nothing is known of it.
            let client = End::at(lab, from, to.is_ipv6(), *ports);
            client.send(to, &payload(length, 1), order);
            let (got, seen_as) = server.receive(&what);
            assert!(got == payload(length, 1), "{what}");
            server.send(seen_as, &payload(length, 2), order);
            let (got, source) = client.receive(&format!("the answer to {what}"));
            assert!(got == payload(length, 2) && source == to, "{what}");
        }
    }
}

#[test]
fn pieces_of_a_datagram_arrive_in_any_order_and_so_do_those_of_its_answer() {
    let mut ports = 40_000;
    let there = ServiceSpec::new("there", 10).both_on_nodes(80, SERVER, 30_080);
    let here = ServiceSpec::new("here", 11).both_on_nodes(80, SERVER, 30_081);
    let (there, here) = (there.endpoints(&["b1"]), here.endpoints(&["a1"]));
    let cluster = Cluster::start(&[&there, &here]);
    let lab = &cluster.lab;
    for v6 in [false, true] {
        for (service, pod, node_port) in [(&there, "b1", 30_080), (&here, "a1", 30_081)] {
            let server = End::at(lab, pod, v6, SERVER);
            let cluster_ip = SocketAddr::new(service.ip(v6), 80);
            exchange(lab, "pod-a", cluster_ip, &server, &mut ports);
            // Where the backend is on the other node, as the node.
            let node = SocketAddr::new(lab.address("node1", v6), node_port);
            exchange(lab, "client", node, &server, &mut ports);
        }
    }
}

#[test]
fn pieces_to_the_node_itself_arrive_in_any_order() {
    let mut ports = 40_000;
    let service = web().endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let server = End::at(&cluster.lab, "node1", v6, SERVER);
        exchange(&cluster.lab, "client", server.address, &server, &mut ports);
    }
}
