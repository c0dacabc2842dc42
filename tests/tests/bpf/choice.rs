//! Which backend a connection is given to: clients that stay, hashes, weights, and a choice while
//! the pool it is made from changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use agent::desired::{Choice, LbService, Pools};
use agent::lb::ebpf::entries::address;
use agent::lb::ring::{Member, ring};
use agent::sys::map::Table;
use agent_abi::connection::TupleV1;
use agent_abi::counters::Counter;
use agent_abi::hash::of_packet;
use agent_abi::service::{
    AFFINITY_MAP, AffinityKeyV1, AffinityV1, SERVICE_HASH_DESTINATION, SERVICE_HASH_PORT,
    SERVICE_HASH_SOURCE,
};
use model::SessionAffinity;

use crate::lab::{At, Lab, backend, edit_backends};
use crate::wire::Xorshift;

const FOUR: &str = "10.244.2.1:80 10.244.2.2:80 10.244.2.3:80 10.244.2.4:80";
/// One of them.
const GONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 2, 4));
const STICKY: SessionAffinity = SessionAffinity::ClientIp {
    timeout: Duration::from_secs(10),
};

/// A node with one service of four backends whose clients stay.
fn sticky() -> (Lab, u32) {
    let mut lab = Lab::new();
    let id = lab.service_with("tcp", "10.96.0.10:80", FOUR, |unit| unit.affinity = STICKY);
    (lab, id)
}

/// The backend that a client's new connection goes to.
#[track_caller]
fn chosen(lab: &mut Lab, client: &str) -> String {
    let got = lab.run(At::Pod, &format!("tcp {client} > 10.96.0.10:80 S"));
    got.split(' ').nth(4).expect("a packet").to_owned()
}

/// Backends of forty clients, each with a port that no other call has had.
#[track_caller]
fn of_forty(lab: &mut Lab, port: u16) -> Vec<String> {
    let clients = 0..40;
    clients
        .map(|client| chosen(lab, &format!("10.244.3.{client}:{port}")))
        .collect()
}

#[test]
fn a_client_stays_with_its_backend_and_others_spread() {
    let (mut lab, _) = sticky();
    let first = of_forty(&mut lab, 4000);
    for port in 4001..4006 {
        assert_eq!(of_forty(&mut lab, port), first, "port {port}");
    }
    // Forty throws of a four-sided die miss one side once in 25,000 runs; two sides, never.
    let spread: BTreeSet<_> = first.iter().collect();
    assert!(spread.len() >= 3, "{spread:?}");
}

#[test]
fn a_changed_pool_keeps_a_clients_backend() {
    let (mut lab, id) = sticky();
    let first = of_forty(&mut lab, 4000);
    lab.change(id, |unit| {
        edit_backends(unit, |set| {
            set.extend((5..20).map(|number| backend(&format!("10.244.2.{number}:80"))))
        });
    });
    assert_eq!(of_forty(&mut lab, 4001), first);
}

#[test]
fn a_client_that_was_silent_for_too_long_is_chosen_for_anew() {
    let (mut lab, _) = sticky();
    let first = of_forty(&mut lab, 4000);
    for (ago, stays) in [(9_u16, true), (11, false)] {
        let mut table =
            Table::<AffinityKeyV1, AffinityV1>::open_lru(&lab.pins, AFFINITY_MAP).unwrap();
        for (key, mut value) in table.entries().unwrap() {
            value.last_seen -= u64::from(ago) * 1_000_000_000;
            table.put(key, value).unwrap();
        }
        let again = of_forty(&mut lab, 4000 + ago);
        let moved = first.iter().zip(&again).filter(|(was, is)| was != is);
        // Of forty that are chosen for anew, thirty move; fewer than ten, never.
        assert_eq!(moved.count() < 10, stays, "silent for {ago} s");
        let later = of_forty(&mut lab, 5000 + ago);
        assert_eq!(later, again, "silent for {ago} s, and seen since");
    }
}

#[test]
fn a_draining_backend_is_left_by_its_clients() {
    let (mut lab, id) = sticky();
    let first = of_forty(&mut lab, 4000);
    let draining = "10.244.2.1:80";
    lab.change(id, |unit| {
        let mut drained = backend(draining);
        edit_backends(unit, |set| set.retain(|backend| *backend != drained));
        drained.pools = Pools {
            cluster: false,
            local: false,
        };
        edit_backends(unit, |set| _ = set.insert(drained));
    });
    for (was, is) in first.iter().zip(of_forty(&mut lab, 4001)) {
        assert_ne!(is, draining);
        assert!(*was == is || was == draining, "{was} became {is}");
    }
}

#[test]
fn the_choice_is_a_function_of_the_packet_that_every_node_computes() {
    let hashes = [
        (true, false, false),
        (true, true, false),
        (false, false, true),
        (true, true, true),
    ];
    let services = [("10.96.0.10", "10.244.2"), ("[fd00:96::10]", "[fd00:20::")];
    let mut random = Xorshift::new(1);
    for (source, port, destination) in hashes {
        let flags = [
            (source, SERVICE_HASH_SOURCE),
            (port, SERVICE_HASH_PORT),
            (destination, SERVICE_HASH_DESTINATION),
        ];
        let flags = flags
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, flag)| flag)
            .sum();
        for (service, network) in services {
            let mut lab = Lab::new();
            let ports = [80, 443, 8080];
            let frontends = ports.map(|port| format!("{service}:{port}")).join(" ");
            let names = (1..9).map(|number| match network.strip_prefix('[') {
                Some(_) => format!("{network}{number}]:80"),
                None => format!("{network}.{number}:80"),
            });
            let backends: Vec<SocketAddr> = names.map(|name| name.parse().unwrap()).collect();
            let listed: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
            lab.service_with("udp", &frontends, &listed.join(" "), |unit| {
                unit.choice = Choice::Hash {
                    source,
                    port,
                    destination,
                };
            });
            for _ in 0..25 {
                let host = random.number();
                let client_port = 1024 + random.below(60_000_u16);
                let to = format!("{service}:{}", ports[random.below(ports.len())]);
                let client = if service.starts_with('[') {
                    let host = u128::from(host);
                    SocketAddr::new(Ipv6Addr::from(0xfd00_0030 << 96 | host).into(), client_port)
                } else {
                    let [.., c, d] = host.to_be_bytes();
                    SocketAddr::new(Ipv4Addr::new(10, 244, c, d).into(), client_port)
                };
                let got = lab.run(At::Pod, &format!("udp {client} > {to}"));
                let expected = computed(client, to.parse().unwrap(), &backends, flags);
                assert_eq!(
                    got,
                    format!("redirect udp {client} > {expected}"),
                    "to {to}"
                );
            }
        }
    }
}

/// What another node, or a packet's sender, would compute.
fn computed(
    client: SocketAddr,
    service: SocketAddr,
    backends: &[SocketAddr],
    flags: u32,
) -> SocketAddr {
    // Backends with addresses of their own are known without their ports.
    let member = |backend: &SocketAddr| Member {
        name: (address(backend.ip()), [0; 2]),
        weight: 1,
    };
    let entries = ring(&backends.iter().map(member).collect::<Vec<_>>());
    let tuple = TupleV1 {
        source: address(client.ip()),
        destination: address(service.ip()),
        source_port: client.port().to_be_bytes(),
        destination_port: service.port().to_be_bytes(),
        protocol: 17,
        _pad: [0; 3],
    };
    let hash = usize::try_from(of_packet(&tuple, flags)).unwrap();
    backends[usize::from(entries[hash % entries.len()])]
}

#[test]
fn a_hash_of_the_source_alone_does_not_see_the_port() {
    let mut lab = Lab::new();
    lab.service_with("tcp", "10.96.0.10:80", FOUR, |unit| {
        unit.choice = Choice::Hash {
            source: true,
            port: false,
            destination: false,
        };
    });
    let first = of_forty(&mut lab, 4000);
    assert_eq!(of_forty(&mut lab, 4001), first);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 4, "{first:?}");
}

#[test]
fn shares_of_connections_follow_the_weights() {
    let mut lab = Lab::new();
    lab.service_with("tcp", "10.96.0.10:80", "10.244.2.1:80", |unit| {
        let mut heavy = backend("10.244.2.2:80");
        heavy.weight = 3;
        edit_backends(unit, |set| _ = set.insert(heavy));
    });
    let mut shares = BTreeMap::new();
    for port in 10_000..10_800 {
        let backend = chosen(&mut lab, &format!("10.244.1.5:{port}"));
        *shares.entry(backend).or_insert(0_i32) += 1;
    }
    // Of 800 throws 600 with a standard deviation of 12.2; five of them is one run in a million.
    let heavy = shares["10.244.2.2:80"];
    assert!((heavy - 600).abs() < 61, "{shares:?}");
    assert_eq!(shares.values().sum::<i32>(), 800);
}

type Change<'a> = &'a dyn Fn(&mut LbService);

#[test]
fn no_connection_is_refused_while_the_ring_is_switched() {
    let of = |numbers: std::ops::Range<u8>| {
        numbers.map(|number| backend(&format!("10.244.2.{number}:80")))
    };
    let changes: [(&str, Change<'_>); 4] = [
        ("grows", &|unit| {
            edit_backends(unit, |set| set.extend(of(5..9)))
        }),
        ("shrinks", &|unit| {
            edit_backends(unit, |set| set.retain(|backend| backend.address != GONE));
        }),
        ("is another", &|unit| unit.backends = of(7..12).collect()),
        ("needs no ring", &|unit| {
            unit.affinity = SessionAffinity::None;
        }),
    ];
    let (mut lab, id) = sticky();
    let mut port = 10_000;
    for (what, change) in changes {
        let mut writes = 0;
        lab.change_watched(id, change, |lab| {
            writes += 1;
            for client in 0..8 {
                port += 1;
                let backend = chosen(lab, &format!("10.244.4.{client}:{port}"));
                assert!(
                    backend.starts_with("10.244.2."),
                    "{what}, write {writes}: {backend}"
                );
            }
        });
        assert!(writes > 0, "{what}");
    }
    assert_eq!(lab.counter(Counter::DropNoBackend), 0);
}
