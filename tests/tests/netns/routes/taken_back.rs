//! What the agent takes back of the network, and what it leaves.

use tests::harness::{Agent, Flow, Traffic, eventually};

use super::{Families, Network};

#[test]
fn cleanup_leaves_nothing_of_the_network() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let config = network.cni("node1", "net.d/10-fairlead.conflist");
    eventually("the configuration is there", || {
        Ok(config.exists().then_some(()))
    })
    .unwrap();
    network.agents.remove("node1");
    let before = network.inventory("node1");
    let rehearsed = Agent::cleanup(&network.lab, "node1", &["--dry-run"]).unwrap();
    assert_eq!(rehearsed.code, Some(0), "{rehearsed:?}");
    assert!(
        rehearsed.output.contains("the overlay's device"),
        "{}",
        rehearsed.output
    );
    assert_eq!(network.inventory("node1"), before);
    let removed = Agent::cleanup(&network.lab, "node1", &[]).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(network.inventory("node1"), "", "{}", removed.output);
    assert!(!config.exists() && !network.cni("node1", "bin/fairlead-cni").exists());
    let again = Agent::cleanup(&network.lab, "node1", &[]).unwrap();
    assert!(again.output.contains("nothing"), "{again:?}");
}

#[test]
fn an_agent_without_the_router_removes_the_routes_of_before() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let node = network.lab.place("node1").namespace.clone();
    // Of others: a route of the plugin's kind to a pod, and an operator's.
    node.ip("route add 10.244.1.250/32 dev lo proto 70\nroute add 10.99.0.0/16 via 172.31.0.1\n")
        .unwrap();
    let config = network.cni("node1", "net.d/10-fairlead.conflist");
    eventually("the configuration is there", || {
        Ok(config.exists().then_some(()))
    })
    .unwrap();
    network.kill_agent("node1");
    assert_ne!(network.inventory("node1"), "");
    network.flags.push("--run-router=false".to_owned());
    network.start_ready("node1");
    eventually("what it kept is gone", || {
        let left = network.inventory("node1");
        anyhow::ensure!(left.is_empty(), "{left}");
        Ok(Some(()))
    })
    .unwrap();
    let routes = network.show("node1", &["route"]);
    assert!(
        routes.contains("10.244.1.250") && routes.contains("10.99.0.0/16"),
        "{routes}"
    );
    // Pods of this node reach one another and the agent goes on serving.
    let to = network.lab.address("a", false);
    let traffic = Traffic::connect(to, 8080).count(2);
    let report = Flow::run(&network.lab.uncovered("node1"), &traffic).unwrap();
    assert!(report.is_clean(), "{report:?}");
    // The plugin's files stay, for the pods that are there.
    assert!(config.exists());
    let log = std::fs::read_to_string(network.lab.directory().join("node1/agent.log")).unwrap();
    assert!(log.contains("--run-router is false"), "{log}");
    // It is kept again when it is asked for again.
    network.kill_agent("node1");
    network.flags.pop();
    network.start_ready("node1");
    network.await_routes("node1", 4);
    network.expect_reach();
}

/// What every agent sets to 1.
const SETTINGS: [&str; 4] = [
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    "ipv4/conf/lo/accept_local",
    "ipv4/conf/lo/route_localnet",
];
/// What follows the node's, whatever it was.
const FORWARDING: [(&str, &str); 4] = [
    ("ipv4/conf/eth0/forwarding", "1"),
    ("ipv6/conf/eth0/forwarding", "1"),
    ("ipv4/conf/default/forwarding", "0"),
    ("ipv6/conf/lo/forwarding", "0"),
];

#[test]
fn cleanup_sets_the_nodes_settings_to_what_they_were() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    // One node that forwards at one interface alone, and one that has everything already.
    for name in SETTINGS {
        network.set("node1", name, "0");
        network.set("node2", name, "1");
    }
    for (name, value) in FORWARDING {
        network.set("node1", name, value);
    }
    for node in ["node1", "node2"] {
        network.start_ready(node);
        for name in SETTINGS {
            assert_eq!(network.setting(node, name), "1", "{node}: {name}");
        }
        // A second start must not take what the first has set for what was there.
        network.kill_agent(node);
        network.start_ready(node);
        network.agents.remove(node);
        let removed = Agent::cleanup(&network.lab, node, &[]).unwrap();
        assert_eq!(removed.code, Some(0), "{removed:?}");
    }
    for name in SETTINGS {
        assert_eq!(network.setting("node1", name), "0", "{name}");
        assert_eq!(network.setting("node2", name), "1", "{name}");
    }
    for (name, value) in FORWARDING {
        assert_eq!(network.setting("node1", name), value, "{name}");
    }
}
