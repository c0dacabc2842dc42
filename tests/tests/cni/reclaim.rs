//! Leases that no DEL comes for.

use std::fs::{self, File};
use std::net::IpAddr;
use std::time::SystemTime;

use cni::config::Place;
use cni::reclaim::{GRACE, Look, Suspects, reclaim};
use serde_json::json;
use tests::harness::CniNode;

/// Containers with an interface each.
const CONTAINERS: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

fn look(node: &CniNode, earlier: &Suspects) -> Look {
    let place = Place {
        network: "pods".to_owned(),
        state_dir: node.state_dir(),
    };
    let looked = || reclaim(&place, earlier).map_err(Into::into);
    node.namespace.run(looked).unwrap()
}

fn freed(look: &Look) -> usize {
    look.freed.len()
}

/// Makes every lease look as if written long ago.
fn age(node: &CniNode) {
    let written = SystemTime::now() - 2 * GRACE;
    for entry in fs::read_dir(node.state_dir().join("pods/leases")).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path());
        file.unwrap().set_modified(written).unwrap();
    }
}

#[test]
fn what_a_restart_leaves_is_freed_and_what_lives_is_not() {
    let node = CniNode::new().unwrap();
    let containers = CONTAINERS.map(str::to_owned);
    node.create(&containers).unwrap();
    // Five addresses, so that the sixth pod gets none until one is free.
    let config = node.config(&json!({"ranges": ["10.9.0.0/29"], "ipMasq": false}));
    let config = config.unwrap();
    for container in &containers[..5] {
        node.invoke("ADD", container, &config)
            .unwrap()
            .result()
            .unwrap();
    }
    let full = node.invoke("ADD", "c6", &config).unwrap().error().unwrap();
    assert_eq!(full.0, 102, "{full:?}");
    age(&node);
    assert_eq!(look(&node, &Suspects::default()), Look::default());

    // Half of them are gone.
    node.end(&containers[..3]).unwrap();
    tests::harness::eventually("their interfaces are gone", || {
        let links = node.show(&["-o", "link", "show", "type", "veth"])?;
        Ok((links.lines().count() == 2).then_some(()))
    })
    .unwrap();
    let alive = node.inventory().unwrap();
    let first = look(&node, &Suspects::default());
    assert_eq!(freed(&first), 3, "{first:?}");
    let gone: Vec<IpAddr> = first
        .freed
        .iter()
        .flat_map(|l| l.addresses.clone())
        .collect();
    let kept = node.inventory().unwrap();
    assert_eq!(kept.len(), alive.len() - 3, "{alive:?} {kept:?}");
    for container in &containers[3..5] {
        let outcome = node.invoke("DEL", container, &config).unwrap();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
    let result = node.invoke("ADD", "c6", &config).unwrap().result().unwrap();
    assert_eq!(gone.len(), 3);
    assert!(result["ips"][0]["address"].is_string(), "{result:#}");

    // A restart: all interfaces are gone, and what was written last is young.
    node.end(&containers[5..]).unwrap();
    tests::harness::eventually("its interface is gone", || {
        let links = node.show(&["-o", "link", "show", "type", "veth"])?;
        Ok(links.is_empty().then_some(()))
    })
    .unwrap();
    let young = look(&node, &Suspects::default());
    assert_eq!((freed(&young), young.suspects.is_empty()), (0, false));
    let second = look(&node, &young.suspects);
    assert_eq!((freed(&second), second.suspects.is_empty()), (1, true));
    assert_eq!(node.inventory().unwrap(), Vec::<String>::new());
}

#[test]
fn an_interface_that_somebody_renamed_keeps_its_lease() {
    let node = CniNode::new().unwrap();
    node.create(&["c1".to_owned()]).unwrap();
    let config = node.config(&json!({})).unwrap();
    let result = node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    age(&node);
    // Routes stay where the kernel renames an interface that is up.
    let renamed = node.namespace.ip(&format!("link set {host} name other\n"));
    if renamed.is_err() {
        node.namespace
            .ip(&format!("link set {host} down\nlink set {host} name other\nlink set other up\nroute add 10.244.1.2/32 dev other\n"))
            .unwrap();
    }
    assert_eq!(look(&node, &Suspects::default()), Look::default());
}
