//! The comparators: the same Services as rulesets, as kube-proxy writes them.
//!
//! [`iptables`] and [`nftables`] make the text, [`load`] gives it to the kernel.

pub(crate) mod iptables;
pub(crate) mod kube_router;
pub(crate) mod nftables;

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::harness::Place;

/// Gives a ruleset to a program in the place's network namespace; how long it took.
fn load(place: &Place, program: &[&str], text: &str) -> Result<Duration> {
    let [name, arguments @ ..] = program else {
        anyhow::bail!("invariant: a program has a name");
    };
    let mut command = place.command(*name);
    let begun = Instant::now();
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} cannot be run; `cargo xtask setup` installs it"))?;
    let written = child
        .stdin
        .take()
        .context("invariant: standard input is piped")?
        .write_all(text.as_bytes());
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    // Of a program that ended early its own words say more than the broken pipe.
    ensure!(
        output.status.success(),
        "{name}: {}",
        error.lines().next().unwrap_or_default()
    );
    written?;
    Ok(begun.elapsed())
}
