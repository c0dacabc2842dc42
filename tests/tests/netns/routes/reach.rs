//! Who reaches whom, by which way.

use tests::harness::{Flow, Traffic};

use super::large::expect_large;
use super::{Families, NODES, Network};
use crate::cluster::web;

#[test]
fn pods_reach_one_another_in_the_subnet_and_across_with_anything_that_fits() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    network.expect_reach();
    expect_large(&network);
    let routing = network.routing("node1");
    assert_eq!(routing["pod_mtu"], 1450);
    let row = |network: &str| {
        let rows = routing["routes"].as_array().unwrap();
        rows.iter()
            .find(|row| row["network"] == network)
            .unwrap()
            .clone()
    };
    assert_eq!(row("10.244.2.0/24")["way"], "direct, via 172.31.0.12");
    assert_eq!(row("10.244.3.0/24")["way"], "overlay, to 172.31.1.13");
    assert_eq!(
        row("fd00:244:3::/64")["why"],
        "172.31.1.13 is in no network of this node"
    );
    assert_eq!(
        network.agents["node1"].metric("fairlead_routes").unwrap(),
        Some(4.0)
    );
    // An address that no pod has is not asked for at the router.
    let gone = network.show("node1", &["route", "get", "10.244.1.200"]);
    assert!(!gone.contains("eth0"), "{gone}");
}

#[test]
fn jumbo_frames_and_the_overlay_for_all() {
    let network = Network::start(Families::Both, 9000, &["--overlay-type=full"]);
    network.await_routes("node1", 4);
    network.await_routes("node2", 4);
    network.await_routes("node3", 4);
    network.expect_reach();
    expect_large(&network);
    let routing = network.routing("node1");
    assert_eq!(routing["pod_mtu"], 8950);
    let rows = routing["routes"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["why"] == "--overlay-type full"),
        "{routing:#}"
    );
}

#[test]
fn a_cluster_of_ipv6_alone_has_its_overlay_too() {
    let network = Network::start(Families::V6, 1500, &[]);
    network.await_routes("node1", 2);
    network.await_routes("node3", 2);
    network.expect_reach();
    expect_large(&network);
    assert_eq!(network.routing("node1")["pod_mtu"], 1430);
}

#[test]
fn services_lead_through_the_overlay() {
    let network = Network::build(Families::Both, 1500, &[]);
    let service = web().endpoints(&["b", "c"]);
    network.lab.apply(&service).unwrap();
    let mut network = network;
    NODES.into_iter().for_each(|node| network.start_agent(node));
    for agent in network.agents.values_mut() {
        agent.wait_ready().unwrap();
    }
    for node in NODES {
        network.await_routes(node, 4);
    }
    for v6 in [false, true] {
        for place in [network.lab.place("a").clone(), network.lab.uncovered("a")] {
            for traffic in [
                Traffic::connect(service.ip(v6), 80),
                Traffic::udp_fresh(service.ip(v6), 80),
            ] {
                let traffic = traffic
                    .count(60)
                    .every_milliseconds(0)
                    .timeout_milliseconds(3000);
                let report = Flow::run(&place, &traffic).unwrap();
                assert!(report.is_clean(), "{report:?}");
                assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["b", "c"]);
            }
        }
        // A client outside comes in at a node whose backend is behind the overlay.
        let node = network.lab.address("node1", v6);
        let traffic = Traffic::connect(node, 30080)
            .count(40)
            .every_milliseconds(0)
            .timeout_milliseconds(3000);
        let report = Flow::run(network.lab.place("client"), &traffic).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}
