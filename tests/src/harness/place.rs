//! Where a process of a lab runs: a network namespace and a cgroup.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Namespace, wait};

/// An answer of [`Place::get`] may take this part of what a condition may: two seconds, where nothing
/// else is said.
const ANSWER_SHARE: u32 = 10;

/// How the traffic program is started: a program and its first arguments.
#[derive(Clone, Debug)]
pub(super) struct TrafficProgram {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// A network namespace and a cgroup.
#[derive(Clone, Debug)]
pub struct Place {
    /// As in the lab: `node1`, `web-1`, `client`.
    pub name: String,
    /// The network namespace.
    pub namespace: Namespace,
    /// Directory of the cgroup.
    pub cgroup: PathBuf,
    pub(super) traffic: TrafficProgram,
}

impl Place {
    /// A command that will run in this place.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(&self.traffic.program);
        command
            .args(&self.traffic.arguments)
            .arg("exec")
            .arg("--net")
            .arg(self.namespace.path())
            .arg("--cgroup")
            .arg(&self.cgroup)
            .arg("--")
            .arg(program.into());
        command
    }

    /// The traffic program, in this place.
    pub fn traffic(&self) -> Command {
        let mut command = self.command(self.traffic.program.clone());
        command.args(&self.traffic.arguments);
        command
    }

    /// Asks an HTTP server of the namespace: status code and body.
    pub fn get(&self, at: SocketAddr, path: &str) -> Result<(u16, String)> {
        let patience = wait::patience() / ANSWER_SHARE;
        self.namespace.run(|| {
            let mut stream = TcpStream::connect_timeout(&at, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(
                format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").as_bytes(),
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let (head, body) = text
                .split_once("\r\n\r\n")
                .with_context(|| format!("no HTTP answer: {text:?}"))?;
            let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            Ok((
                code.with_context(|| format!("no status: {head:?}"))?,
                body.to_owned(),
            ))
        })
    }

    /// How many SYNs the namespace has had to send again, each of them a second or more late.
    pub fn syns_sent_again(&self) -> Result<u64> {
        let text = self
            .namespace
            .run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/netstat")?))?;
        let mut rows = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (rows.next(), rows.next());
        let (names, values) = names.zip(values).context("no TcpExt in netstat")?;
        let mut named = names.split(' ').zip(values.split(' '));
        let found = named.find(|(name, _)| *name == "TCPSynRetrans");
        let (_, count) = found.context("no TCPSynRetrans in netstat")?;
        Ok(count.parse()?)
    }

    /// The same network namespace with another cgroup.
    pub fn in_cgroup(&self, cgroup: impl Into<PathBuf>) -> Self {
        Self {
            cgroup: cgroup.into(),
            ..self.clone()
        }
    }
}
