//! Packets between pods that skip the host's stack, and those that must not.

#[cfg(test)]
mod stays;

use std::fs;
use std::process::Command;

use rustix::net::sockopt;

use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::large::{large_tcp, large_udp};
use super::*;
use crate::cluster::expect_clean;

/// A packet the way from the first pod: to another of its node, to the next node, through the overlay.
const TARGETS: [&str; 3] = ["d", "b", "c"];
/// Answers of the routes are kept for 100 ms.
const FORGOTTEN: Duration = Duration::from_millis(150);

impl Network {
    /// Packets that skipped a node's stack.
    fn skipped(&self, node: &str) -> u64 {
        let status = self.agents[node].status().unwrap();
        let mut rows = status["counters"].as_array().unwrap().iter();
        rows.find(|row| row["name"] == "fast_path").unwrap()["value"]
            .as_u64()
            .unwrap()
    }

    /// Waits until a node knows so many of its pods, and the networks of the others.
    #[track_caller]
    fn await_fast_path(&self, node: &str, pods: u64) {
        eventually("the fast path is there", || {
            let row = self.agents[node].status().unwrap()["fast_path"].clone();
            let networks = self.families().len() as u64 * 2;
            let good = row["off"].is_null() && row["pods"] == pods && row["networks"] == networks;
            anyhow::ensure!(good, "{row:#}");
            Ok(Some(()))
        })
        .unwrap();
    }

    #[track_caller]
    fn await_fast_paths(&self) {
        for (node, pods) in [("node1", 2), ("node2", 1), ("node3", 1)] {
            self.await_fast_path(node, pods);
        }
    }

    /// Packets that a place's stack has forwarded.
    fn forwarded(&self, place: &str) -> u64 {
        let read = || {
            let v4 = fs::read_to_string("/proc/thread-self/net/snmp")?;
            let v6 = fs::read_to_string("/proc/thread-self/net/snmp6")?;
            Ok((v4, v6))
        };
        let (v4, v6) = self.lab.place(place).namespace.run(read).unwrap();
        let mut rows = v4.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        let mut pairs = names.split(' ').zip(values.split(' '));
        let v4: u64 = pairs
            .find(|(name, _)| *name == "ForwDatagrams")
            .unwrap()
            .1
            .parse()
            .unwrap();
        let mut lines = v6.lines();
        let v6 = lines.find(|line| line.starts_with("Ip6OutForwDatagrams"));
        let v6: u64 = v6
            .unwrap()
            .split_whitespace()
            .last()
            .unwrap()
            .parse()
            .unwrap();
        v4 + v6
    }
}

/// Large transfers both ways: the packets of the first node that skipped its stack, and that did not.
#[track_caller]
fn transfer(network: &Network, to: &str, v6: bool) -> (u64, u64) {
    let before = (network.skipped("node1"), network.forwarded("node1"));
    large_tcp(&network.lab, "a", to, v6, 20 << 20);
    large_tcp(&network.lab, to, "a", v6, 20 << 20);
    let skipped = network.skipped("node1") - before.0;
    (skipped, network.forwarded("node1") - before.1)
}

/// Large transfers both ways, of which the nodes' stacks see next to nothing.
#[track_caller]
fn expect_skipped(network: &Network) {
    for v6 in network.families() {
        for to in TARGETS {
            let (skipped, forwarded) = transfer(network, to, *v6);
            assert!(
                skipped > 400 && forwarded < 20,
                "a and {to}, IPv6 {v6}: {skipped} packets skipped the stack, {forwarded} did not"
            );
            // Pieces of datagrams are the stack's.
            large_udp(&network.lab, "a", to, *v6);
            large_udp(&network.lab, to, "a", *v6);
        }
    }
}

#[test]
fn pods_packets_skip_the_stack_on_a_node_and_between_nodes() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    expect_skipped(&network);
    let address = |pod| network.lab.address(pod, false);
    let (from, to) = (address("a").to_string(), format!("{}:8080", address("d")));
    let answer = network.agents["node1"]
        .ask(&["explain", "--from", &from, "--to", &to])
        .unwrap();
    assert!(
        answer.output.contains("skips the host's stack"),
        "{}",
        answer.output
    );
}

#[test]
fn so_they_do_with_jumbo_frames_and_the_overlay_for_all() {
    let network = Network::start(Families::Both, 9000, &["--overlay-type=full"]);
    network.await_fast_paths();
    expect_skipped(&network);
}

#[test]
fn without_network_policy_they_skip_it_too() {
    let network = Network::start(Families::Both, 1500, &["--run-firewall=false"]);
    network.await_fast_paths();
    expect_skipped(&network);
    network.expect_reach();
}

/// Sends a datagram with so many hops to live, and says whether it arrives.
fn arrives(lab: &Lab, from: &str, to: &str, v6: bool, hops: u8) -> bool {
    let bind = |place: &str| {
        let address: IpAddr = lab.address(place, v6);
        let socket = lab
            .place(place)
            .namespace
            .run(|| Ok(UdpSocket::bind((address, 0))?));
        socket.unwrap()
    };
    let (server, client) = (bind(to), bind(from));
    server
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    match v6 {
        true => sockopt::set_ipv6_unicast_hops(&client, Some(hops)).unwrap(),
        false => sockopt::set_ip_ttl(&client, u32::from(hops)).unwrap(),
    }
    client
        .send_to(b"hop", server.local_addr().unwrap())
        .unwrap();
    server.recv_from(&mut [0; 8]).is_ok()
}

#[test]
fn each_node_is_a_hop_and_tells_who_has_none_left() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    for v6 in [false, true] {
        for (to, needed) in [("d", 2), ("b", 3), ("c", 3)] {
            let before = network.skipped("node1");
            assert!(arrives(&network.lab, "a", to, v6, needed), "{to} {v6}");
            assert!(network.skipped("node1") > before, "{to} {v6}");
            assert!(!arrives(&network.lab, "a", to, v6, needed - 1), "{to} {v6}");
            assert!(!arrives(&network.lab, "a", to, v6, 1), "{to} {v6}");
        }
    }
    // The node itself says so.
    let text = || {
        let read = fs::read_to_string("/proc/thread-self/net/snmp")?;
        Ok(read)
    };
    let text = network.lab.place("a").namespace.run(text).unwrap();
    let mut rows = text.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let told = pairs.find(|(name, _)| *name == "InTimeExcds").unwrap().1;
    assert!(told.parse::<u32>().unwrap() >= 5, "{told}");
}

/// Sends datagrams that may be cut on the way. None comes back: what is longer than its MTU, the kernel
/// drops where it comes out of a veth.
#[track_caller]
fn expect_datagrams(lab: &Lab, from: &str, to: &str, v6: bool) {
    let bind = |place: &str| {
        let address: IpAddr = lab.address(place, v6);
        let bind = || Ok(UdpSocket::bind((address, 0))?);
        lab.place(place).namespace.run(bind).unwrap()
    };
    let (server, client) = (bind(to), bind(from));
    server
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    for size in [1400, 8000, 30_000] {
        // The first ones tell the sender how long its packets may be.
        let mut tries = (0..3).map(|_| {
            let to = server.local_addr().unwrap();
            client.send_to(&vec![7; size], to).unwrap();
            server.recv_from(&mut vec![0; 65_536])
        });
        assert!(tries.any(|got| got.is_ok_and(|(count, _)| count == size)));
    }
}

#[test]
fn a_smaller_mtu_on_the_way_is_told_to_the_sender() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    // The node's end alone: the pod still offers segments of 1450.
    let node = &network.lab.place("node1").namespace;
    node.ip("link set p-d mtu 1300\n").unwrap();
    for v6 in [false, true] {
        let before = network.skipped("node1");
        for (from, to) in [("a", "d"), ("b", "d"), ("c", "d")] {
            large_tcp(&network.lab, from, to, v6, 4 << 20);
        }
        assert!(network.skipped("node1") - before > 100);
        for from in ["a", "b", "c"] {
            expect_datagrams(&network.lab, from, "d", v6);
        }
    }
    let cache = network.show(
        "a",
        &["route", "get", &network.lab.address("d", false).to_string()],
    );
    assert!(cache.contains("mtu 1300"), "{cache}");
}

#[test]
fn what_policy_forbids_is_dropped_and_told_at_the_pod_it_was_for() {
    let network = Network::build(Families::Both, 1500, &[]);
    let labels = |app: &str| json!({"app": app});
    let of_pods: Vec<_> = PODS
        .iter()
        .map(|(pod, _)| (*pod, "shop", labels(pod)))
        .collect();
    network.lab.apply_pods(&of_pods).unwrap();
    network
        .lab
        .manifests()
        .write(
            "namespace.yaml",
            &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})],
        )
        .unwrap();
    let policy = |ports: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "only", "namespace": "shop"},
            "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["b", "d"]}]},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": ports}]}})
    };
    let manifests = network.lab.manifests();
    let open = json!([{"port": 8080}]);
    manifests.write("policy.yaml", &[policy(open)]).unwrap();
    let mut network = network;
    NODES.into_iter().for_each(|node| network.start_agent(node));
    for agent in network.agents.values_mut() {
        agent.wait_ready().unwrap();
    }
    network.await_fast_paths();
    let reach = |from: &str, to: &str, port: u16| {
        let traffic = Traffic::connect(network.lab.address(to, false), port)
            .count(2)
            .timeout_milliseconds(1500);
        Flow::run(network.lab.place(from), &traffic)
            .unwrap()
            .answered
            == 2
    };
    for to in ["b", "d"] {
        let before = network.skipped("node1");
        eventually("the policy is in force", || {
            Ok((!reach("a", to, 9090)).then_some(()))
        })
        .unwrap();
        assert!(reach("a", to, 8080), "{to}");
        assert!(network.skipped("node1") > before, "{to}");
        assert!(!reach("c", to, 8080), "{to}");
    }
    assert!(!reach("b", "d", 8080));
    let flows = network.agents["node1"]
        .ask(&["flows", "-o", "json"])
        .unwrap();
    let dropped: Vec<Value> = flows
        .output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let text = format!("{dropped:?}");
    for from in ["a", "b", "c"] {
        assert!(
            text.contains(&network.lab.address(from, false).to_string()),
            "{from}: {}",
            flows.output
        );
    }
    assert!(text.contains("p-d"), "{}", flows.output);
    // What is forbidden later is cut, though its packets skip the stack by now.
    let hold = Traffic::hold(network.lab.address("d", false), 8080).every_milliseconds(5);
    let held = Flow::start(network.lab.place("a"), &hold).unwrap();
    let none = json!([{"port": 1}]);
    network
        .lab
        .manifests()
        .write("policy.yaml", &[policy(none)])
        .unwrap();
    eventually("the policy is in force", || {
        Ok((!reach("a", "d", 8080)).then_some(()))
    })
    .unwrap();
    let report = held.stop().unwrap();
    assert!(!report.is_clean(), "{report:?}");
}

#[test]
fn a_restart_interrupts_nothing_that_skips_the_stack() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    let flows: Vec<_> = TARGETS
        .iter()
        .flat_map(|to| [false, true].map(|v6| (*to, v6)))
        .flat_map(|(to, v6)| {
            let address = network.lab.address(to, v6);
            [Traffic::hold(address, 8080), Traffic::udp(address, 8080)]
        })
        .map(|traffic| Flow::start(network.lab.place("a"), &traffic.every_milliseconds(2)).unwrap())
        .collect();
    for _ in 0..3 {
        let agent = network.agents.get_mut("node1").unwrap();
        agent.process().kill().unwrap();
        network.start_agent("node1");
        let agent = network.agents.get_mut("node1").unwrap();
        agent.wait_ready().unwrap();
        network.await_fast_path("node1", 2);
    }
    flows.into_iter().for_each(|flow| drop(expect_clean(flow)));
}
