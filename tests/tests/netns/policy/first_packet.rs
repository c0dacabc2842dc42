//! Closed from the first packet: with a CNI plugin that waits, and with one that does not.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Traffic, eventually};

use super::{POLICIES, app, start};
use crate::cluster::Cluster;
use crate::cluster::From::Covered;

/// The pod whose interface is made anew, and its label.
const POD: &str = "pod-c";
/// Where the pod's next hop is, as the lab has it.
const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";

/// Sends without a pause, whatever the kernel says, and counts what is answered.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sender {
    fn start(cluster: &Cluster, to: IpAddr) -> Self {
        let namespace = cluster.lab.place(POD).namespace.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let send = move || -> anyhow::Result<u64> {
            let any: &str = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                // Before there is an interface the network is unreachable.
                drop(socket.send_to(b"x", (to, 8080)));
                answered += u64::from(socket.recv(&mut [0; 64]).is_ok());
                std::thread::sleep(Duration::from_micros(100));
            }
            Ok(answered)
        };
        let thread = std::thread::spawn(move || namespace.run(send).unwrap());
        Self { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// `POST /v1/pod-interface`: status code and answer.
#[track_caller]
fn ask(cluster: &Cluster, question: &Value) -> (u16, Value) {
    let socket = cluster.lab.directory().join("node1").join("agent.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let body = question.to_string();
    let length = body.len();
    write!(
        stream,
        "POST /v1/pod-interface HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    (code, body)
}

fn addresses(cluster: &Cluster) -> [IpAddr; 2] {
    [false, true].map(|v6| cluster.lab.address(POD, v6))
}

/// The pod as kubelet has it before its network is there: without an address. It may send nothing.
fn without_addresses(cluster: &Cluster) {
    cluster
        .lab
        .manifests()
        .edit("pods.yaml", |documents| {
            let pod = documents
                .iter_mut()
                .find(|pod| pod["metadata"]["name"] == POD);
            let pod = pod.unwrap();
            pod["metadata"]["labels"] = json!({"app": "quiet"});
            pod.as_object_mut().unwrap().remove("status");
        })
        .unwrap();
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "quiet", "namespace": "lab"},
        "spec": {"podSelector": app("quiet")["podSelector"], "policyTypes": ["Egress"]}});
    cluster.lab.manifests().write(POLICIES, &[policy]).unwrap();
}

/// Takes the pod's interface away, and starts what sends from its first microsecond on.
fn take_away(cluster: &Cluster) -> Vec<Sender> {
    let node = &cluster.lab.place("node1").namespace;
    node.ip(&format!("link del p-{POD}\n")).unwrap();
    let targets = [false, true].map(|v6| cluster.lab.address("a1", v6));
    targets.map(|to| Sender::start(cluster, to)).into()
}

/// The node's side of a new interface, with its routes; the pod's is still down. Its index.
fn plug(cluster: &Cluster) -> u32 {
    let node = &cluster.lab.place("node1").namespace;
    let pod = cluster.lab.place(POD).namespace.name().to_owned();
    let mut lines = format!(
        "link add p-{POD} address {GATEWAY_MAC} type veth peer name eth0 netns {pod}\nlink set p-{POD} up\n"
    );
    for address in addresses(cluster) {
        lines += &format!("route add {address} dev p-{POD}\n");
    }
    node.ip(&lines).unwrap();
    let name = format!("p-{POD}");
    let index = node.run(|| {
        let output = std::process::Command::new("ip")
            .args(["-j", "link", "show", &name])
            .output()?;
        let links: Value = serde_json::from_slice(&output.stdout)?;
        Ok(links[0]["ifindex"].as_u64())
    });
    u32::try_from(index.unwrap().unwrap()).unwrap()
}

/// The pod may go.
fn release(cluster: &Cluster) {
    let mut lines = "link set eth0 up\n".to_owned();
    for address in addresses(cluster) {
        let gateway = if address.is_ipv4() {
            "169.254.1.1"
        } else {
            "fe80::1"
        };
        lines += &format!(
            "addr add {address} dev eth0 nodad\nneigh replace {gateway} lladdr {GATEWAY_MAC} dev eth0 nud permanent\nroute add default via {gateway} dev eth0 onlink\n"
        );
    }
    cluster.lab.place(POD).namespace.ip(&lines).unwrap();
}

fn question(cluster: &Cluster, index: u32) -> Value {
    json!({"version": 1, "namespace": "lab", "name": POD, "interface": format!("p-{POD}"),
        "index": index, "addresses": addresses(cluster)})
}

#[track_caller]
fn denied(cluster: &mut Cluster) -> f64 {
    let metric = r#"fairlead_drops_total{reason="policy_egress"}"#;
    cluster.agent("node1").metric(metric).unwrap().unwrap()
}

#[test]
fn a_pod_that_waits_for_its_rules_gets_nothing_through() {
    let mut cluster = start(&[], &[]);
    without_addresses(&cluster);
    let flows = take_away(&cluster);
    let index = plug(&cluster);
    let asked = Instant::now();
    let answer = loop {
        // The Pod's new label may not have been heard yet.
        let (code, answer) = ask(&cluster, &question(&cluster, index));
        if code == 200 && answer["egress"] == json!(["NetworkPolicy lab/quiet"]) {
            break answer;
        }
        assert!(code == 200 || answer["retry"] == true, "{code} {answer}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{code} {answer}");
        std::thread::yield_now();
    };
    assert_eq!(
        answer["programs"],
        json!(["policed_ingress", "policed_egress"])
    );
    assert_eq!(answer["ingress"], Value::Null);
    let before = denied(&mut cluster);
    release(&cluster);
    eventually("the pod has tried", || {
        let now = denied(&mut cluster);
        anyhow::ensure!(now > before + 50.0, "{now}");
        Ok(Some(()))
    })
    .unwrap();
    for flow in flows {
        assert_eq!(flow.stop(), 0);
    }
    // Once more, of a pod that has what it was given: it is at hand.
    let (code, answer) = ask(&cluster, &question(&cluster, index));
    assert_eq!(code, 200, "{answer}");
    for (field, value, code) in [
        ("version", json!(2), 400),
        ("name", json!("absent"), 503),
        ("index", json!(9999), 503),
        ("addresses", json!([]), 400),
    ] {
        let mut wrong = question(&cluster, index);
        wrong[field] = value;
        let (found, answer) = ask(&cluster, &wrong);
        assert_eq!(found, code, "{field}: {answer}");
        assert_eq!(answer["retry"], json!(code == 503), "{field}: {answer}");
    }
}

/// A foreign CNI plugin does not wait, and the pod's address is heard of later than its packets.
/// Here the address comes with the interface, so what is measured is the agent's part.
#[test]
fn a_pod_that_does_not_wait_is_closed_once_its_interface_and_address_are_known() {
    let mut cluster = start(&[], &[]);
    without_addresses(&cluster);
    let flows = take_away(&cluster);
    let began = Instant::now();
    plug(&cluster);
    release(&cluster);
    cluster
        .lab
        .manifests()
        .edit("pods.yaml", |documents| {
            let pod = documents
                .iter_mut()
                .find(|pod| pod["metadata"]["name"] == POD);
            let ips: Vec<Value> = addresses(&cluster)
                .iter()
                .map(|ip| json!({"ip": ip}))
                .collect();
            pod.unwrap()["status"] = json!({"podIPs": ips});
        })
        .unwrap();
    eventually("the pod is closed", || {
        let now = denied(&mut cluster);
        anyhow::ensure!(now > 0.0, "{now}");
        Ok(Some(()))
    })
    .unwrap();
    eprintln!("closed {:?} after its interface came", began.elapsed());
    for flow in flows {
        eprintln!("meanwhile {} packets were answered", flow.stop());
    }
    let to = Traffic::udp_fresh(cluster.lab.address("a1", false), 8080);
    let report = cluster.run(Covered(POD), &to.count(5).timeout_milliseconds(100));
    assert_eq!(report.answered, 0, "{report:?}");
}
