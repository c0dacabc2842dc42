//! Agents killed and upgraded again and again, while endpoints come and go under load.
//!
//! The pods go on answering when they are no endpoints any more, so nothing has an excuse: not one
//! connection may be reset, not one datagram may stay without an answer.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::harness::{Agent, AgentOptions, Flow, ServiceSpec, Traffic};
use tests::traffic::Report;

use crate::cluster::Cluster;
use crate::cluster::From::{self, Covered, Uncovered};
use crate::cluster::web;

/// Where `cargo xtask test chaos` says how much.
const KILLS: &str = "FAIRLEAD_CHAOS_KILLS";
const FLOWS: &str = "FAIRLEAD_CHAOS_FLOWS";
/// An agent whose tables have another layout, to upgrade to and to come back from.
const NEXT: &str = "FAIRLEAD_AGENT_NEXT";

/// Every connection and flow exchanges something this often; 4,000 exchanges a second of 2,000
/// flows are what two cores do beside the agents.
const INTERVAL_MILLISECONDS: u64 = 500;
/// What is lost is lost at once; a busy machine may be slow.
const PATIENCE_MILLISECONDS: u64 = 10_000;

/// How an agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `kill -9`; the same build starts.
    Killed,
    /// SIGTERM; the same build starts.
    Told,
    /// SIGTERM; the other build starts.
    Upgraded,
    /// `kill -9`, and again while it starts.
    KilledTwice,
}

impl End {
    const ALL: [Self; 4] = [Self::Killed, Self::Upgraded, Self::Told, Self::KilledTwice];
}

#[test]
fn nothing_is_lost_while_agents_die_and_endpoints_churn() {
    let (kills, flows) = (number(KILLS, 12), number(FLOWS, 400));
    let service = web().endpoints(&["a1", "a2", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let clients = clients(&cluster, &service, flows);
    let began = Instant::now();
    let mut killed = 0;
    let mut changes = endpoints(&service).into_iter().cycle();
    for (round, end) in (0..).zip(End::ALL.into_iter().cycle()) {
        if killed >= kills {
            break;
        }
        let node = ["node1", "node2"][round % 2];
        killed += stop(&mut cluster, node, end, killed);
        let changed = changes.next().expect("invariant: a cycle");
        cluster.lab.apply(&changed).unwrap();
        if end == End::Upgraded {
            cluster.options.program = other_build(&cluster.options);
        }
        cluster.restart(node);
        let changed = changes.next().expect("invariant: a cycle");
        cluster.lab.apply(&changed).unwrap();
    }
    let took = began.elapsed();
    let mut tally = Tally::default();
    for (from, client) in clients {
        tally.add(from, client.stop().unwrap());
    }
    eprintln!(
        "chaos: {killed} kills in {:.0} s, {tally}",
        took.as_secs_f64()
    );
    assert!(tally.is_clean(), "{:?}", tally.failures);
}

/// Ends the agent of a node; the answer is how often it was killed.
#[track_caller]
fn stop(cluster: &mut Cluster, node: &str, end: End, killed: usize) -> usize {
    /// An orderly end takes milliseconds.
    const SOON: Duration = Duration::from_secs(10);
    let process = cluster.agent(node).process();
    match end {
        End::Killed => process.kill().unwrap(),
        End::Told | End::Upgraded => {
            process.terminate().unwrap();
            process.wait(SOON).unwrap();
        }
        End::KilledTwice => {
            process.kill().unwrap();
            let options = cluster.options.clone();
            let mut agent = Agent::start(&cluster.lab, node, &options).unwrap();
            // At another point of its start each time.
            let lifetime = Duration::from_millis(u64::try_from(killed * 137 % 1000).unwrap());
            agent.process().wait(lifetime).unwrap_err();
            agent.process().kill().unwrap();
            return 2;
        }
    }
    1
}

/// The build that is not running.
#[track_caller]
fn other_build(running: &AgentOptions) -> Option<PathBuf> {
    if running.program.is_some() {
        return None;
    }
    // Without it an upgrade would be one more restart, and nothing would say so.
    let next = env::var_os(NEXT);
    let remedy =
        "FAIRLEAD_AGENT_NEXT names an agent with other tables; run `cargo xtask test chaos`";
    Some(next.expect(remedy).into())
}

/// One after the other; an endpoint that goes terminates first.
fn endpoints(service: &ServiceSpec) -> Vec<ServiceSpec> {
    let with = |pods: &[&str]| service.clone().endpoints(pods);
    vec![
        with(&["a1", "b1"]).terminating("a2"),
        with(&["a1", "b1"]),
        with(&["a1"]).terminating("b1"),
        with(&["a1"]),
        with(&["a1", "a2"]),
        with(&["a2", "b1"]).terminating("a1"),
        with(&["a2", "b1"]),
        with(&["a1", "a2", "b1"]),
    ]
}

/// As many TCP connections as UDP flows, of both families: per packet from pods of both nodes, with
/// and without source translation from outside, at `connect` from a node.
#[track_caller]
fn clients(cluster: &Cluster, service: &ServiceSpec, flows: usize) -> Vec<(From, Flow)> {
    let mut clients = Vec::new();
    for v6 in [false, true] {
        let ways = [
            (Uncovered("pod-a"), service.ip(v6), 80),
            (Uncovered("pod-b"), service.ip(v6), 80),
            (Covered("client"), cluster.lab.address("node1", v6), 30080),
            (Covered("client"), cluster.lab.address("node2", v6), 30080),
            (Covered("node1"), service.ip(v6), 80),
        ];
        let workers = flows / (2 * 2 * ways.len());
        for (from, to, port) in ways {
            for traffic in [Traffic::hold(to, port), Traffic::udp(to, port)] {
                let traffic = traffic
                    .workers(workers)
                    .every_milliseconds(INTERVAL_MILLISECONDS)
                    .timeout_milliseconds(PATIENCE_MILLISECONDS);
                clients.push((from, cluster.flow(from, &traffic)));
            }
        }
    }
    clients
}

/// What all clients saw.
#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    lost_connections: u64,
    slowest: Duration,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, from: From, report: Report) {
        self.answered += report.answered;
        self.lost_connections += report.lost_connections;
        let slowest = Duration::from_micros(report.latency.slowest_microseconds);
        self.slowest = self.slowest.max(slowest);
        if !report.is_clean() {
            self.failures.push(format!(
                "{from:?}: {:?}, {}",
                report.errors,
                report.spread()
            ));
        }
    }

    fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.answered > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answered,
            lost_connections,
            slowest,
            failures,
        } = self;
        write!(
            f,
            "{answered} exchanges, {lost_connections} connections lost, {} clients with a failure, slowest answer {} ms",
            failures.len(),
            slowest.as_millis()
        )
    }
}

fn number(variable: &str, default: usize) -> usize {
    match env::var(variable) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value}: not a number")),
        Err(_) => default,
    }
}
