//! What the kernel holds for a node, asked of the kernel and not of the agent.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya::programs::tc::TcAttachType;
use aya::programs::{SchedClassifier, loaded_programs};
use aya::util::KernelVersion;
use serde_json::Value;

use super::{Lab, Place, process};

/// Names of a node's pins, programs attached to its interfaces and state files, a line each.
pub fn inventory(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let mut found = files_below(&lab.bpf_root(node))?;
    // The kernel itself puts `maps.debug` and `progs.debug` into every bpffs.
    found.retain(|path| !path.ends_with(".debug"));
    found.extend(files_below(&lab.state_directory(node))?);
    found.extend(attachments(lab.place(node))?);
    Ok(found)
}

/// Programs attached to the interfaces of a place, through tcx or as a filter.
pub fn attachments(place: &Place) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for interface in interfaces(place)? {
        for (direction, kind) in [
            ("ingress", TcAttachType::Ingress),
            ("egress", TcAttachType::Egress),
        ] {
            let programs = match has_tcx() {
                true => place
                    .namespace
                    .run(|| Ok(SchedClassifier::query_tcx(&interface, kind)?.1))?,
                false => Vec::new(),
            };
            for program in programs {
                let name = program.name_as_str().unwrap_or("?");
                found.push(format!(
                    "{}: {interface} {direction}: {name} (tcx)",
                    place.name
                ));
            }
            let filters = tc(place, &["filter", "show", "dev", &interface, direction])?;
            for line in filters.lines().filter(|line| line.contains(" handle ")) {
                found.push(format!(
                    "{}: {interface} {direction}: {}",
                    place.name,
                    line.trim()
                ));
            }
        }
    }
    Ok(found)
}

/// Whether this kernel attaches programs by tcx links.
pub fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Ids of all eBPF programs of the machine.
pub fn program_ids() -> Result<Vec<u32>> {
    loaded_programs().map(|program| Ok(program?.id())).collect()
}

/// Runs `tc` in a place.
pub fn tc(place: &Place, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("tc");
    let (code, output, error) =
        process::run(command.args(["-n", place.namespace.name()]).args(arguments))?;
    ensure!(
        code == Some(0),
        "tc {}: {}",
        arguments.join(" "),
        error.trim()
    );
    Ok(output)
}

fn interfaces(place: &Place) -> Result<Vec<String>> {
    let mut command = Command::new("ip");
    let (_, output, error) =
        process::run(command.args(["-n", place.namespace.name(), "-j", "link"]))?;
    let links: Vec<Value> =
        serde_json::from_str(&output).with_context(|| format!("ip -j link: {}", error.trim()))?;
    Ok(links
        .iter()
        .filter_map(|link| link["ifname"].as_str())
        .map(str::to_owned)
        .collect())
}

fn files_below(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if !directory.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    Ok(found)
}
