//! Which source address a backend sees, and that replies find their way back.

use std::collections::BTreeSet;

use agent::sys::clock;
use agent::sys::map::Table;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_CLOSING, CONNECTION_PAD, CONNECTIONS_MAP, ConnectionV3,
    EPOCH_UNJUDGED, OPENING_MAP, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::settings::SETTING_MASQUERADE_ALL;
use expect_test::expect;
use model::Protocol;

use crate::lab::{At, Lab, address};

/// Takes the source apart from `redirect udp SOURCE > DESTINATION`.
fn source(packet: &str) -> String {
    packet.split_whitespace().nth(2).unwrap().to_owned()
}

#[test]
fn node_port_with_a_local_backend_keeps_the_clients_address() {
    let mut lab = Lab::new();
    lab.service("udp", "172.31.0.1:30053", "10.244.1.5:53");
    expect!["redirect udp 172.31.9.9:4000 > 10.244.1.5:53"]
        .assert_eq(&lab.run(At::Uplink, "udp 172.31.9.9:4000 > 172.31.0.1:30053"));
    expect!["redirect udp 172.31.0.1:30053 > 172.31.9.9:4000"]
        .assert_eq(&lab.run(At::Pod, "udp 10.244.1.5:53 > 172.31.9.9:4000"));
}

#[test]
fn node_port_with_a_remote_backend_has_the_nodes_address_and_a_free_port() {
    for (service, client, node, backend) in [
        (
            "172.31.0.1:30080",
            "172.31.9.9:4000",
            "172.31.0.1",
            "10.244.2.7:80",
        ),
        (
            "[fd00::1]:30080",
            "[fd00::99]:4000",
            "[fd00::1]",
            "[fd00:20::7]:80",
        ),
    ] {
        let mut lab = Lab::new();
        lab.service("tcp", service, backend);
        let there = lab.run(At::Uplink, &format!("tcp {client} > {service} S"));
        let translated = source(&there);
        let (address, port) = translated.rsplit_once(':').unwrap();
        assert_eq!(address, node);
        assert!(
            (1024..30_000).contains(&port.parse().unwrap()),
            "{translated}"
        );
        assert_eq!(there, format!("redirect tcp {translated} > {backend} S"));
        assert_eq!(
            lab.run(At::Uplink, &format!("tcp {backend} > {translated} SA")),
            format!("redirect tcp {service} > {client} SA")
        );
    }
}

#[test]
fn a_pod_that_gets_itself_sees_the_services_address() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.1.5:8080");
    expect!["redirect tcp 10.96.0.10:4000 > 10.244.1.5:8080 S"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S"));
    expect!["redirect tcp 10.96.0.10:80 > 10.244.1.5:4000 SA"]
        .assert_eq(&lab.run(At::Pod, "tcp 10.244.1.5:8080 > 10.96.0.10:4000 SA"));
}

#[test]
fn masquerade_all_hides_the_pod() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:80");
    lab.configure(SETTING_MASQUERADE_ALL, [0; 16], 0);
    let there = lab.run(At::Pod, "tcp 10.244.1.5:4000 > 10.96.0.10:80 S");
    let translated = source(&there);
    assert!(translated.starts_with("172.31.0.1:"), "{there}");
    assert_eq!(
        lab.run(At::Uplink, &format!("tcp 10.244.2.7:80 > {translated} SA")),
        "redirect tcp 10.96.0.10:80 > 10.244.1.5:4000 SA"
    );
}

#[test]
fn cluster_cidr_masquerades_cluster_ip_clients_from_outside_it_only() {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.1.5:80");
    lab.configure(0, address("10.244.0.0"), 96 + 16);
    let outside = lab.run(At::Uplink, "tcp 172.31.9.9:4000 > 10.96.0.10:80 S");
    assert!(source(&outside).starts_with("172.31.0.1:"), "{outside}");
    expect!["redirect tcp 10.244.3.3:4000 > 10.244.1.5:80 S"]
        .assert_eq(&lab.run(At::Uplink, "tcp 10.244.3.3:4000 > 10.96.0.10:80 S"));
}

/// A node port with one backend elsewhere, all of whose source ports are taken by connections that
/// work.
pub(crate) struct Exhausted {
    pub(crate) lab: Lab,
    table: Table<TupleV1, ConnectionV3>,
    opening: Table<TupleV1, ConnectionV3>,
}

impl Exhausted {
    pub(crate) fn new() -> Self {
        let mut lab = Lab::sized(65_536);
        lab.service("tcp", "172.31.0.1:30080", "10.244.2.7:80");
        let mut table = Table::open_lru(&lab.pins, CONNECTIONS_MAP).unwrap();
        for port in 1024..30_000 {
            table.put(reply(port), held(port)).unwrap();
        }
        let opening = Table::open_lru(&lab.pins, OPENING_MAP).unwrap();
        Self {
            lab,
            table,
            opening,
        }
    }

    /// The source port that a client's new connection gets.
    #[track_caller]
    fn connect(&mut self, client: u16) -> Option<u16> {
        let packet = format!("tcp 172.31.9.9:{client} > 172.31.0.1:30080 S");
        let got = self.lab.run(At::Uplink, &packet);
        if got == "drop" {
            return None;
        }
        let (_, port) = source(&got).rsplit_once(':').map(own).unwrap();
        Some(port.parse().unwrap())
    }

    /// Makes the connection that has a port one that ended so long ago.
    #[track_caller]
    fn end(&mut self, port: u16, milliseconds: u64) {
        self.opening.delete(reply(port)).unwrap();
        let mut value = held(port);
        value.flags |= CONNECTION_CLOSING;
        value.last_seen -= milliseconds * 1_000_000;
        self.table.put(reply(port), value).unwrap();
    }
}

fn own((address, port): (&str, &str)) -> (String, String) {
    (address.to_owned(), port.to_owned())
}

/// What the backend answers a source port with.
fn reply(port: u16) -> TupleV1 {
    TupleV1 {
        source: address("10.244.2.7"),
        destination: address("172.31.0.1"),
        source_port: 80_u16.to_be_bytes(),
        destination_port: port.to_be_bytes(),
        protocol: Protocol::Tcp.number(),
        _pad: [0; 3],
    }
}

/// Somebody else's connection with a source port.
fn held(port: u16) -> ConnectionV3 {
    ConnectionV3 {
        rewrite: TupleV1 {
            source: address("172.31.0.1"),
            source_port: 30_080_u16.to_be_bytes(),
            destination: address("172.31.9.77"),
            ..reply(port)
        },
        flags: CONNECTION_ANSWERED,
        service: 1,
        last_seen: clock::monotonic_nanoseconds(),
        epoch: EPOCH_UNJUDGED,
        interface: 0,
        backend: 1,
        host_interface: 0,
        host_mac: [0; 6],
        _pad: [0; CONNECTION_PAD],
    }
}

#[test]
fn with_every_port_taken_a_new_connection_is_dropped_and_counted() {
    let mut node = Exhausted::new();
    for client in 4000..4010 {
        assert_eq!(node.connect(client), None);
    }
    assert_eq!(node.lab.counter(Counter::DropNoPort), 10);
    // The ports of another backend are others.
    node.lab.service("tcp", "172.31.0.1:30081", "10.244.2.8:80");
    let there = node
        .lab
        .run(At::Uplink, "tcp 172.31.9.9:4000 > 172.31.0.1:30081 S");
    assert!(there.starts_with("redirect tcp 172.31.0.1:"), "{there}");
}

/// The source ports that a client's new connection tries, in order: whichever it gets is taken by
/// another, until it gets none.
fn tried(client: u16) -> Vec<u16> {
    let mut lab = Lab::new();
    lab.service("tcp", "172.31.0.1:30080", "10.244.2.7:80");
    let mut node = Exhausted {
        table: Table::open_lru(&lab.pins, CONNECTIONS_MAP).unwrap(),
        opening: Table::open_lru(&lab.pins, OPENING_MAP).unwrap(),
        lab,
    };
    let mut tried = Vec::new();
    while let Some(port) = node.connect(client) {
        assert!(tried.len() < 1000, "the search has no end");
        tried.push(port);
        node.opening.delete(reply(port)).unwrap();
        node.table.put(reply(port), held(port)).unwrap();
    }
    assert_eq!(node.lab.counter(Counter::DropNoPort), 1);
    tried
}

#[test]
fn a_free_port_is_searched_in_blocks_that_are_the_clients_and_not_for_ever() {
    const FIRST: u16 = 1024;
    const BLOCK: u16 = 64;
    const PER_BLOCK: usize = 8;
    const ATTEMPTS: usize = 16;
    let clients = [4000, 4001, 4002, 50_000].map(tried);
    for tried in &clients {
        // A port that comes up twice is held by itself by then, so that there may be some less.
        assert!(
            (ATTEMPTS - 2..=ATTEMPTS).contains(&tried.len()),
            "{tried:?}"
        );
        let blocks: Vec<u16> = tried
            .iter()
            .skip(1)
            .map(|port| (port - FIRST) / BLOCK)
            .collect();
        let distinct: BTreeSet<_> = blocks.iter().collect();
        assert!(distinct.len() <= ATTEMPTS / PER_BLOCK, "{blocks:?}");
        assert!(distinct.len() > 1, "{blocks:?}");
        let first = blocks.iter().take_while(|block| **block == blocks[0]);
        assert_eq!(first.count(), PER_BLOCK - 1, "{blocks:?}");
    }
    // The places where the ports of one address begin are as far apart as the ports.
    assert_eq!(clients[0][0] + 1, clients[1][0]);
    assert_eq!(clients[1][0] + 1, clients[2][0]);
    // Clients look in blocks of their own: what one finds taken says nothing of another's.
    let sets = clients.map(|tried| tried.into_iter().skip(1).collect::<BTreeSet<_>>());
    for (index, one) in sets.iter().enumerate() {
        for other in &sets[index + 1..] {
            assert!(
                one.intersection(other).count() <= PER_BLOCK,
                "{one:?} {other:?}"
            );
        }
    }
}

#[test]
fn a_port_whose_connection_has_ended_goes_to_another_client() {
    const PORT: u16 = 20_000;
    /// Clients to look at; each tries a few ports, so one in some thousands asks for that one.
    const CLIENTS: usize = 12;
    let mut node = Exhausted::new();
    let mut clients = Vec::new();
    node.end(PORT, 11_000);
    for client in 1..60_000 {
        let Some(port) = node.connect(client) else {
            continue;
        };
        assert_eq!(port, PORT);
        clients.push(client);
        node.end(PORT, 11_000);
        if clients.len() == CLIENTS {
            break;
        }
    }
    assert_eq!(clients.len(), CLIENTS, "{clients:?}");
    // Less than a while: it may still send. Quiet for a while: who finds nothing else gets it, at its
    // later attempts. After the time that is asked for, everybody.
    for (milliseconds, expected) in [(0, 0..=0), (1500, 0..=0), (3000, 1..=CLIENTS - 1)] {
        let given = clients.iter().filter(|client| {
            node.end(PORT, milliseconds);
            node.connect(**client).is_some()
        });
        let given = given.count();
        assert!(expected.contains(&given), "{milliseconds} ms: {given}");
    }
}
