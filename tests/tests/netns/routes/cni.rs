//! The installed CNI configuration and plugin.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Flow, Sandbox, Traffic, eventually, ip};

use super::{Families, Network};

#[test]
fn the_cni_configuration_comes_with_the_pod_networks_and_follows_them() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    network.apply_nodes(|nodes| {
        nodes[0]["spec"] = json!({});
    });
    network.start_agent("node1");
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .wait_ready()
        .unwrap();
    eventually("it says that it waits", || {
        let cni = network.routing("node1")["cni"].to_string();
        anyhow::ensure!(cni.contains("no pod network"), "{cni}");
        Ok(Some(()))
    })
    .unwrap();
    let path = network.cni("node1", "net.d/10-fairlead.conflist");
    assert!(!path.exists());
    let plugin = || {
        let text = std::fs::read_to_string(&path)?;
        Ok::<_, anyhow::Error>(serde_json::from_str::<Value>(&text)?["plugins"][0].clone())
    };
    let expect = |ranges: Value, mtu: u32| {
        eventually("the configuration is current", || {
            let plugin = plugin()?;
            anyhow::ensure!(
                plugin["ranges"] == ranges && plugin["mtu"] == mtu,
                "{plugin:#}"
            );
            Ok(Some(()))
        })
        .unwrap();
    };
    network.apply_nodes(|_| {});
    expect(json!(["10.244.1.0/24", "fd00:244:1::/64"]), 1450);
    assert_eq!(plugin().unwrap()["type"], "fairlead-cni");
    assert!(network.cni("node1", "bin/fairlead-cni").exists());
    let node = network.lab.place("node1").namespace.clone();
    node.ip("link set eth0 mtu 1400\n").unwrap();
    expect(json!(["10.244.1.0/24", "fd00:244:1::/64"]), 1350);
    network.apply_nodes(|nodes| nodes[0]["spec"] = json!({"podCIDRs": ["10.244.77.0/24"]}));
    expect(json!(["10.244.77.0/24"]), 1350);
}

#[test]
fn a_pod_of_the_installed_plugin_reaches_pods_behind_the_overlay() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fresh", "namespace": "lab"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}]}, "status": {"phase": "Pending"}});
    network.lab.manifests().write("fresh.yaml", &[pod]).unwrap();
    network.lab.await_plugin("node1").unwrap();
    let sandbox = Sandbox::new("node1", "lab", "fresh");
    let place = network.lab.create_sandbox(&sandbox).unwrap();
    let added = network.lab.invoke_plugin("ADD", &sandbox).unwrap();
    let answer = added.result().unwrap();
    let addresses: Vec<_> = answer["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["address"].clone())
        .collect();
    assert_eq!(addresses, ["10.244.1.2/32", "fd00:244:1::2/128"]);
    for (to, v6) in [("c", false), ("c", true), ("b", false)] {
        let traffic = Traffic::connect(network.lab.address(to, v6), 8080).count(3);
        let report = Flow::run(&place, &traffic).unwrap();
        assert_eq!(report.answered, 3, "{to}: {report:?}");
    }
    let link = ip(&place.namespace, &["link", "show", "eth0"]).unwrap();
    assert!(link.contains("mtu 1450"), "{link}");
    expect_routes_put_back(&network, &addresses);
    let deleted = network.lab.invoke_plugin("DEL", &sandbox).unwrap();
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
    network.lab.end_sandbox(&sandbox).unwrap();
}

/// Somebody deletes the node's routes to a pod, or has its interface down for a moment.
#[track_caller]
fn expect_routes_put_back(network: &Network, addresses: &[Value]) {
    let addresses = addresses.iter().map(|address| address.as_str().unwrap());
    let addresses: Vec<&str> = addresses.collect();
    let node = network.lab.place("node1").namespace.clone();
    let routes = || {
        let show = |family| ip(&node, &[family, "route", "show", "proto", "70"]).unwrap();
        format!("{}{}", show("-4"), show("-6"))
    };
    let before = routes();
    let (_, behind) = before.split_once(" dev ").unwrap();
    let interface = behind.split_whitespace().next().unwrap().to_owned();
    // A lease this young may be an ADD's that is under way.
    std::thread::sleep(Duration::from_secs(2));
    let down_and_up = format!("link set {interface} down\nlink set {interface} up\n");
    for change in [
        addresses
            .iter()
            .map(|address| format!("route del {address} dev {interface}\n"))
            .collect(),
        down_and_up,
    ] {
        node.ip(&change).unwrap();
        let begun = Instant::now();
        eventually("the routes are back", || {
            let now = routes();
            let all = addresses.iter().all(|address| {
                let (host, _) = address.split_once('/').unwrap();
                now.contains(host)
            });
            Ok(all.then_some(()))
        })
        .unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{change}: {:?}",
            begun.elapsed()
        );
    }
}
