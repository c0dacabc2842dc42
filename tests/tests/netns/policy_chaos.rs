//! Policies that change, and agents that die, under a load that is counted packet by packet.
//!
//! Sender and receiver are threads of the test with sockets in two pods, so both counts are known
//! exactly, and the sender waits while too much is on its way: no socket overflows. What is allowed
//! may not lose one packet, of what is forbidden not one may arrive.

use std::env;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Agent, AgentOptions, eventually};

use crate::cluster::Cluster;

/// Where `cargo xtask test chaos` says how many packets have to arrive.
const PACKETS: &str = "FAIRLEAD_POLICY_PACKETS";
/// An agent whose tables have another layout.
const NEXT: &str = "FAIRLEAD_AGENT_NEXT";

/// Of the first stream; each has a port of its own, all below 8000.
const PORT: u16 = 7770;
/// Packets on their way at a time.
const WINDOW: u64 = 128;
/// Packets sent without a rest. Without rests the kernel would do nothing else: what agents ask of
/// it waits for quiet on every processor.
const BURST: u64 = 32;
const REST: Duration = Duration::from_micros(500);
/// A new socket, so a new connection, for each of these.
const A_FLOW: u64 = 500;
/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two packets that nobody waits for.
const PAUSE: Duration = Duration::from_micros(300);

/// Packets from one pod to another.
struct Stream {
    name: String,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    /// Found by the sender, which then goes on.
    lost: AtomicU64,
    stop: AtomicBool,
    deaf: AtomicBool,
}

impl Stream {
    /// Starts one. What is not `waited` for is sent whether it arrives or not.
    #[track_caller]
    fn start(
        cluster: &Cluster,
        number: u16,
        (from, to, v6): (&str, &str, bool),
        waited: bool,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        let address = cluster.lab.address(to, v6);
        let target = SocketAddr::new(address, PORT + number);
        let receiver = cluster.lab.place(to).namespace.run(|| {
            let socket = UdpSocket::bind(target)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        });
        let receiver = receiver.unwrap();
        let place = cluster.lab.place(from).clone();
        let (of_receiver, of_sender) = (Arc::clone(&counts), Arc::clone(&counts));
        let threads = vec![
            thread::spawn(move || receive(&receiver, &of_receiver)),
            thread::spawn(move || {
                let sent = place.namespace.run(|| send(target, waited, &of_sender));
                sent.unwrap();
            }),
        ];
        Self {
            name: format!("{from} > {target}"),
            counts,
            threads,
        }
    }

    fn received(&self) -> u64 {
        self.counts.received.load(SeqCst)
    }

    /// Ends it: sent, received.
    #[track_caller]
    fn stop(mut self) -> (u64, u64) {
        let threads = std::mem::take(&mut self.threads);
        let (name, counts) = (&self.name, &self.counts);
        counts.stop.store(true, SeqCst);
        let [receiver, sender] = <[_; 2]>::try_from(threads).unwrap();
        sender.join().unwrap();
        // What is on its way still counts.
        thread::sleep(Duration::from_millis(200));
        counts.deaf.store(true, SeqCst);
        receiver.join().unwrap();
        let (sent, received) = (counts.sent.load(SeqCst), counts.received.load(SeqCst));
        eprintln!("{name}: {sent} sent, {received} received");
        (sent, received)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.counts.stop.store(true, SeqCst);
        self.counts.deaf.store(true, SeqCst);
    }
}

fn receive(socket: &UdpSocket, counts: &Counts) {
    let mut buffer = [0; 64];
    while !counts.deaf.load(SeqCst) {
        if socket.recv(&mut buffer).is_ok() {
            counts.received.fetch_add(1, SeqCst);
        }
    }
}

fn send(to: SocketAddr, waited: bool, counts: &Counts) -> anyhow::Result<()> {
    let open = || -> anyhow::Result<UdpSocket> {
        let socket = match to {
            SocketAddr::V4(_) => UdpSocket::bind("0.0.0.0:0")?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        socket.connect(to)?;
        Ok(socket)
    };
    let mut kept = open()?;
    let mut fresh = open()?;
    let mut number = 0_u64;
    while !counts.stop.load(SeqCst) {
        if number.is_multiple_of(A_FLOW) {
            fresh = open()?;
        }
        // Of two connections one goes on through everything.
        let socket = if number.is_multiple_of(2) {
            &mut kept
        } else {
            &mut fresh
        };
        socket.send(&number.to_be_bytes())?;
        counts.sent.fetch_add(1, SeqCst);
        number += 1;
        if waited {
            wait_for_room(counts);
            if number.is_multiple_of(BURST) {
                thread::sleep(REST);
            }
        } else {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn wait_for_room(counts: &Counts) {
    let begun = Instant::now();
    loop {
        let arrived = counts.received.load(SeqCst) + counts.lost.load(SeqCst);
        let sent = counts.sent.load(SeqCst);
        if sent.saturating_sub(arrived) < WINDOW {
            return;
        }
        if begun.elapsed() > PATIENCE {
            counts
                .lost
                .store(sent - counts.received.load(SeqCst), SeqCst);
            return;
        }
        thread::sleep(Duration::from_micros(20));
    }
}

/// The pods' labels: those of `a2` go round.
fn write_pods(cluster: &Cluster, round: usize) {
    let pods = [
        ("a1", "web"),
        ("b1", "web"),
        ("pod-a", "client"),
        ("pod-c", "client"),
        ("pod-b", "stranger"),
        ("a2", ["one", "two", "three"][round % 3]),
    ];
    let pods = pods.map(|(name, app)| (name, "lab", json!({"app": app})));
    cluster.lab.apply_pods(&pods).unwrap();
}

/// `web` is for `client` alone, and `stranger` reaches nobody but `db`, in a different way each
/// round.
fn write_policies(cluster: &Cluster, round: usize) {
    let app = |name: &str| json!({"podSelector": {"matchLabels": {"app": name}}});
    let mut peers = vec![app("client"), app(["one", "two", "three"][(round + 1) % 3])];
    if round.is_multiple_of(2) {
        peers.push(json!({"ipBlock": {"cidr": format!("198.51.{}.0/24", round % 250)}}));
    }
    let mut rules = vec![json!({"from": peers})];
    if round % 4 == 1 {
        // What was allowed by a rule for all ports is now by one of single ports.
        rules = vec![json!({"from": peers, "ports": [
            {"protocol": "UDP", "port": 7000, "endPort": 7999}, {"port": 80 + round}]})];
    }
    let policy = |name: &str, spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "lab", "name": name}, "spec": spec})
    };
    let mut policies = vec![
        policy(
            "web",
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": rules}),
        ),
        policy(
            "stranger",
            json!({"podSelector": {"matchLabels": {"app": "stranger"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [app("db"), {"ipBlock": {"cidr": format!("203.0.{}.0/24", round % 250)}}]}]}),
        ),
    ];
    if round.is_multiple_of(3) {
        policies.push(policy(
            "all",
            json!({"podSelector": {}, "ingress": [{"from": [app("client")]}]}),
        ));
    }
    let manifests = cluster.lab.manifests();
    manifests.write("policies.yaml", &policies).unwrap();
}

/// Runs `change` for each round until enough has arrived; the answer is the number of rounds, and how
/// many packets were not to arrive.
#[track_caller]
fn under_load(cluster: &mut Cluster, mut change: impl FnMut(&mut Cluster, usize)) -> (usize, u64) {
    let enough = env::var(PACKETS)
        .ok()
        .and_then(|given| given.parse().ok())
        .unwrap_or(1_000_000);
    let allowed = [
        Stream::start(cluster, 1, ("pod-a", "a1", false), true),
        Stream::start(cluster, 2, ("pod-c", "b1", true), true),
    ];
    let forbidden = [
        Stream::start(cluster, 3, ("pod-b", "a1", true), false),
        Stream::start(cluster, 4, ("pod-b", "pod-a", false), false),
        Stream::start(cluster, 5, ("node1", "b1", false), false),
        Stream::start(cluster, 6, ("node2", "a1", false), false),
    ];
    let mut rounds = 0;
    while rounds < 12 || allowed.iter().map(Stream::received).sum::<u64>() < enough {
        rounds += 1;
        write_policies(cluster, rounds);
        write_pods(cluster, rounds);
        change(cluster, rounds);
    }
    for stream in allowed {
        let (sent, received) = stream.stop();
        assert_eq!(sent, received);
    }
    let mut held_back = 0;
    for stream in forbidden {
        let (sent, received) = stream.stop();
        held_back += sent;
        assert!(sent > 100 && received == 0, "{received} of {sent} arrived");
    }
    (rounds, held_back)
}

#[track_caller]
fn start() -> Cluster {
    let options = AgentOptions::flags(&["--run-firewall"]);
    let cluster = Cluster::without_agents(options, &[]);
    write_pods(&cluster, 0);
    write_policies(&cluster, 0);
    cluster.with_agents(&["node1", "node2"])
}

fn drops(agent: &Agent) -> anyhow::Result<f64> {
    let reasons = ["policy_ingress", "policy_egress"];
    let counts = reasons.map(|reason| {
        let name = format!("fairlead_drops_total{{reason=\"{reason}\"}}");
        anyhow::Ok(agent.metric(&name)?.unwrap_or(0.0))
    });
    counts.into_iter().sum()
}

#[test]
fn updates_lose_nothing_that_is_allowed_and_let_nothing_else_through() {
    let mut cluster = start();
    let begun = Instant::now();
    let mut seen = None;
    let (rounds, held_back) = under_load(&mut cluster, |cluster, _| {
        let agent = cluster.agent("node1");
        seen = eventually("the round is applied", || {
            let applies = agent.metric("fairlead_applies_total")?;
            anyhow::ensure!(applies > seen, "{seen:?}");
            Ok(Some(applies))
        })
        .unwrap();
    });
    eprintln!("{rounds} updates in {:.0?}", begun.elapsed());
    let nodes = ["node1", "node2"];
    let dropped: f64 = nodes
        .map(|node| drops(cluster.agent(node)).unwrap())
        .iter()
        .sum();
    assert!(dropped >= held_back as f64, "{dropped} of {held_back}");
}

#[test]
fn agents_that_die_and_are_upgraded_lose_nothing_and_let_nothing_through() {
    let mut cluster = start();
    let next = PathBuf::from(env::var_os(NEXT).expect(
        "FAIRLEAD_AGENT_NEXT names an agent with other tables; run `cargo xtask test netns`",
    ));
    let begun = Instant::now();
    let (rounds, _) = under_load(&mut cluster, |cluster, round| {
        let node = ["node1", "node2"][round % 2];
        if round % 5 == 0 {
            cluster.agent(node).process().terminate().unwrap();
            let process = cluster.agent(node).process();
            process.wait(Duration::from_secs(10)).unwrap();
        } else {
            cluster.agent(node).process().kill().unwrap();
        }
        // The policies change while there is no agent too.
        write_policies(cluster, round + 1);
        cluster.options.program = (round % 4 >= 2).then(|| next.clone());
        cluster.restart(node);
    });
    eprintln!("{rounds} restarts in {:.0?}", begun.elapsed());
}
