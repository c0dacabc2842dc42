//! Closed from the first packet: what a pod sends before, while and after it gets its interface.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use tests::harness::{Place, Sandbox, eventually};

use super::{NAMESPACE, Network, PORT};
use crate::routes::Families;

/// Pods that may send nothing, one after the other.
const CLOSED: [&str; 4] = ["closed-1", "closed-2", "closed-3", "closed-4"];

/// Sends without a pause, whatever the kernel says, and counts what is answered.
struct Sender {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Sender {
    fn start(place: &Place, to: IpAddr) -> Self {
        let namespace = place.namespace.clone();
        let answered = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (Arc::clone(&answered), Arc::clone(&stop));
        let send = move || -> anyhow::Result<()> {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            while !stopped.load(Ordering::Relaxed) {
                // Before there is an interface the network is unreachable.
                drop(socket.send_to(b"x", (to, PORT)));
                if socket.recv(&mut [0; 64]).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(50));
            }
            Ok(())
        };
        let thread = thread::spawn(move || namespace.run(send).unwrap());
        Self {
            answered,
            stop,
            thread,
        }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.answered.load(Ordering::Relaxed)
    }
}

#[test]
fn a_pod_gets_nothing_through_from_its_first_microsecond_on() {
    let mut network = Network::build(Families::Both, 1500, &["--run-firewall"]);
    let closed = CLOSED.map(|name| (name, "node1", "closed"));
    network.announce(&[&closed[..], &[("open", "node1", "open")]].concat());
    network.enforce(&[("closed", json!({"policyTypes": ["Egress"]}))]);
    network.start_ready("node1");
    network.lab.await_plugin("node1").unwrap();
    let denied = || network.metric("node1", r#"fairlead_drops_total{reason="policy_egress"}"#);
    for name in CLOSED.into_iter().chain(["open"]) {
        let sandbox = Sandbox::new("node1", NAMESPACE, name);
        let place = network.lab.create_sandbox(&sandbox).unwrap();
        let senders = [false, true]
            .map(|v6| network.lab.address("a", v6))
            .map(|to| Sender::start(&place, to));
        let before = denied();
        let added = network.lab.invoke_plugin("ADD", &sandbox).unwrap();
        added.result().unwrap();
        let is_open = name == "open";
        eventually("the pod has tried", || {
            let tried = match is_open {
                // So the senders send, and would be answered.
                true => senders.iter().all(|sender| sender.answered() > 0),
                false => denied() > before + 50.0,
            };
            anyhow::ensure!(tried, "{name}: {} dropped", denied() - before);
            Ok(Some(()))
        })
        .unwrap();
        for sender in senders {
            assert_eq!(sender.stop() > 0, is_open, "{name}");
        }
        let deleted = network.lab.invoke_plugin("DEL", &sandbox).unwrap();
        assert_eq!(deleted.code, Some(0), "{deleted:?}");
        network.lab.end_sandbox(&sandbox).unwrap();
    }
    assert_eq!(network.pods_of_plugin("node1"), Vec::<String>::new());
}
