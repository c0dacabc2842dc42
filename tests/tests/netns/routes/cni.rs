//! The installed CNI configuration and plugin.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::harness::eventually;

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

/// Runs the installed plugin on a node with the installed configuration, as a runtime does.
fn invoke(network: &Network, node: &str, command: &str, pod: &str) -> (Option<i32>, Value) {
    let text = std::fs::read_to_string(network.cni(node, "net.d/10-fairlead.conflist")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = list["cniVersions"][1].clone();
    let mut child = network
        .lab
        .place(node)
        .command(network.cni(node, "bin/fairlead-cni"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", pod)
        .env(
            "CNI_NETNS",
            format!("/run/netns/{}-{pod}", network.lab.name()),
        )
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", network.cni(node, "bin"))
        .env(
            "CNI_ARGS",
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={pod}"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(config.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer)
}

#[test]
fn a_pod_of_the_installed_plugin_reaches_pods_behind_the_overlay() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fresh", "namespace": "lab"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}]}, "status": {"phase": "Pending"}});
    network.lab.manifests().write("fresh.yaml", &[pod]).unwrap();
    eventually("the plugin can serve", || {
        let (code, answer) = invoke(&network, "node1", "STATUS", "fresh");
        anyhow::ensure!(code == Some(0), "{answer:#}");
        Ok(Some(()))
    })
    .unwrap();
    let namespace = format!("{}-fresh", network.lab.name());
    let made = Command::new("ip")
        .args(["netns", "add", &namespace])
        .status()
        .unwrap();
    assert!(made.success());
    let (code, answer) = invoke(&network, "node1", "ADD", "fresh");
    assert_eq!(code, Some(0), "{answer:#}");
    let addresses: Vec<_> = answer["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["address"].clone())
        .collect();
    assert_eq!(addresses, ["10.244.1.2/32", "fd00:244:1::2/128"]);
    for to in [
        "10.244.3.10:8080",
        "[fd00:244:3::10]:8080",
        "10.244.2.10:8080",
    ] {
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &namespace,
                env!("CARGO_BIN_EXE_fairlead-traffic"),
            ])
            .args(["connect", "--to", to, "--count", "3"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(report["answered"], 3, "{to}: {report:#}");
    }
    let link = Command::new("ip")
        .args(["-n", &namespace, "link", "show", "eth0"])
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&link.stdout).contains("mtu 1450"),
        "{link:?}"
    );
    let (code, answer) = invoke(&network, "node1", "DEL", "fresh");
    assert_eq!(code, Some(0), "{answer:#}");
}
