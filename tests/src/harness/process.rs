//! Processes that end with their owner.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::traffic::LISTENING;

/// A running process; dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a command. It gets a process group of its own, so that Ctrl-C at the terminal ends
    /// the demo, which then ends its processes in order.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).spawn().with_context(|| {
            format!(
                "{name}: {} cannot be run",
                command.get_program().to_string_lossy()
            )
        })?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Starts a server of the traffic program and waits until it listens.
    pub fn listening(name: &str, command: &mut Command) -> Result<Self> {
        let mut process = Self::start(name, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        process.expect_listening()?;
        Ok(process)
    }

    pub(super) fn expect_listening(&mut self) -> Result<()> {
        let mut output = self.output()?;
        expect_line(&mut output, &self.name, LISTENING)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        match super::poll(patience, || self.child.try_wait().transpose()) {
            Some(status) => Ok(status?),
            None => bail!(
                "{} ({}) still runs after {patience:?}",
                self.name,
                self.id()
            ),
        }
    }

    /// `kill -9`, and waits.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("{}: cannot be killed", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("no process id")?;
        rustix::process::kill_process(id, signal)
            .with_context(|| format!("{}: cannot be sent {signal:?}", self.name))
    }

    /// Lets it run on without an owner.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Closes its standard input.
    pub(super) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(super) fn input(&mut self) -> Result<ChildStdin> {
        self.child
            .stdin
            .take()
            .with_context(|| format!("{}: input is not piped", self.name))
    }

    pub(super) fn output(&mut self) -> Result<BufReader<ChildStdout>> {
        self.child
            .stdout
            .take()
            .map(BufReader::new)
            .with_context(|| format!("{}: output is not piped", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already is as good.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(super) fn run(command: &mut Command) -> Result<(Option<i32>, String, String)> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", command.get_program().to_string_lossy()))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    ))
}

/// Reads the first line of an output, which has to be `expected`.
pub(super) fn expect_line(
    output: &mut BufReader<impl Read>,
    name: &str,
    expected: &str,
) -> Result<()> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.trim_end() != expected {
        bail!("{name}: expected the line {expected:?}, got {line:?}");
    }
    Ok(())
}
