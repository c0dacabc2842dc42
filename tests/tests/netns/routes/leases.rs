//! Leases at the agent's start.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tests::harness::eventually;

use super::{Families, Network};

/// Longer than the agent waits for a lease's interface.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn leases_of_pods_that_are_gone_are_freed_when_the_agent_starts() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    let leases = network.cni("node1", "leases/fairlead/leases");
    fs::create_dir_all(&leases).unwrap();
    let write = |name: &str, age: Duration| {
        let file = File::create(leases.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    // Half of the pods are there.
    let (gone, there) = ("fl0000000000001", "fl0000000000002");
    write(&format!("{gone},10.244.1.71,fd00:244:1::71"), LONG);
    write(&format!("{there},10.244.1.72,fd00:244:1::72"), LONG);
    write("fl0000000000003,10.244.1.73", Duration::ZERO);
    let node = network.lab.place("node1").namespace.clone();
    node.ip(&format!("link add {there} type veth peer name other\n"))
        .unwrap();
    network.start_agent("node1");
    let names = || {
        let entries = fs::read_dir(&leases).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    eventually("the lease is freed", || {
        Ok((!names().iter().any(|name| name.starts_with(gone))).then_some(()))
    })
    .unwrap();
    assert_eq!(names().len(), 2, "{:?}", names());
    // The log says so after it is done.
    let log = || fs::read_to_string(network.lab.directory().join("node1/agent.log"));
    eventually("the log tells of the lease", || {
        Ok(log()?.contains("10.244.1.71").then_some(()))
    })
    .unwrap();
    let log = log().unwrap();
    let mut freed = log.lines().filter(|line| line.contains("lease freed"));
    assert!(freed.all(|line| !line.contains("10.244.1.72")), "{log}");
}

/// The agent installs nothing, and has pods of a configuration that somebody else has written.
#[test]
fn pods_of_an_operators_own_list_are_looked_after_without_the_agents() {
    let mut network = Network::build(Families::Both, 1500, &["--enable-cni=false"]);
    let elsewhere = network.cni("node1", "elsewhere");
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{"type": "fairlead-cni", "ranges": ["10.244.1.0/24"], "stateDir": elsewhere}],
    });
    let configs = network.cni("node1", "net.d");
    fs::create_dir_all(&configs).unwrap();
    fs::write(configs.join("05-pods.conflist"), list.to_string()).unwrap();
    // One network keeps its leases where its list says, of another the list is gone.
    let stores = [
        elsewhere.join("pods/leases"),
        network.cni("node1", "leases/left/leases"),
    ];
    let node = network.lab.place("node1").namespace.clone();
    for (number, leases) in stores.iter().enumerate() {
        fs::create_dir_all(leases).unwrap();
        for (name, last) in [("gone", 71), ("there", 81)] {
            let interface = format!("fl{last:012}{number}");
            let lease = format!("{interface},10.244.1.{}", last + number);
            let file = File::create(leases.join(lease)).unwrap();
            file.set_modified(SystemTime::now() - LONG).unwrap();
            if name == "there" {
                node.ip(&format!("link add {interface} type veth peer name other{number}\nlink set {interface} up\nlink set other{number} up\n"))
                    .unwrap();
            }
        }
    }
    network.start_agent("node1");
    let has_route = |address: &str| {
        !network
            .show("node1", &["route", "show", address])
            .is_empty()
    };
    for (number, leases) in stores.iter().enumerate() {
        let kept = format!("fl{:012}{number},10.244.1.{}", 81, 81 + number);
        eventually("the lease of who is gone is freed", || {
            let entries = fs::read_dir(leases)?.collect::<Result<Vec<_>, _>>()?;
            let names: Vec<_> = entries.iter().map(|entry| entry.file_name()).collect();
            anyhow::ensure!(names == [kept.as_str()], "{names:?}");
            Ok(Some(()))
        })
        .unwrap();
        let address = format!("10.244.1.{}", 81 + number);
        for when in ["at the start", "after somebody has deleted it"] {
            eventually("the route is put back", || {
                anyhow::ensure!(has_route(&address), "{address} {when}");
                Ok(Some(()))
            })
            .unwrap();
            let interface = format!("fl{:012}{number}", 81);
            node.ip(&format!("route del {address} dev {interface}\n"))
                .unwrap();
        }
    }
    assert!(!configs.join("10-fairlead.conflist").exists());
}
