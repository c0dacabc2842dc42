//! Other kinds of overlay, none, and what is in the way of one.

use serde_json::{Value, json};
use tests::harness::{Flow, Traffic, attachments, eventually};

use super::doctor::ways::expect_ways_through_ipip;
use super::large::{expect_segments_that_fit, large_tcp, large_udp};
use super::{Families, NODES, Network, OVERLAY};

#[test]
fn without_an_overlay_other_subnets_are_reported_and_the_rest_works() {
    let network = Network::start(Families::Both, 1500, &["--enable-overlay=false"]);
    network.await_routes("node1", 2);
    let status = network.agents["node1"].status().unwrap();
    let problems = status["problems"].as_array().unwrap();
    let of_node3 = |problem: &&Value| {
        problem["object"] == "node3"
            && problem["message"]
                .as_str()
                .unwrap()
                .contains("--enable-overlay")
    };
    assert_eq!(problems.iter().filter(of_node3).count(), 2, "{problems:?}");
    assert_eq!(network.show("node1", &["link", "show", OVERLAY]), "");
    assert_eq!(status["routing"]["pod_mtu"], 1500);
    let to = network.lab.address("b", false);
    let report = Flow::run(network.lab.place("a"), &Traffic::connect(to, 8080).count(2)).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_device_of_another_with_the_overlays_name_is_named_and_left() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    let node = network.lab.place("node1").namespace.clone();
    node.ip("link add fairlead-vxlan type veth peer name other\n")
        .unwrap();
    network.start_agent("node1");
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .wait_ready()
        .unwrap();
    eventually("the failure is told", || {
        let routing = network.routing("node1");
        let failures = routing["failures"].to_string();
        anyhow::ensure!(failures.contains("is not the agent's"), "{routing:#}");
        // What needs no overlay is there all the same.
        anyhow::ensure!(routing["in_kernel"] == 2, "{routing:#}");
        Ok(Some(()))
    })
    .unwrap();
    assert!(
        network
            .show("node1", &["-d", "link", "show", OVERLAY])
            .contains("veth")
    );
    node.ip("link del fairlead-vxlan\n").unwrap();
    network.await_routes("node1", 4);
}

#[test]
fn ipip_carries_ipv4_and_says_what_it_does_not() {
    let network = Network::build(Families::Both, 1500, &["--overlay-encap=ipip"]);
    let node = network.lab.place("node1").namespace.clone();
    let has_ipip = node.ip("link add probe type ipip local 172.31.0.11\nlink del probe\n");
    let mut network = network;
    NODES.into_iter().for_each(|node| network.start_agent(node));
    let agents = network.agents.values_mut();
    agents.for_each(|agent| agent.wait_ready().unwrap());
    let problems = network.agents["node1"].status().unwrap()["problems"].to_string();
    assert!(problems.contains("IPIP carries IPv4 alone"), "{problems}");
    if has_ipip.is_err() {
        eprintln!("this kernel has no IPIP: seen is that it is said, and that the rest works");
        eventually("it is said", || {
            let routing = network.routing("node1");
            let said = routing["failures"].to_string().contains("no IPIP");
            anyhow::ensure!(said && routing["in_kernel"] == 2, "{routing:#}");
            Ok(Some(()))
        })
        .unwrap();
        return;
    }
    network.await_routes("node1", 3);
    network.await_routes("node3", 2);
    for (from, to) in [("a", "c"), ("c", "b"), ("node1", "c")] {
        let traffic = Traffic::connect(network.lab.address(to, false), 8080);
        let traffic = traffic.count(2).timeout_milliseconds(3000);
        let report = Flow::run(&network.lab.uncovered(from), &traffic).unwrap();
        assert!(report.is_clean(), "{from} to {to}: {report:?}");
    }
    large_tcp(&network.lab, "a", "c", false, 20 << 20);
    large_udp(&network.lab, "a", "c", false);
    for node in ["node1", "node3"] {
        let found = attachments(network.lab.place(node)).unwrap();
        let found = found.iter().filter(|line| line.contains("fairlead-ipip "));
        let found: Vec<&String> = found.collect();
        assert!(
            found.len() == 1 && found[0].contains("tunnel_egress"),
            "{found:?}"
        );
    }
    expect_segments_that_fit(&network, &[false], "IPIP");
    expect_ways_through_ipip(&network);
}

#[test]
fn the_configurations_name_and_whether_there_is_one_are_the_operators() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    network.start_ready("node1");
    network.lab.await_plugin("node1").unwrap();
    network.kill_agent("node1");
    network.flags = vec!["--cni-conf-name=05-pods.conflist".to_owned()];
    network.start_ready("node1");
    network.flags = vec!["--enable-cni=false".to_owned()];
    network.start_ready("node2");
    let named = network.cni("node1", "net.d/05-pods.conflist");
    eventually("it is installed under the name", || {
        let state = network.routing("node1")["cni"].to_string();
        anyhow::ensure!(state.contains("05-pods.conflist is installed"), "{state}");
        Ok(Some(()))
    })
    .unwrap();
    let text = std::fs::read_to_string(&named).unwrap();
    assert!(text.contains("10.244.1.0/24"), "{text}");
    let before = network.cni("node1", "net.d/10-fairlead.conflist");
    assert!(!before.exists(), "two would be one too many");
    assert!(network.cni("node1", "bin/fairlead-cni").exists());
    // Without, the routes are kept all the same, and nothing is written.
    network.await_routes("node2", 4);
    assert_eq!(network.routing("node2")["cni"], Value::Null);
    for name in ["net.d", "bin"] {
        assert!(!network.cni("node2", name).exists(), "{name}");
    }
}

#[test]
fn routes_are_read_back_as_often_as_is_said() {
    let mut network = Network::build(Families::Both, 1500, &["--routes-sync-period=1s"]);
    network.start_ready("node1");
    network.await_routes("node1", 4);
    let count = |name: &str| network.routing("node1")[name].as_u64().unwrap();
    let (applies, operations) = (count("applies_total"), count("operations_total"));
    eventually("they were read back a few times", || {
        Ok((count("applies_total") >= applies + 5).then_some(()))
    })
    .unwrap();
    assert_eq!(count("operations_total"), operations);
}

#[test]
fn a_route_of_another_with_a_smaller_metric_is_preferred_and_with_a_larger_one_is_not() {
    let network = Network::start(Families::Both, 1500, &[]);
    NODES.iter().for_each(|node| network.await_routes(node, 4));
    let node = &network.lab.place("node1").namespace;
    let reaches = |from: &str, to: &str, v6: bool| {
        let traffic = Traffic::udp_fresh(network.lab.address(to, v6), 8080);
        let traffic = traffic.count(2).timeout_milliseconds(300);
        Flow::run(&network.lab.uncovered(from), &traffic).unwrap()
    };
    let ours = network.inventory("node1");
    // To the node beside and to the one behind the overlay; the third reaches both all the while.
    for (to, other, v6) in [("b", "c", false), ("c", "b", false), ("b", "c", true)] {
        let destination = match (to, v6) {
            ("b", false) => "10.244.2.0/24",
            ("c", false) => "10.244.3.0/24",
            _ => "fd00:244:2::/64",
        };
        for (metric, is_preferred) in [(100, true), (5000, false)] {
            let theirs = format!("blackhole {destination} metric {metric} proto static");
            node.ip(&format!("route add {theirs}\n")).unwrap();
            // The programs keep an answer of the kernel's for a tenth of a second.
            eventually("the route is asked for", || {
                let report = reaches("a", to, v6);
                let held = match is_preferred {
                    true => report.answered == 0,
                    false => report.is_clean(),
                };
                anyhow::ensure!(held, "{theirs}: {report:?}");
                Ok(Some(()))
            })
            .unwrap();
            for (from, to) in [(other, to), ("a", other)] {
                let report = reaches(from, to, v6);
                assert!(report.is_clean(), "{theirs}: {from} to {to}: {report:?}");
            }
            node.ip(&format!("route del {theirs}\n")).unwrap();
            eventually("ours is the way again", || {
                let report = reaches("a", to, v6);
                Ok(report.is_clean().then_some(()))
            })
            .unwrap();
        }
    }
    assert_eq!(network.inventory("node1"), ours);
    let routing = network.routing("node1");
    assert_eq!(routing["repaired_total"], 0, "{routing:#}");
    assert_eq!(routing["failures"], json!([]), "{routing:#}");
}
