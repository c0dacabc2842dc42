//! Where a process of a lab runs: a network namespace and a cgroup.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::Namespace;

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

    /// The same network namespace with another cgroup.
    pub fn in_cgroup(&self, cgroup: impl Into<PathBuf>) -> Self {
        Self {
            cgroup: cgroup.into(),
            ..self.clone()
        }
    }
}
