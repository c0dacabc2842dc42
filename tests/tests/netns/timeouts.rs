//! What is forgotten after a time of silence, and not before.
//!
//! A busy machine makes a silence longer than was meant, so the tests hold answers against the silence that
//! they have measured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::harness::{Agent, AgentOptions, Traffic, eventually};

use crate::cluster::From::Covered;
use crate::cluster::{Cluster, expect_clean, tcp_and_udp, web};

const TIMEOUT: Duration = Duration::from_secs(3);
/// A connection's packets are noted once a second, so it may seem this much more silent than it is.
const GRAIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// When somebody was last heard of: at this time at the earliest, and at this one at the latest.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Instant,
    until: Instant,
}

impl Heard {
    /// Asks anew: how long it was silent at least and at most, and the answer.
    fn ask<T>(&mut self, ask: impl FnOnce() -> Result<T>) -> Result<(Duration, Duration, T)> {
        let since = Instant::now();
        let answer = ask()?;
        let until = Instant::now();
        let (least, most) = (since - self.until, until - self.since);
        *self = Self { since, until };
        Ok((least, most, answer))
    }

    fn now() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            until: now,
        }
    }
}

/// A flow of UDP.
struct Talk {
    socket: UdpSocket,
    heard: Heard,
    has_moved: bool,
}

impl Talk {
    #[track_caller]
    fn begin(cluster: &Cluster, client: &str, to: SocketAddr) -> Self {
        let own = SocketAddr::new(cluster.lab.address(client, to.is_ipv6()), 0);
        let inside = &cluster.lab.place(client).namespace;
        let socket = inside.run(|| {
            let socket = UdpSocket::bind(own)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        });
        Self {
            socket: socket.unwrap(),
            heard: Heard::now(),
            has_moved: false,
        }
    }

    /// Asks who answers.
    fn ask(&mut self) -> Result<(Duration, Duration, String)> {
        let Self { socket, heard, .. } = self;
        heard.ask(|| {
            socket.send(b"who")?;
            let mut buffer = [0; 128];
            let length = socket.recv(&mut buffer)?;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let (pod, _) = answer.split_once(' ').context("no answer of a pod")?;
            Ok(pod.to_owned())
        })
    }

    /// Asks; a change of the backend is right after the timeout alone, and has to be there then.
    fn expect_moved_in_time(&mut self) -> Result<()> {
        let (least, most, pod) = self.ask()?;
        let is_right = match pod.as_str() {
            "b1" => least <= TIMEOUT + GRAIN && !self.has_moved,
            "a1" => most > TIMEOUT || self.has_moved,
            _ => false,
        };
        ensure!(is_right, "{pod} after {least:?} to {most:?} of silence");
        self.has_moved = pod == "a1";
        Ok(())
    }
}

#[test]
fn a_flow_of_udp_stays_with_its_endpoint_until_it_was_silent_for_its_timeout() {
    let service = web().endpoints(&["b1"]);
    let flags = ["--service-udp-timeout", "3s"];
    let cluster = Cluster::start_with(AgentOptions::flags(&flags), &[&service]);
    let mut talks = Vec::new();
    let mut busy = Vec::new();
    for v6 in [false, true] {
        let inside = SocketAddr::new(service.ip(v6), 80);
        let outside = SocketAddr::new(cluster.lab.address("node1", v6), 30080);
        for (client, to) in [("pod-a", inside), ("pod-b", inside), ("client", outside)] {
            talks.push(Talk::begin(&cluster, client, to));
            let traffic = Traffic::udp(to.ip(), to.port()).every_milliseconds(200);
            busy.push(cluster.flow(Covered(client), &traffic));
        }
    }
    for talk in &mut talks {
        assert_eq!(talk.ask().unwrap().2, "b1");
    }
    let moved = service.clone().endpoints(&["a1"]).terminating("b1");
    cluster.lab.apply(&moved).unwrap();
    let fresh = Traffic::udp_fresh(service.ip(true), 80).count(5);
    for client in ["pod-a", "pod-b"] {
        eventually("what is new goes elsewhere", || {
            talks.iter_mut().try_for_each(Talk::expect_moved_in_time)?;
            let report = cluster.run(Covered(client), &fresh);
            Ok((report.spread() == "a1 5").then_some(()))
        })
        .unwrap();
    }
    // The first packet after less than a second is not noted: the next silence seems longer than it is.
    for silence in [GRAIN * 3 / 5, TIMEOUT - GRAIN / 5, TIMEOUT + GRAIN] {
        thread::sleep(silence);
        for talk in &mut talks {
            talk.expect_moved_in_time().unwrap();
        }
    }
    for flow in busy {
        assert_eq!(
            expect_clean(flow).backends.into_keys().collect::<Vec<_>>(),
            ["b1"]
        );
    }
}

/// What the agents have in force of what they were told, by number.
#[track_caller]
fn generations(cluster: &mut Cluster) -> Vec<f64> {
    let agents = cluster.agents.values();
    let of = |agent: &Agent| agent.metric("fairlead_applied_generation").unwrap();
    agents.map(|agent| of(agent).unwrap_or(0.0)).collect()
}

#[test]
fn a_client_stays_with_its_endpoint_until_it_was_silent_for_its_affinitys_timeout() {
    let service = web().spec("sessionAffinity", "ClientIP").spec(
        "sessionAffinityConfig",
        json!({"clientIP": {"timeoutSeconds": TIMEOUT.as_secs()}}),
    );
    let mut cluster = Cluster::start(&[&service.clone().endpoints(&["b1"])]);
    let mut clients = BTreeMap::new();
    for v6 in [false, true] {
        for client in ["pod-a", "pod-b", "pod-c", "node1", "node2", "client"] {
            let (to, port) = if client == "client" {
                (cluster.lab.address("node1", v6), 30080)
            } else {
                (service.ip(v6), 80)
            };
            for (traffic, protocol) in tcp_and_udp(to, port).into_iter().zip(["tcp", "udp"]) {
                let heard = Heard::now();
                cluster.expect_spread(Covered(client), traffic.clone(), &["b1"]);
                clients.insert((v6, protocol, client), (traffic.count(1), heard));
            }
        }
    }
    let whole = service.endpoints(&["a1", "a2", "b1"]);
    let before = generations(&mut cluster);
    cluster.lab.apply(&whole).unwrap();
    eventually("every node has all endpoints", || {
        let now = generations(&mut cluster);
        let is_newer = |(old, new): (&f64, &f64)| new > old;
        Ok(before.iter().zip(&now).all(is_newer).then_some(()))
    })
    .unwrap();
    let mut moved = BTreeSet::new();
    for silence in [Duration::ZERO, TIMEOUT] {
        thread::sleep(silence);
        for ((v6, protocol, client), (traffic, heard)) in &mut clients {
            let ask = || Ok(cluster.run(Covered(client), traffic).spread());
            let (_, most, answer) = heard.ask(ask).unwrap();
            if answer != "b1 1" {
                assert!(
                    most > TIMEOUT,
                    "{client} {protocol}: {answer} after {most:?}"
                );
                moved.insert((*v6, *protocol));
            }
        }
    }
    // Where a client without any history belongs is for a hash to say: of six, not always to `b1`.
    assert_eq!(moved.len(), 4, "{moved:?}");
}
