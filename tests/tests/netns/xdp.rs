//! `--xdp-devices`: real packets of direct server return, sent on by the driver.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::harness::{Agent, AgentOptions, Traffic, Wire, driver, poll};

use crate::cluster::Cluster;
use crate::cluster::From::Covered;
use crate::cluster::{tcp_and_udp, web};

const EXTERNAL: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
const FLAGS: [&str; 4] = [
    "--service-external-ip-range",
    "192.0.2.0/24,2001:db8:2::/48",
    "--xdp-devices",
    "eth0,extra,missing",
];

/// `eth0` as `ip` shows it.
fn uplink(cluster: &Cluster) -> String {
    let namespace = cluster.lab.place("node1").namespace.name().to_owned();
    let shown = Command::new("ip")
        .args(["-n", &namespace, "link", "show", "eth0"])
        .output()
        .unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

/// Packets sent by `node1`'s driver.
fn sent(cluster: &mut Cluster) -> u64 {
    let status = cluster.agent("node1").status().unwrap();
    let counters = status["counters"].as_array().unwrap();
    let row = counters.iter().find(|row| row["name"] == "xdp_sent");
    row.unwrap()["value"].as_u64().unwrap()
}

#[test]
fn the_driver_sends_packets_on_across_a_restart_and_cleanup_takes_it_back() {
    let service = web().endpoints(&["b1"]);
    let cluster = Cluster::without_agents(AgentOptions::flags(&FLAGS), &[&service]);
    let _wire = Wire::of_router(&cluster.lab, "node1").unwrap();
    driver::complete_checksums(&cluster.lab).unwrap();
    let manifests = cluster.lab.manifests();
    manifests
        .edit(&service.file(), |documents| {
            documents[0]["spec"]["externalIPs"] = json!(EXTERNAL);
            documents[0]["metadata"]["annotations"] = json!({"fairlead.io/dsr": "true"});
        })
        .unwrap();
    for (v6, external) in [(false, EXTERNAL[0]), (true, EXTERNAL[1])] {
        let node1 = cluster.lab.address("node1", v6);
        let route = format!("route add {external} via {node1}\n");
        cluster.lab.router().ip(&route).unwrap();
    }
    let node1 = &cluster.lab.place("node1").namespace;
    node1
        .ip("link add extra type ifb\nlink set extra up\n")
        .unwrap();
    let mut cluster = cluster.with_agents(&["node1", "node2"]);

    let status = cluster.agent("node1").status().unwrap();
    let role = |name: &str| {
        let mut devices = status["devices"].as_array().unwrap().iter();
        let row = devices.find(|row| row["name"] == name).unwrap();
        row["role"].as_str().unwrap().to_owned()
    };
    assert_eq!(role("eth0"), "uplink, xdp");
    let refused = role("extra");
    assert!(refused.starts_with("uplink (xdp refused: "), "{refused}");
    assert_eq!(role("missing"), "not there, but named by --xdp-devices");

    for (v6, external) in [(false, EXTERNAL[0]), (true, EXTERNAL[1])] {
        let external: IpAddr = external.parse().unwrap();
        let client = cluster.lab.address("client", v6).to_string();
        for traffic in tcp_and_udp(external, 80) {
            let before = sent(&mut cluster);
            let report = cluster.expect_spread(Covered("client"), traffic, &["b1"]);
            assert_eq!(report.seen_as.iter().collect::<Vec<_>>(), [&client]);
            // The first packets may have to wait for the neighbour, in the stack.
            let by_driver = sent(&mut cluster) - before;
            assert!(by_driver >= 50, "{external}: {by_driver} packets");
        }
    }

    let held = Traffic::hold(EXTERNAL[0].parse::<IpAddr>().unwrap(), 80).workers(3);
    let flow = cluster.flow(Covered("client"), &held);
    cluster.agent("node1").process().kill().unwrap();
    assert!(uplink(&cluster).contains("prog/xdp"));
    cluster.restart("node1");
    let before = sent(&mut cluster);
    crate::cluster::expect_clean(flow);
    assert!(sent(&mut cluster) > before);

    cluster.agents.remove("node1");
    let removed = Agent::cleanup(&cluster.lab, "node1", &[]).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    // The kernel lets go of a link after a grace period of its own.
    let is_gone = || (!uplink(&cluster).contains("prog/xdp")).then_some(());
    assert!(poll(Duration::from_secs(5), is_gone).is_some());
}
