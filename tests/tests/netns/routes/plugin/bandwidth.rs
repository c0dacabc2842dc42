//! Debian's `bandwidth` after `fairlead-cni`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Flow, Traffic, eventually, ip, tc};
use tests::traffic::Report;

use super::{Network, PORT, Pod};
use crate::routes::Families;

/// 8 Mbit/s with 100 kB at once, each way.
const LIMITS: [(&str, u64); 4] = [
    ("ingressRate", 8_000_000),
    ("ingressBurst", 800_000),
    ("egressRate", 8_000_000),
    ("egressBurst", 800_000),
];
/// What takes two seconds at that rate, and a few milliseconds without.
const BYTES: usize = 2_000_000;
/// Less than that, by far more than without.
const LIMITED: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// How long many bytes take from one pod to another.
#[track_caller]
fn takes(from: &Pod, to: &Pod, v6: bool) -> Duration {
    let at = SocketAddr::new(to.address(v6), 7000);
    let listener = to
        .place
        .namespace
        .run(|| Ok(TcpListener::bind(at)?))
        .unwrap();
    let connect = || Ok(TcpStream::connect_timeout(&at, PATIENCE)?);
    let mut stream = from.place.namespace.run(connect).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let begun = Instant::now();
    let sender = thread::spawn(move || stream.write_all(&vec![7; BYTES]));
    let mut arrived = Vec::new();
    accepted.read_to_end(&mut arrived).unwrap();
    sender.join().unwrap().unwrap();
    assert_eq!(arrived.len(), BYTES);
    begun.elapsed()
}

/// How a pod is answered by another, over TCP of both families.
#[track_caller]
fn ask(from: &Pod, to: &Pod) -> [Report; 2] {
    [false, true].map(|v6| {
        let traffic = Traffic::connect(to.address(v6), PORT);
        let traffic = traffic.count(2).timeout_milliseconds(500);
        Flow::run(&from.place, &traffic).unwrap()
    })
}

fn interfaces(network: &Network) -> Vec<Value> {
    let node = &network.lab.place("node1").namespace;
    let links: Value = serde_json::from_str(&ip(node, &["-j", "link"]).unwrap()).unwrap();
    links.as_array().unwrap().clone()
}

#[test]
fn bandwidth_limits_a_pod_of_ours_and_policy_stays_in_force() {
    let mut network = Network::build(Families::Both, 1500, &["--run-firewall"]);
    network.announce(&[
        ("slow", "node1", "slow"),
        ("friend", "node1", "friend"),
        ("stranger", "node1", "stranger"),
    ]);
    let friends = json!([{"podSelector": {"matchLabels": {"app": "friend"}}}]);
    let rules = json!({"policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": friends}], "egress": [{"to": friends}]});
    network.enforce(&[("slow", rules)]);
    network.start_ready("node1");
    network.lab.await_plugin("node1").unwrap();
    let before = interfaces(&network).len();

    let mut list = network.installed("node1");
    let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
    list["plugins"].as_array_mut().unwrap().push(bandwidth);
    let limits: serde_json::Map<_, _> = LIMITS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let given = json!({"bandwidth": limits});
    let [friend, stranger] = ["friend", "stranger"].map(|name| network.plug("node1", name, None).0);
    let (slow, result) = network.plug("node1", "slow", Some((&list, &given)));

    let node = network.lab.place("node1").clone();
    let qdiscs = tc(&node, &["qdisc", "show"]).unwrap();
    let shaped: Vec<_> = qdiscs
        .lines()
        .filter(|line| line.contains("tbf") && line.contains("rate 8Mbit"))
        .collect();
    assert_eq!(shaped.len(), 2, "{qdiscs}");
    // A pair of each pod, and the device that takes what the slow one sends.
    assert_eq!(interfaces(&network).len(), before + 4);
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    assert!(shaped.iter().any(|line| line.contains(host)), "{qdiscs}");
    eventually("the fast path leaves it out", || {
        let status = network.agents["node1"].status()?;
        let left = status["fast_path"]["left_out"].to_string();
        anyhow::ensure!(left.contains(host), "{status:#}");
        let devices = status["devices"].as_array().unwrap();
        let good = devices.iter().all(|device| device["error"].is_null());
        anyhow::ensure!(good, "{devices:#?}");
        Ok(Some(()))
    })
    .unwrap();
    for v6 in [false, true] {
        for (from, to) in [(&slow, &friend), (&friend, &slow)] {
            let took = takes(from, to, v6);
            assert!(took > LIMITED, "{}: {took:?}", from.sandbox.name);
        }
    }
    assert!(takes(&friend, &stranger, false) < LIMITED);
    let others = [(&slow, &stranger), (&stranger, &slow)];
    for (from, to) in others {
        let reports = ask(from, to);
        assert!(reports.iter().all(|r| r.answered == 0), "{reports:?}");
    }
    network.enforce(&[]);
    for (from, to) in others {
        eventually("it is open", || {
            Ok(ask(from, to).iter().all(Report::is_clean).then_some(()))
        })
        .unwrap();
    }

    network
        .lab
        .detach(&slow.sandbox, &list, &given, &result)
        .unwrap();
    network.unplug(&friend);
    network.unplug(&stranger);
    assert_eq!(network.pods_of_plugin("node1"), Vec::<String>::new());
    let left = interfaces(&network);
    assert_eq!(left.len(), before, "{left:#?}");
}
