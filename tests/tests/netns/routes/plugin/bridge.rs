//! kube-router's configuration: `bridge` with `host-local`, of Debian's plugins, beside the agent.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tests::harness::{eventually, tc};

use super::{NAMESPACE, Network, PORT, Pod};
use crate::routes::Families;

/// As kube-router's manifests have it, but for where host-local keeps its leases.
fn configuration(leases: &Path) -> Value {
    json!({
        "cniVersion": "0.3.0",
        "name": "kubernetes",
        "type": "bridge",
        "bridge": "kube-bridge",
        "isDefaultGateway": true,
        "hairpinMode": true,
        "ipam": {"type": "host-local", "dataDir": leases},
    })
}

fn read(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// Waits until the configuration has these subnets; every look finds it whole.
#[track_caller]
fn await_subnets(path: &Path, subnets: &[&str]) -> Value {
    let sets: Vec<Value> = subnets
        .iter()
        .map(|subnet| json!([{"subnet": subnet}]))
        .collect();
    eventually("the subnets are current", || {
        let config = read(path)?;
        let ipam = &config["ipam"];
        anyhow::ensure!(ipam["ranges"] == json!(sets), "{config:#}");
        Ok(Some(config))
    })
    .unwrap()
}

/// Writes what the kubelet reports of pods that have a network.
fn report(network: &Network, pods: &[(&Pod, &str)]) {
    let documents: Vec<Value> = pods
        .iter()
        .map(|(pod, app)| {
            let ips: Vec<Value> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod.sandbox.name, "namespace": NAMESPACE, "labels": {"app": app}},
                "spec": {"nodeName": pod.sandbox.node, "containers": [{"name": "c"}]},
                "status": {"phase": "Running", "podIPs": ips}})
        })
        .collect();
    let manifests = network.lab.manifests();
    manifests.write("announced.yaml", &documents).unwrap();
}

/// Says that something has ended, however.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn pods_of_kube_routers_bridge_work_beside_the_agent() {
    let mut network = Network::build(Families::Both, 1500, &["--run-firewall"]);
    let path = network.cni("node1", "net.d/10-kuberouter.conf");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let leases = network.cni("node1", "host-local");
    let without_subnet = configuration(&leases);
    fs::write(&path, without_subnet.to_string()).unwrap();
    network.start_ready("node1");
    network.start_ready("node2");
    network.await_routes("node1", 4);
    network.await_routes("node2", 4);
    let list = await_subnets(&path, &["10.244.1.0/24", "fd00:244:1::/64"]);
    assert_eq!(list["mtu"], 1450);
    for (key, value) in without_subnet.as_object().unwrap() {
        if key != "ipam" {
            assert_eq!(list[key], *value);
        }
    }
    assert!(!network.cni("node1", "net.d/10-fairlead.conflist").exists());

    let none = json!({});
    let plug = |name: &str| network.plug("node1", name, Some((&list, &none)));
    let ((p, of_p), (q, of_q)) = (plug("p"), plug("q"));
    report(&network, &[(&p, "web"), (&q, "web")]);
    for v6 in [false, true] {
        p.reaches(q.address(v6));
        q.reaches(p.address(v6));
        p.reaches(p.address(v6));
        p.reaches(network.lab.address("b", v6));
        // Itself by a Service, over the bridge's port that it came from.
        let service = match v6 {
            false => "10.96.0.70",
            true => "fd00:96::70",
        };
        let service = service.parse().unwrap();
        network.serve(service, &[&p, &q]);
        network.await_spread(&p, service, &["p", "q"]);
        network.serve(service, &[&p]);
        network.await_spread(&p, service, &["p"]);
        network.await_spread(&q, service, &["p"]);
    }
    // Policy between two pods of one bridge, and from another node.
    network.enforce(&[("web", json!({"policyTypes": ["Ingress"]}))]);
    let is_closed = |v6: bool| {
        let reports = q.asks(p.address(v6));
        reports.iter().all(|report| report.answered == 0)
    };
    for v6 in [false, true] {
        eventually("it is closed", || Ok(is_closed(v6).then_some(()))).unwrap();
    }
    network.enforce(&[]);
    for v6 in [false, true] {
        eventually("it is open", || {
            let reports = q.asks(p.address(v6));
            Ok(reports
                .iter()
                .all(tests::traffic::Report::is_clean)
                .then_some(()))
        })
        .unwrap();
    }

    // The node's networks change while runtimes read the file over and over.
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let until = End(&ended);
        let looks = scope.spawn(|| {
            let mut looks = 0_u32;
            while !ended.load(Ordering::Relaxed) {
                read(&path).unwrap();
                looks += 1;
            }
            looks
        });
        for third in ["77", "78", "79", "77"] {
            let networks = [
                format!("10.244.{third}.0/24"),
                format!("fd00:244:{third}::/64"),
            ];
            network.apply_nodes(|nodes| nodes[0]["spec"] = json!({"podCIDRs": networks}));
            await_subnets(&path, &networks.each_ref().map(String::as_str));
        }
        drop(until);
        assert!(looks.join().unwrap() > 100);
    });
    let moved = read(&path).unwrap();
    for (pod, result) in [(&p, &of_p), (&q, &of_q)] {
        let lab = &network.lab;
        lab.detach(&pod.sandbox, &list, &none, result).unwrap();
        lab.end_sandbox(&pod.sandbox).unwrap();
    }
    // The bridge has the address of before, which is not the agent's to change.
    let node = network.lab.place("node1").clone();
    node.namespace.ip("link del kube-bridge\n").unwrap();
    let (fresh, _) = network.plug("node1", "fresh", Some((&moved, &none)));
    assert!(fresh.address(false).to_string().starts_with("10.244.77."));
    assert!(fresh.address(true).to_string().starts_with("fd00:244:77:"));
    let qdiscs = tc(&node, &["qdisc", "show"]).unwrap();
    assert!(!qdiscs.contains("clsact"), "{qdiscs}, port {PORT}");
}
