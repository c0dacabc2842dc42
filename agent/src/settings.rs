//! Settings of the node: those that the programs rely on, each recorded before it is changed.

use anyhow::{Context as _, Result};

use crate::ownership::{Ownership, Sysctl};
use crate::sys::sysctl;

/// Settings the programs rely on. A node's packets are forwarded between its interfaces; so every
/// Kubernetes node has them. Replies to the node's own packets to its own node ports come back to
/// it by the loopback interface, from one of its own addresses, or from a loopback address that
/// they were asked at.
const SETTINGS: [&str; 4] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.lo.accept_local",
    "net.ipv4.conf.lo.route_localnet",
];

/// Sets what the programs rely on.
///
/// # Errors
/// Where one cannot be set.
pub fn enable_all(ownership: &mut Ownership) -> Result<()> {
    SETTINGS
        .into_iter()
        .try_for_each(|name| enable(ownership, name))
}

/// Sets one setting to 1, where it is 0 and the kernel has it; what it was is recorded.
///
/// # Errors
/// Where it cannot be set, or recorded.
pub fn enable(ownership: &mut Ownership, name: &str) -> Result<()> {
    let needs = || format!("{name} cannot be set to 1, so packets would not find their way");
    match sysctl::get(name).with_context(needs)? {
        Some(value) if value == "0" => set(ownership, name, "1").with_context(needs),
        _ => Ok(()),
    }
}

/// Sets one setting, where the kernel has it and it is another; what it was is recorded.
///
/// # Errors
/// Where it cannot be set, or recorded.
pub fn set(ownership: &mut Ownership, name: &str, value: &str) -> Result<()> {
    let Some(before) = sysctl::get(name)?.filter(|before| before != value) else {
        return Ok(());
    };
    ownership.remember(|record| {
        // What it was before the first time is what cleanup goes back to.
        if !record.sysctls.iter().any(|sysctl| sysctl.name == name) {
            record.sysctls.push(Sysctl {
                name: name.to_owned(),
                before,
            });
        }
    })?;
    sysctl::set(name, value)?;
    tracing::info!(sysctl = name, value, "set");
    Ok(())
}

/// Sets one setting to what it was before, where it was changed and is still there.
///
/// # Errors
/// Where it cannot be set, or the record not be written.
pub fn restore(ownership: &mut Ownership, name: &str) -> Result<()> {
    let mut changed = ownership.record().sysctls.iter();
    let Some(Sysctl { before, .. }) = changed.find(|sysctl| sysctl.name == name) else {
        return Ok(());
    };
    if sysctl::get(name)?.is_some() {
        sysctl::set(name, before).with_context(|| format!("{name} cannot be set to {before}"))?;
        tracing::info!(sysctl = name, "set to what it was");
    }
    ownership.remember(|record| record.sysctls.retain(|sysctl| sysctl.name != name))?;
    Ok(())
}
