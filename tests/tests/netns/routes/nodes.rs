//! Nodes come, go and change, and agents end, with packets on the way.

use serde_json::{Value, json};
use tests::harness::{Flow, Traffic, eventually};

use super::{Families, NODES, Network, OVERLAY};
use crate::cluster::expect_clean;

#[test]
fn nodes_come_go_and_change_their_networks() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let witness = Flow::start(
        network.lab.place("a"),
        &Traffic::hold(network.lab.address("b", false), 8080).every_milliseconds(2),
    )
    .unwrap();
    network.apply_nodes(|nodes| nodes.retain(|node| node["metadata"]["name"] != "node3"));
    network.await_routes("node1", 2);
    assert!(
        !network.inventory("node1").contains("172.31.1.13"),
        "{}",
        network.inventory("node1")
    );
    network.apply_nodes(|nodes| {
        nodes[2]["spec"]["podCIDRs"] = json!(["10.244.33.0/24", "fd00:244:3::/64"]);
    });
    network.await_routes("node1", 4);
    let text = network.inventory("node1");
    assert!(
        text.contains("10.244.33.0/24") && !text.contains("10.244.3.0/24"),
        "{text}"
    );
    network.apply_nodes(|_| {});
    network.await_routes("node1", 4);
    eventually("the network is back", || {
        Ok(network
            .inventory("node1")
            .contains("10.244.3.0/24")
            .then_some(()))
    })
    .unwrap();
    network.await_routes("node3", 4);
    network.expect_reach();
    expect_clean(witness);
}

#[test]
fn an_agent_that_is_killed_interrupts_nothing_and_writes_nothing_when_it_is_back() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let flows: Vec<_> = network
        .families()
        .iter()
        .map(|v6| {
            let to = network.lab.address("c", *v6);
            Flow::start(
                network.lab.place("a"),
                &Traffic::udp(to, 8080).every_milliseconds(2),
            )
            .unwrap()
        })
        .collect();
    let before = network.inventory("node1");
    let link = network.show("node1", &["-o", "link", "show", OVERLAY]);
    network.kill_agent("node1");
    assert_eq!(network.inventory("node1"), before);
    network.start_ready("node1");
    network.await_routes("node1", 4);
    assert_eq!(
        network.routing("node1")["operations_total"],
        0,
        "{:#}",
        network.routing("node1")
    );
    assert_eq!(network.inventory("node1"), before);
    assert_eq!(
        network.show("node1", &["-o", "link", "show", OVERLAY]),
        link
    );
    flows.into_iter().for_each(|flow| drop(expect_clean(flow)));
}

/// What Kubernetes is told of a node's addresses.
fn set_addresses(nodes: &mut [Value], node: usize, addresses: [&str; 2]) {
    let address = |address| json!({"type": "InternalIP", "address": address});
    nodes[node]["status"]["addresses"] = addresses.map(address).into();
}

/// Waits until traffic from one pod reaches another again.
#[track_caller]
fn await_reach(network: &Network, from: &str, to: &str) {
    for v6 in [false, true] {
        let to = network.lab.address(to, v6);
        for traffic in [Traffic::connect(to, 8080), Traffic::udp(to, 8080)] {
            let traffic = traffic.count(3).timeout_milliseconds(500);
            eventually("it is reached", || {
                let report = Flow::run(network.lab.place(from), &traffic)?;
                anyhow::ensure!(report.is_clean(), "{report:?}");
                Ok(Some(()))
            })
            .unwrap();
        }
    }
}

#[test]
fn a_node_with_other_addresses_is_reached_there_and_the_rest_is_not_disturbed() {
    let network = Network::start(Families::Both, 1500, &[]);
    NODES.iter().for_each(|node| network.await_routes(node, 4));
    let flow = |from: &str, to: &str, v6| {
        let to = network.lab.address(to, v6);
        let traffic = Traffic::udp(to, 8080).every_milliseconds(2);
        Flow::start(network.lab.place(from), &traffic).unwrap()
    };
    // The neighbour in the subnet is renumbered, then the one behind the overlay.
    let witnesses = [flow("a", "c", false), flow("a", "c", true)];
    let node2 = &network.lab.place("node2").namespace;
    node2
        .ip(
            "addr add 172.31.0.22/24 dev eth0\naddr del 172.31.0.12/24 dev eth0\n\
            addr add fd00:31::22/64 dev eth0 nodad\naddr del fd00:31::12/64 dev eth0\n\
            addr replace 172.31.0.22/24 dev eth0\nroute replace default via 172.31.0.1\n\
            route replace default via fd00:31::1\n",
        )
        .unwrap();
    network.apply_nodes(|nodes| set_addresses(nodes, 1, ["172.31.0.22", "fd00:31::22"]));
    eventually("node1 goes to the new address", || {
        let text = network.inventory("node1");
        let good = text.contains("via 172.31.0.22") && !text.contains("172.31.0.12 ");
        anyhow::ensure!(good, "{text}");
        Ok(Some(()))
    })
    .unwrap();
    await_reach(&network, "a", "b");
    await_reach(&network, "c", "b");
    witnesses
        .into_iter()
        .for_each(|flow| drop(expect_clean(flow)));

    let witnesses = [flow("a", "b", false), flow("b", "a", true)];
    let node3 = &network.lab.place("node3").namespace;
    node3
        .ip(
            "addr add 172.31.1.23/24 dev eth0\naddr del 172.31.1.13/24 dev eth0\n\
            addr add fd00:31:1::23/64 dev eth0 nodad\naddr del fd00:31:1::13/64 dev eth0\n\
            addr replace 172.31.1.23/24 dev eth0\nroute replace default via 172.31.1.1\n\
            route replace default via fd00:31:1::1\n",
        )
        .unwrap();
    network.apply_nodes(|nodes| {
        set_addresses(nodes, 1, ["172.31.0.22", "fd00:31::22"]);
        set_addresses(nodes, 2, ["172.31.1.23", "fd00:31:1::23"]);
    });
    await_reach(&network, "a", "c");
    await_reach(&network, "c", "b");
    let text = network.inventory("node1");
    assert!(
        text.contains("172.31.1.23") && !text.contains("172.31.1.13"),
        "{text}"
    );
    witnesses
        .into_iter()
        .for_each(|flow| drop(expect_clean(flow)));
}

#[test]
fn what_changes_while_an_agent_is_away_is_caught_up_with_and_disturbs_nobody() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    NODES.iter().for_each(|node| network.await_routes(node, 4));
    let flow = |network: &Network, to: &str, v6| {
        let to = network.lab.address(to, v6);
        let traffic = Traffic::hold(to, 9090).every_milliseconds(2);
        Flow::start(network.lab.place("a"), &traffic).unwrap()
    };
    let witnesses = [flow(&network, "b", false), flow(&network, "b", true)];
    // A node goes while nobody looks, and another network of it comes.
    network.kill_agent("node1");
    network.apply_nodes(|nodes| nodes.retain(|node| node["metadata"]["name"] != "node3"));
    network.start_ready("node1");
    network.await_routes("node1", 2);
    assert!(!network.inventory("node1").contains("172.31.1.13"));
    network.kill_agent("node1");
    network.apply_nodes(|nodes| {
        nodes[2]["spec"] = json!({"podCIDRs": ["10.244.33.0/24"]});
        nodes[2]["metadata"]["annotations"] =
            json!({"kube-router.io/pod-cidrs": "10.244.3.0/24,fd00:244:3::/64"});
    });
    network.start_ready("node1");
    network.await_routes("node1", 4);
    // The annotation counts, at the node itself too.
    network.await_routes("node3", 4);
    assert!(!network.inventory("node1").contains("10.244.33.0"));
    network.expect_reach();
    // Its agent is away while it gets another network, and is told when it is back.
    let of_c = [flow(&network, "c", false), flow(&network, "c", true)];
    network.kill_agent("node3");
    network.kill_agent("node1");
    network.start_ready("node1");
    network.start_ready("node3");
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let flows = witnesses.into_iter().chain(of_c);
    flows.for_each(|flow| drop(expect_clean(flow)));
}

#[test]
fn networks_that_overlap_are_the_oldest_nodes_and_packets_say_so() {
    let network = Network::start(Families::Both, 1500, &[]);
    NODES.iter().for_each(|node| network.await_routes(node, 4));
    let to = network.lab.address("b", false);
    let traffic = Traffic::udp(to, 8080).every_milliseconds(2);
    let witness = Flow::start(network.lab.place("a"), &traffic).unwrap();
    network.apply_nodes(|nodes| {
        for (node, second) in nodes.iter_mut().zip(["03", "01", "02"]) {
            node["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{second}Z"));
        }
        // The youngest says that it has the pods of the oldest.
        nodes[2]["metadata"]["annotations"] =
            json!({"kube-router.io/pod-cidrs": "10.244.2.0/25,fd00:244:3::/64"});
    });
    eventually("it is reported", || {
        let status = network.agents["node1"].status()?;
        let problems = status["problems"].as_array().unwrap();
        let told = problems.iter().any(|problem| {
            let text = problem.to_string();
            text.contains("node3") && text.contains("overlaps 10.244.2.0/24 of node node2")
        });
        anyhow::ensure!(told, "{problems:#?}");
        Ok(Some(()))
    })
    .unwrap();
    network.await_routes("node1", 3);
    // The youngest itself says so, goes by the oldest one's claim, and gives none of its addresses.
    let config = network.cni("node3", "net.d/10-fairlead.conflist");
    eventually("the youngest gives way", || {
        let status = network.agents["node3"].status()?;
        let problems = status["problems"].to_string();
        let told = problems.contains("overlaps 10.244.2.0/24 of node node2");
        let own = &status["routing"]["pod_networks"];
        anyhow::ensure!(told && *own == json!(["fd00:244:3::/64"]), "{status:#}");
        let list: Value = serde_json::from_str(&std::fs::read_to_string(&config)?)?;
        let ranges = &list["plugins"][0]["ranges"];
        anyhow::ensure!(*ranges == json!(["fd00:244:3::/64"]), "{list:#}");
        Ok(Some(()))
    })
    .unwrap();
    network.await_routes("node3", 4);
    let text = network.inventory("node3");
    assert!(text.contains("10.244.2.0/24"), "{text}");
    assert!(!text.contains("10.244.2.0/25"), "{text}");
    for (from, v6) in [("node3", false), ("c", true)] {
        let traffic = Traffic::udp(network.lab.address("b", v6), 8080).count(3);
        let report = Flow::run(&network.lab.uncovered(from), &traffic).unwrap();
        assert!(report.is_clean(), "{from}: {report:?}");
    }
    expect_clean(witness);
}
