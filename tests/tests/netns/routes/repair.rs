//! What others take away is put back.

use std::thread;
use std::time::{Duration, Instant};

use tests::harness::eventually;

use super::kernel::Kernel;
use super::{Families, Network, OVERLAY};

/// What is taken away is to be there again within this time.
const MENDED: Duration = Duration::from_secs(1);

#[test]
fn what_others_take_away_is_back_within_a_second() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let before = network.inventory("node1");
    let node = &network.lab.place("node1").namespace;
    let fdb = "0a:f1:ac:1f:01:0d dst 172.31.1.13";
    assert!(before.contains(fdb), "{before}");
    let delete_entry = || {
        let arguments = [
            "fdb",
            "del",
            "0a:f1:ac:1f:01:0d",
            "dev",
            OVERLAY,
            "dst",
            "172.31.1.13",
            "self",
        ];
        network.shown("bridge", "node1", &arguments);
    };
    let lines = [
        "route del 10.244.3.0/24",
        "route del fd00:244:3::/64",
        "route del 10.244.2.0/24",
        "route del blackhole 10.244.1.0/24 metric 8000",
        "route del 172.31.1.13 table 71",
        "rule del pref 7100",
        "-6 rule del pref 7100",
        "neigh del 172.31.1.13 dev fairlead-vxlan",
        "link set fairlead-vxlan mtu 1000",
        "link set fairlead-vxlan down",
        "link del fairlead-vxlan",
        "fdb",
    ];
    let mut kernel = Kernel::open(node);
    let whole = kernel.look();
    let mut repaired = 0;
    for line in lines {
        match line.strip_prefix("-6 ") {
            _ if line == "fdb" => delete_entry(),
            Some(rest) => {
                let words: Vec<_> = rest.split(' ').collect();
                network.show("node1", &[&["-6"], &words[..]].concat());
            }
            None => node.ip(&format!("{line}\n")).unwrap(),
        }
        let at = Instant::now();
        while kernel.look() != whole {
            let waited = at.elapsed();
            assert!(waited < MENDED, "{line}: {:#?}", kernel.differs(&whole));
            thread::sleep(Duration::from_millis(2));
        }
        eprintln!("{line}: mended in {:?}", at.elapsed());
        let now = eventually("the repair is counted", || {
            let count = network.routing("node1")["repaired_total"].as_u64().unwrap();
            Ok((count > repaired).then_some(count))
        });
        repaired = now.unwrap();
    }
    assert_eq!(network.inventory("node1"), before);
    network.expect_reach();
    // What is not the agent's stays.
    node.ip("route add 10.99.0.0/16 via 172.31.0.1\nroute add 10.244.3.0/24 via 172.31.0.1\n")
        .unwrap();
    network.apply_nodes(|nodes| nodes.retain(|node| node["metadata"]["name"] != "node3"));
    network.await_routes("node1", 2);
    let routes = network.show("node1", &["route"]);
    assert!(
        routes.contains("10.99.0.0/16") && routes.contains("10.244.3.0/24 via 172.31.0.1"),
        "{routes}"
    );
}

#[test]
fn a_route_of_another_in_the_place_of_ours_is_named_and_left() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    let node = network.lab.place("node1").namespace.clone();
    let theirs = "10.244.3.0/24 via 172.31.0.1 proto static metric 4000";
    node.ip(&format!("route add {theirs}\n")).unwrap();
    network.start_ready("node1");
    eventually("the failure is told", || {
        let routing = network.routing("node1");
        let failures = routing["failures"].to_string();
        anyhow::ensure!(failures.contains("10.244.3.0/24"), "{routing:#}");
        anyhow::ensure!(failures.contains("File exists"), "{routing:#}");
        anyhow::ensure!(routing["in_kernel"] == 3, "{routing:#}");
        Ok(Some(()))
    })
    .unwrap();
    let routes = network.show("node1", &["route"]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let there = |line: &str| line.starts_with("10.244.3.0/24 via 172.31.0.1");
    assert!(
        routes.lines().map(words).any(|line| there(&line)),
        "{routes}"
    );
    node.ip(&format!("route del {theirs}\n")).unwrap();
    network.await_routes("node1", 4);
}

#[test]
fn a_route_that_another_replaces_is_told_at_once_and_ours_is_back_when_theirs_goes() {
    // Nothing is read back within the test: what is known was heard.
    let network = Network::start(Families::Both, 1500, &["--routes-sync-period=1h"]);
    network.await_routes("node1", 4);
    let node = &network.lab.place("node1").namespace;
    let mut kernel = Kernel::open(node);
    let whole = kernel.look();
    for (to, via) in [
        ("10.244.2.0/24", "172.31.0.1"),
        ("fd00:244:2::/64", "fd00:31::1"),
    ] {
        let theirs = format!("{to} via {via} proto static metric 4000");
        let failed = network.routing("node1")["failed_total"].as_u64().unwrap();
        node.ip(&format!("route replace {theirs}\n")).unwrap();
        // It is tried again ever more seldom: from the sixth time on, after three seconds and more.
        eventually("it is told, and tried a few times", || {
            let routing = network.routing("node1");
            let told = routing["failures"].to_string().contains(to);
            let count = routing["failed_total"].as_u64().unwrap() - failed;
            anyhow::ensure!(told && count >= 6, "{routing:#}");
            Ok(Some(()))
        })
        .unwrap();
        assert_ne!(kernel.look(), whole, "theirs is left");
        node.ip(&format!("route del {theirs}\n")).unwrap();
        let at = Instant::now();
        while kernel.look() != whole {
            let waited = at.elapsed();
            assert!(waited < MENDED, "{to}: {:#?}", kernel.differs(&whole));
            thread::sleep(Duration::from_millis(2));
        }
        eprintln!("{theirs} is gone: ours is back after {:?}", at.elapsed());
        network.await_routes("node1", 4);
    }
}
