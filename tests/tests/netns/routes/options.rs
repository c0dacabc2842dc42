//! Other kinds of overlay, none, and what is in the way of one.

use serde_json::Value;
use tests::harness::{Flow, Traffic, eventually};

use super::large::{large_tcp, large_udp};
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
}
