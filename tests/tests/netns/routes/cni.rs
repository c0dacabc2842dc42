//! The installed CNI configuration and plugin.

use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount_bind, mount_remount};
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

#[test]
fn a_node_without_its_pod_network_gives_no_addresses_and_takes_those_of_before_back() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    network.start_ready("node1");
    network.lab.await_plugin("node1").unwrap();
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "lab"},
            "spec": {"nodeName": "node1", "containers": [{"name": "c"}]}})
    };
    let pods = [pod("old"), pod("new")];
    network.lab.manifests().write("fresh.yaml", &pods).unwrap();
    let [old, new] = ["old", "new"].map(|name| Sandbox::new("node1", "lab", name));
    let place = network.lab.create_sandbox(&old).unwrap();
    network.lab.create_sandbox(&new).unwrap();
    let add = |sandbox: &Sandbox| network.lab.invoke_plugin("ADD", sandbox).unwrap();
    add(&old).result().unwrap();
    let inventory = || network.pods_of_plugin("node1");
    let with_old = inventory();

    network.apply_nodes(|nodes| nodes[0]["spec"] = json!({}));
    eventually("no address is given", || {
        let outcome = network.lab.invoke_plugin("STATUS", &new)?;
        let (code, text) = outcome.error()?;
        anyhow::ensure!(code == 50 && text.contains("no pod network"), "{text}");
        Ok(Some(()))
    })
    .unwrap();
    let (code, text) = add(&new).error().unwrap();
    assert_eq!(code, 11, "{text}");
    assert!(text.contains("spec.podCIDRs"), "{text}");
    assert_eq!(inventory(), with_old);
    let state = network.routing("node1")["cni"].to_string();
    assert!(state.contains("gives no addresses"), "{state}");
    // The pod that is there has its network still, on its node.
    let to_a = Traffic::connect(network.lab.address("a", false), 8080).count(2);
    let report = Flow::run(&place, &to_a).unwrap();
    assert!(report.is_clean(), "{report:?}");

    network.apply_nodes(|nodes| nodes[0]["spec"] = json!({"podCIDRs": ["10.244.77.0/24"]}));
    network.lab.await_plugin("node1").unwrap();
    let answer = add(&new).result().unwrap();
    assert_eq!(answer["ips"][0]["address"], "10.244.77.2/32", "{answer}");
    let report = Flow::run(&place, &to_a).unwrap();
    assert!(report.is_clean(), "{report:?}");
    network.apply_nodes(|nodes| nodes[0]["spec"] = json!({}));
    eventually("no address is given", || {
        let outcome = network.lab.invoke_plugin("STATUS", &new)?;
        Ok((outcome.code != Some(0)).then_some(()))
    })
    .unwrap();
    for sandbox in [&old, &new] {
        let deleted = network.lab.invoke_plugin("DEL", sandbox).unwrap();
        assert_eq!(deleted.code, Some(0), "{deleted:?}");
    }
    let nothing: Vec<String> = Vec::new();
    assert_eq!(inventory(), nothing);
}

#[test]
fn a_directory_that_is_read_only_is_named_and_the_rest_works_until_it_is_not() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    let directory = network.cni("node1", "net.d");
    std::fs::create_dir_all(&directory).unwrap();
    mount_bind(&directory, &directory).unwrap();
    mount_remount(&directory, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
    network.start_ready("node1");
    let path = directory.join("10-fairlead.conflist");
    let words = [
        path.to_str().unwrap(),
        "Read-only file system",
        "make its directory writable",
    ];
    eventually("it is told", || {
        let error = network.routing("node1")["cni_error"].to_string();
        anyhow::ensure!(words.iter().all(|word| error.contains(word)), "{error}");
        Ok(Some(()))
    })
    .unwrap();
    let log = network.agents["node1"].log();
    let told = log
        .lines()
        .filter(|line| line.contains(words[0]) && line.contains("tried again"));
    assert_eq!(told.count(), 1, "{log}");
    network.start_ready("node2");
    network.await_routes("node1", 4);
    network.await_routes("node2", 4);
    let traffic = Traffic::connect(network.lab.address("b", false), 8080).count(2);
    let report = Flow::run(network.lab.place("a"), &traffic).unwrap();
    assert!(report.is_clean(), "{report:?}");
    mount_remount(&directory, MountFlags::BIND, "").unwrap();
    eventually("it is installed", || {
        let routing = network.routing("node1");
        let good = path.exists() && routing["cni_error"].is_null();
        anyhow::ensure!(good, "{routing:#}");
        Ok(Some(()))
    })
    .unwrap();
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
            for address in &addresses {
                let (host, _) = address.split_once('/').unwrap();
                anyhow::ensure!(now.contains(host), "after {change}{now}");
            }
            Ok(Some(()))
        })
        .unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{change}: {:?}",
            begun.elapsed()
        );
    }
}
