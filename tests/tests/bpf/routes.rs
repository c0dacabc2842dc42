//! The node's routes: what they said a moment ago is taken for true, and no longer.

use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_abi::counters::Counter;

use crate::lab::{At, Lab, network};
use crate::packet::frame;

/// The programs take an answer for true for 100 ms; a tick of a slow clock is 10 ms.
const FORGOTTEN: Duration = Duration::from_millis(120);

const PACKET: &str = "tcp 10.244.1.5:4000 > 10.96.0.10:80 A";

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.service("tcp", "10.96.0.10:80", "10.244.2.7:8080");
    // The next hop is known, or else the kernel does not look at a packet's length.
    network("neigh add 172.31.0.254 lladdr 02:00:00:00:00:09 dev uplink");
    let first = lab.run(At::Pod, &PACKET.replace(" A", " S"));
    assert!(first.starts_with("redirect "), "{first}");
    lab
}

#[track_caller]
fn verdict(lab: &mut Lab, packet: &str) -> String {
    let outcome = lab.run(At::Pod, packet);
    outcome.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_route_that_comes_or_goes_is_soon_noticed() {
    let mut lab = lab();
    for (change, expected) in [
        ("route del default via 172.31.0.254", "pass"),
        ("route add default via 172.31.0.254", "redirect"),
    ] {
        network(change);
        let begun = Instant::now();
        // Packets in between do not make the old answer last.
        while begun.elapsed() < FORGOTTEN {
            sleep(Duration::from_millis(5));
            verdict(&mut lab, PACKET);
        }
        assert_eq!(verdict(&mut lab, PACKET), expected, "{change}");
    }
}

#[test]
fn an_answer_for_a_short_packet_is_none_for_one_that_does_not_fit() {
    let mut lab = lab();
    network("link set uplink mtu 1000");
    sleep(FORGOTTEN);
    let mut long = frame(PACKET);
    // Link-layer header and VLAN tag, which the kernel allows for.
    long.resize(1000 + 14 + 4 + 1, 0);
    for _ in 0..3 {
        assert_eq!(verdict(&mut lab, PACKET), "redirect");
        assert_eq!(lab.run_frame(At::Pod, &long).0, "pass");
    }
    long.pop();
    assert_eq!(lab.run_frame(At::Pod, &long).0, "redirect");
}

#[test]
fn a_client_of_whom_the_stack_knows_nothing_is_told_how_long_a_packet_may_be() {
    let mut lab = lab();
    // From outside, so under the node's address; out by another device, as an overlay's is.
    lab.service("udp", "10.96.0.10:53", "10.244.9.7:53");
    network(
        "link add narrow mtu 1400 type veth peer name far
link set narrow up
link set far up
addr add 10.99.0.1/24 dev narrow
neigh add 10.99.0.2 lladdr 02:00:00:00:00:0a dev narrow nud permanent
route add 10.244.9.0/24 via 10.99.0.2",
    );
    let mut packet = frame("udp 172.31.0.9:4000 > 10.96.0.10:53");
    let fits = lab.run_frame(At::Uplink, &packet);
    assert_eq!(fits.0, "redirect");
    packet.resize(14 + 1401 + 4, 0);
    for _ in 0..2 {
        let (verdict, error) = lab.run_frame(At::Uplink, &packet);
        assert_eq!(verdict, "redirect");
        // To the client, from the Service's address, about the packet as it was.
        assert_eq!(error[26..34], [10, 96, 0, 10, 172, 31, 0, 9]);
        assert_eq!(error[34..36], [3, 4]);
        assert_eq!(error[40..42], 1400u16.to_be_bytes());
        assert_eq!(error[42 + 12..42 + 20], packet[26..34]);
    }
    assert_eq!(lab.counter(Counter::DropTooBig), 2);
}

#[test]
fn the_way_depends_on_who_sends() {
    let mut lab = lab();
    // So many that some share a slot, and soon enough for the answers to last.
    let [may, may_not] = ["10.244.1", "10.244.3"].map(|network| {
        let packets =
            (1..=250).map(|host| frame(&format!("tcp {network}.{host}:4000 > 10.96.0.10:80 S")));
        packets.collect::<Vec<_>>()
    });
    network("rule add from 10.244.3.0/24 unreachable");
    for (packets, expected) in [(&may, "redirect"), (&may_not, "pass"), (&may, "redirect")] {
        for packet in packets {
            assert_eq!(lab.run_frame(At::Pod, packet).0, expected);
        }
    }
}

#[test]
fn the_way_depends_on_where_it_comes_in() {
    let mut lab = lab();
    network("rule add iif uplink unreachable");
    for _ in 0..3 {
        assert_eq!(verdict(&mut lab, PACKET), "redirect");
        let outcome = lab.run(At::Uplink, PACKET);
        assert!(outcome.starts_with("pass "), "{outcome}");
    }
}
