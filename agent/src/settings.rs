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

/// Those of them that the kernel sets at each interface when they are set, with their family: what an
/// interface had is recorded too.
const OF_EACH: [(&str, &str); 2] = [
    ("net.ipv4.ip_forward", "ipv4"),
    ("net.ipv6.conf.all.forwarding", "ipv6"),
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
        Some(value) if value == "0" => {
            remember(ownership, name, &value)?;
            remember_each(ownership, name).with_context(needs)?;
            set(ownership, name, "1").with_context(needs)
        }
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
    remember(ownership, name, &before)?;
    sysctl::set(name, value)?;
    tracing::info!(sysctl = name, value, "set");
    Ok(())
}

fn remember(ownership: &mut Ownership, name: &str, before: &str) -> Result<()> {
    ownership.remember(|record| {
        // What it was before the first time is what cleanup goes back to.
        if !record.sysctls.iter().any(|sysctl| sysctl.name == name) {
            record.sysctls.push(Sysctl {
                name: name.to_owned(),
                before: before.to_owned(),
            });
        }
    })?;
    Ok(())
}

/// Records the interfaces that forward though the node does not: to go back to what the node had
/// turns them off. After the node's own, so that cleanup sets them after it.
fn remember_each(ownership: &mut Ownership, name: &str) -> Result<()> {
    let Some((_, family)) = OF_EACH.iter().find(|(of_each, _)| *of_each == name) else {
        return Ok(());
    };
    for interface in sysctl::interfaces(family)? {
        let own = sysctl::of_interface(family, &interface, "forwarding");
        let value = sysctl::get(&own)?.filter(|value| value != "0");
        if let Some(value) = value.filter(|_| interface != "all") {
            remember(ownership, &own, &value)?;
        }
    }
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
