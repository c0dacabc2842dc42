//! Whether TCP of the node's processes is balanced when they connect.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::lb::ebpf::attach::Attachments;
use crate::lb::ebpf::programs::Programs;
use crate::sys::cgroup;

/// Attaches the `connect` programs; the answer says how TCP of processes is balanced. Per packet
/// works everywhere, so only a directory that was asked for has to be one.
pub(super) fn attach(
    programs: &mut Programs,
    attachments: &Attachments,
    found: Option<&Path>,
    asked_for: Option<&Path>,
    masquerade_all: bool,
) -> Result<String> {
    if masquerade_all {
        attachments.detach_connect().context(
            "the connect programs of an earlier run cannot be detached; check --bpf-root",
        )?;
        return Ok("no: --masquerade-all needs the packets".to_owned());
    }
    if let Some(directory) = asked_for.filter(|directory| !cgroup::is_cgroup2(directory)) {
        bail!(
            "--cgroup-root {}: not a directory of a cgroup v2 hierarchy; leave the flag out to have it found",
            directory.display()
        );
    }
    let Some(directory) = asked_for.or(found) else {
        tracing::warn!("no cgroup v2 is mounted: TCP is balanced per packet, which is slower");
        return Ok("no: no cgroup v2 is mounted, TCP is balanced per packet".to_owned());
    };
    match attachments.attach_connect(programs, directory) {
        Ok(()) => Ok(format!("yes: {}", directory.display())),
        Err(error) => {
            tracing::warn!(%error, cause = error.cause(), "TCP is balanced per packet, which is slower");
            Ok(format!("no: {error}"))
        }
    }
}
