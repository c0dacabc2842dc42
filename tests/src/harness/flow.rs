//! Traffic clients: what they do, and a running one.

use std::io::{BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result};

use super::process::{Process, expect_line};
use super::{Place, eventually};
use crate::traffic::{FLOWING, Report};

/// What a client does.
#[derive(Clone, Debug)]
pub struct Traffic {
    arguments: Vec<String>,
}

impl Traffic {
    /// Short TCP connections.
    pub fn connect(to: impl Into<IpAddr>, port: u16) -> Self {
        Self::new("connect", to, port)
    }

    /// HTTP requests for a host, on a connection each.
    pub fn http(to: impl Into<IpAddr>, port: u16, host: &str) -> Self {
        Self::connect(to, port).option("--host", host)
    }

    /// Long TCP connections.
    pub fn hold(to: impl Into<IpAddr>, port: u16) -> Self {
        Self::new("hold", to, port)
    }

    /// Long SCTP associations.
    pub fn hold_sctp(to: impl Into<IpAddr>, port: u16) -> Self {
        let mut traffic = Self::hold(to, port);
        traffic.arguments.push("--sctp".to_owned());
        traffic
    }

    /// One UDP flow a worker.
    pub fn udp(to: impl Into<IpAddr>, port: u16) -> Self {
        Self::new("udp", to, port)
    }

    /// UDP, a flow of its own for each datagram.
    pub fn udp_fresh(to: impl Into<IpAddr>, port: u16) -> Self {
        let mut traffic = Self::new("udp", to, port);
        traffic.arguments.push("--fresh".to_owned());
        traffic
    }

    /// Exchanges of each worker.
    pub fn count(self, count: u64) -> Self {
        self.option("--count", count)
    }

    /// Connections or flows at a time.
    pub fn workers(self, workers: usize) -> Self {
        self.option("--workers", workers)
    }

    /// Milliseconds from one exchange to the next; 0 for as fast as it goes.
    pub fn every_milliseconds(self, interval: u64) -> Self {
        self.option("--interval-milliseconds", interval)
    }

    /// How long an exchange may take.
    pub fn timeout_milliseconds(self, timeout: u64) -> Self {
        self.option("--timeout-milliseconds", timeout)
    }

    fn new(task: &str, to: impl Into<IpAddr>, port: u16) -> Self {
        let to = SocketAddr::new(to.into(), port);
        Self {
            arguments: vec![task.to_owned(), "--to".to_owned(), to.to_string()],
        }
    }

    fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.extend([name.to_owned(), value.to_string()]);
        self
    }
}

/// A running client.
#[derive(Debug)]
pub struct Flow {
    process: Process,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Flow {
    /// Starts a client that runs until [`Flow::stop`], and waits until it flows.
    pub fn start(place: &Place, traffic: &Traffic) -> Result<Self> {
        let mut flow = Self::spawn(place, traffic)?;
        expect_line(&mut flow.output, &flow.name, FLOWING)?;
        Ok(flow)
    }

    /// Starts a client that has a count, and waits for its report.
    pub fn run(place: &Place, traffic: &Traffic) -> Result<Report> {
        Self::spawn(place, traffic)?.report()
    }

    /// Lets the running exchanges end and reads the report.
    pub fn stop(mut self) -> Result<Report> {
        self.process.close_input();
        self.report()
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn spawn(place: &Place, traffic: &Traffic) -> Result<Self> {
        let name = format!("{} in {}", traffic.arguments.join(" "), place.name);
        let mut command = place.traffic();
        command
            .args(&traffic.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&name, &mut command)?;
        let output = process.output()?;
        Ok(Self {
            process,
            output,
            name,
        })
    }

    fn report(mut self) -> Result<Report> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let last = text
            .lines()
            .last()
            .with_context(|| format!("{}: no report", self.name))?;
        serde_json::from_str(last).with_context(|| format!("{}: {last}", self.name))
    }
}

impl Traffic {
    /// Repeats the client until `wanted` likes its report; answers with that report.
    pub fn until(
        &self,
        what: &str,
        place: &Place,
        wanted: impl Fn(&Report) -> bool,
    ) -> Result<Report> {
        eventually(what, || {
            let report = Flow::run(place, self)?;
            if wanted(&report) {
                return Ok(Some(report));
            }
            anyhow::bail!(
                "{} answered of {}, {:?}, from {}",
                report.answered,
                report.attempts,
                report.errors,
                report.spread()
            )
        })
    }
}
