//! Two links between two nodes, and a third node that has but one.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::kernel::Kernel;
use super::large::large_tcp;
use super::*;

/// More pods, for more pairs of addresses: the fast path tells flows apart by them alone.
const MORE: [(&str, u8); 6] = [
    ("e1", 1),
    ("e2", 1),
    ("e3", 1),
    ("f1", 2),
    ("f2", 2),
    ("f3", 2),
];
/// A next hop is asked every 5 s, and has 3 s to answer.
const FOUND_SILENT: Duration = Duration::from_secs(10);

impl Network {
    /// With a second link between the first two nodes, whose addresses Kubernetes knows.
    #[track_caller]
    fn with_two_links(flags: &[&str]) -> Self {
        let mut network = Self::build_with(&MORE, Families::Both, 1500, flags);
        let router = network.lab.router();
        router
            .ip("link add second type bridge\nlink set second up\n")
            .unwrap();
        for (node, last) in [("node1", 11), ("node2", 12)] {
            let place = &network.lab.place(node).namespace;
            router
                .ip(&format!(
                    "link add s-{node} type veth peer name eth1 netns {}\nlink set s-{node} master second\nlink set s-{node} up\n",
                    place.name()
                ))
                .unwrap();
            place
                .ip(&format!(
                    "addr add 172.31.7.{last}/24 dev eth1\naddr add fd00:37::{last}/64 dev eth1 nodad\nlink set eth1 up\n"
                ))
                .unwrap();
        }
        network.apply_nodes(|nodes| {
            for (node, last) in [(0, 11), (1, 12)] {
                let addresses = nodes[node]["status"]["addresses"].as_array_mut().unwrap();
                for address in [format!("172.31.7.{last}"), format!("fd00:37::{last}")] {
                    addresses.push(json!({"type": "InternalIP", "address": address}));
                }
            }
        });
        NODES.into_iter().for_each(|node| network.start_agent(node));
        for agent in network.agents.values_mut() {
            agent.wait_ready().unwrap();
        }
        NODES.iter().for_each(|node| network.await_routes(node, 4));
        network
    }

    /// Waits until a node's routes to another's pods have so many next hops.
    #[track_caller]
    fn await_hops(&self, node: &str, expected: usize) -> Duration {
        let began = Instant::now();
        eventually("the routes have so many next hops", || {
            let found = self.hops(node);
            anyhow::ensure!(found == [expected, expected], "{}", self.inventory(node));
            Ok(Some(()))
        })
        .unwrap();
        began.elapsed()
    }

    /// Next hops of both families from one of the first two nodes to the other's pods.
    fn hops(&self, node: &str) -> [usize; 2] {
        let (v4, v6) = match node {
            "node1" => ("10.244.2.0/24", "fd00:244:2::/64"),
            _ => ("10.244.1.0/24", "fd00:244:1::/64"),
        };
        [("-4", v4), ("-6", v6)].map(|(family, to)| {
            let text = self.show(
                node,
                &[family, "route", "show", to, "proto", "71", "metric", "4000"],
            );
            text.matches("via ").count()
        })
    }

    /// Packets that a node has sent by each link.
    fn sent(&self, node: &str) -> [u64; 2] {
        let read = || Ok(fs::read_to_string("/proc/thread-self/net/dev")?);
        let text = self.lab.place(node).namespace.run(read).unwrap();
        ["eth0:", "eth1:"].map(|name| {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(name));
            let mut words = line.unwrap().split_whitespace();
            words.nth(10).unwrap().parse().unwrap()
        })
    }
}

/// What the agent sets where links share routes, with what the lab has.
const SETTINGS: [(&str, &str, &str); 5] = [
    ("ipv4/conf/eth0/rp_filter", "1", "2"),
    ("ipv4/conf/eth1/rp_filter", "1", "2"),
    ("ipv4/fib_multipath_hash_policy", "0", "1"),
    ("ipv6/fib_multipath_hash_policy", "0", "1"),
    ("ipv4/fib_multipath_use_neigh", "0", "1"),
];

/// Many flows from a place, of both families, TCP and UDP, all answered.
#[track_caller]
fn expect_flows(network: &Network, from: &str, to: &str, count: u64) {
    for v6 in [false, true] {
        let address = network.lab.address(to, v6);
        for traffic in [
            Traffic::connect(address, 8080),
            Traffic::udp_fresh(address, 8080),
        ] {
            let traffic = traffic.count(count).every_milliseconds(0);
            let traffic = traffic.timeout_milliseconds(2000);
            let report = Flow::run(&network.lab.uncovered(from), &traffic).unwrap();
            let good = report.is_clean() && report.answered == count;
            assert!(good, "{from} to {to}: {report:?}");
        }
    }
}

/// Each of two links carried at least a tenth.
#[track_caller]
fn expect_both(before: [u64; 2], after: [u64; 2], what: &str) {
    let [first, second] = [after[0] - before[0], after[1] - before[1]];
    let least = (first + second) / 10;
    assert!(
        first > least && second > least,
        "{what}: {first} and {second}"
    );
}

#[test]
fn flows_spread_over_two_links_and_a_link_that_is_lost_is_left() {
    let network = Network::with_two_links(&["--enable-multipath"]);
    for node in ["node1", "node2"] {
        network.await_hops(node, 2);
        for (name, _, expected) in SETTINGS {
            assert_eq!(network.setting(node, name), expected, "{name} of {node}");
        }
    }
    let routing = network.routing("node1");
    let rows = routing["routes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["network"] == "10.244.2.0/24");
    assert_eq!(row.unwrap()["way"], "direct, via 172.31.0.12, 172.31.7.12");

    // The stack tells flows apart by their ports.
    let before = network.sent("node1");
    expect_flows(&network, "node1", "b", 60);
    expect_both(before, network.sent("node1"), "of the node itself");
    // The fast path, pairs of pods.
    let (before, back) = (network.sent("node1"), network.sent("node2"));
    for from in ["a", "d", "e1", "e2", "e3"] {
        for to in ["b", "f1", "f2", "f3"] {
            expect_flows(&network, from, to, 2);
        }
    }
    expect_both(before, network.sent("node1"), "between pods");
    expect_both(back, network.sent("node2"), "answers");
    network.expect_reach();

    // A link without a carrier here, that has one at the other end.
    let router = network.lab.router();
    let hold = |from: &str, to: &str| {
        let traffic = Traffic::hold(network.lab.address(to, false), 8080);
        Flow::start(network.lab.place(from), &traffic.every_milliseconds(5)).unwrap()
    };
    // By the third node, which the loss does not concern.
    let witness = hold("c", "b");
    router.ip("link set s-node1 down\n").unwrap();
    let seen = network.await_hops("node1", 1);
    let silent = network.await_hops("node2", 1);
    eprintln!("left after {seen:?} where the carrier is lost, after {silent:?} at the other end");
    assert!(seen < Duration::from_secs(1) && silent < FOUND_SILENT);
    for from in ["a", "d", "e1", "node1"] {
        expect_flows(&network, from, "b", 10);
        expect_flows(&network, from, "f2", 10);
    }
    network.expect_reach();
    router.ip("link set s-node1 up\n").unwrap();
    network.await_hops("node1", 2);
    network.await_hops("node2", 2);
    network.expect_reach();
    crate::cluster::expect_clean(witness);
}

#[test]
fn the_fast_path_takes_routes_with_several_next_hops() {
    let network = Network::with_two_links(&["--enable-multipath"]);
    network.await_hops("node1", 2);
    network.await_hops("node2", 2);
    let skipped = |node: &str| {
        let status = network.agents[node].status().unwrap();
        let mut rows = status["counters"].as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == "fast_path");
        row.unwrap()["value"].as_u64().unwrap()
    };
    eventually("the fast path is there", || {
        let row = network.agents["node1"].status()?["fast_path"].clone();
        Ok((row["off"].is_null() && row["pods"] == 5).then_some(()))
    })
    .unwrap();
    for v6 in [false, true] {
        for from in ["a", "d", "e1", "e2"] {
            let before = skipped("node1");
            large_tcp(&network.lab, from, "b", v6, 4 << 20);
            large_tcp(&network.lab, "b", from, v6, 4 << 20);
            let skipped = skipped("node1") - before;
            assert!(skipped > 50, "{from}, IPv6 {v6}: {skipped}");
        }
    }
}

#[test]
fn what_others_do_to_a_shared_route_is_mended_within_a_second() {
    let mut network = Network::with_two_links(&["--enable-multipath"]);
    network.await_hops("node1", 2);
    let mut kernel = Kernel::open(&network.lab.place("node1").namespace);
    let whole = kernel.look();
    for line in [
        "-6 route del fd00:244:2::/64 via fd00:37::12 dev eth1 proto 71 metric 4000",
        "-6 route del fd00:244:2::/64 via fd00:31::12 dev eth0 proto 71 metric 4000",
        "-6 route del fd00:244:2::/64 metric 4000",
        "-6 route append fd00:244:2::/64 via fd00:37::99 dev eth1 proto 71 metric 4000",
        "-4 route change 10.244.2.0/24 via 172.31.0.12 dev eth0 proto 71 metric 4000",
        "-4 route change 10.244.2.0/24 proto 71 metric 4000 nexthop via 172.31.0.12 dev eth0 weight 9 nexthop via 172.31.7.12 dev eth1",
        "-4 route del 10.244.2.0/24 metric 4000",
    ] {
        network.show("node1", &line.split(' ').collect::<Vec<_>>());
        let at = Instant::now();
        let mut was_seen = false;
        loop {
            let there = kernel.look();
            was_seen |= there != whole;
            let waited = at.elapsed();
            // A repair may be quicker than the look.
            if there == whole && waited > Duration::from_millis(100) {
                break;
            }
            assert!(
                waited < Duration::from_secs(1),
                "{line}: {:#?}",
                kernel.differs(&whole)
            );
            thread::sleep(Duration::from_millis(1));
        }
        let repaired = network.routing("node1")["repaired_total"].as_u64().unwrap();
        eprintln!("{line}: seen {was_seen}, {repaired} repairs in all");
        assert!(repaired > 0, "{line}");
    }
    assert!(network.routing("node1")["repaired_total"].as_u64().unwrap() >= 7);

    // An agent that comes back has nothing to write.
    let before = network.inventory("node1");
    network.kill_agent("node1");
    network.start_ready("node1");
    network.await_routes("node1", 4);
    let routing = network.routing("node1");
    assert_eq!(routing["operations_total"], 0, "{routing:#}");
    assert_eq!(network.inventory("node1"), before);

    // Without the flag there is one way, as kube-router has it; and settings are as they were.
    network.kill_agent("node1");
    let flags = std::mem::take(&mut network.flags);
    network.start_ready("node1");
    network.await_hops("node1", 1);
    eventually("settings are as they were", || {
        let good =
            |(name, before, _): &(&str, &str, &str)| network.setting("node1", name) == *before;
        Ok(SETTINGS.iter().all(good).then_some(()))
    })
    .unwrap();
    assert!(
        network
            .inventory("node1")
            .contains("10.244.2.0/24 via 172.31.0.12")
    );

    // Cleanup takes all of it back.
    network.kill_agent("node1");
    network.flags = flags;
    network.start_ready("node1");
    network.await_hops("node1", 2);
    network.agents.remove("node1");
    let removed = Agent::cleanup(&network.lab, "node1", &[]).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(network.inventory("node1"), "", "{}", removed.output);
    for (name, before, _) in SETTINGS {
        assert_eq!(network.setting("node1", name), before, "{name}");
    }
}
