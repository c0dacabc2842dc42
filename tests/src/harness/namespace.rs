//! Network namespaces, with iproute2's names, so that `ip netns` shows them.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps the names.
pub(super) const DIRECTORY: &str = "/run/netns";

/// A network namespace of a lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn of(lab: &str, what: &str) -> Self {
        Self {
            name: format!("{lab}-{what}"),
        }
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace. Sockets it opens stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.path())?;
                work()
            });
            inside
                .join()
                .map_err(|_| anyhow::anyhow!("the thread in {} panicked", self.name))?
        })
    }

    /// Runs lines of `ip` in the namespace.
    pub fn ip(&self, lines: &str) -> Result<()> {
        batch(&["-n", &self.name], lines)
    }

    /// Writes sysctls, given as `net/ipv4/ip_forward` and value.
    pub(super) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(name, value)| {
                let file = Path::new("/proc/sys").join(name);
                fs::write(&file, value)
                    .with_context(|| format!("{}: cannot be set to {value}", file.display()))
            })
        })
    }
}

/// Moves the calling thread into a network namespace.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path)
        .with_context(|| format!("{}: no such network namespace", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("{}: cannot be entered", path.display()))
}

/// Runs lines of `ip` in one go.
pub(super) fn batch(options: &[&str], lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip: cannot be run; install iproute2")?;
    let mut stdin = child
        .stdin
        .take()
        .context("invariant: standard input is piped")?;
    stdin.write_all(lines.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip {} -batch: {}\nin:\n{lines}",
        options.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
