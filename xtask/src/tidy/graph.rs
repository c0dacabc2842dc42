//! Who may use whom among the packages.

use anyhow::{Context, Result};
use cargo_metadata::{MetadataCommand, Package};

use super::Breach;
use crate::place;

/// Each package of ours and those of ours it may use.
const MAY_USE: [(&str, &[&str]); 10] = [
    // Of the plugin's, the leases alone: what they look like on disk is said once.
    (
        "agent",
        &[
            "agent-abi",
            "agent-bgp",
            "fairlead-cni",
            "model",
            "model-watch",
        ],
    ),
    ("agent-abi", &[]),
    ("agent-bgp", &[]),
    ("agent-ebpf", &["agent-abi"]),
    ("confgen", &["model", "model-watch"]),
    ("fairlead-cni", &[]),
    ("model", &[]),
    ("model-watch", &["model"]),
    (
        "tests",
        &[
            "agent",
            "agent-abi",
            "agent-bgp",
            "confgen",
            "fairlead-cni",
            "model",
            "model-watch",
        ],
    ),
    ("xtask", &[]),
];

/// What a package must not use, and why.
const MUST_NOT_USE: [(&str, &[&str], &str); 4] = [
    (
        "model",
        &["tokio", "kube", "futures", "rustix"],
        "the model does no I/O",
    ),
    (
        "agent-abi",
        &["tokio", "kube", "aya"],
        "the layouts are shared with the programs",
    ),
    (
        "agent",
        &["kube"],
        "only model-watch talks to an API server",
    ),
    (
        "fairlead-cni",
        &["tokio", "kube"],
        "the plugin is small and synchronous",
    ),
];

pub(super) fn check() -> Result<Vec<Breach>> {
    let metadata = MetadataCommand::new()
        .manifest_path(place::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    Ok(metadata.packages.iter().flat_map(check_package).collect())
}

fn check_package(package: &Package) -> Vec<Breach> {
    let uses: Vec<(&str, bool)> = package
        .dependencies
        .iter()
        .map(|dependency| (dependency.name.as_str(), dependency.path.is_some()))
        .collect();
    let manifest = package.manifest_path.strip_prefix(place::root());
    let path = manifest.map_or_else(|_| package.manifest_path.to_string(), ToString::to_string);
    messages(package.name.as_str(), &uses)
        .into_iter()
        .map(|message| Breach {
            path: path.clone(),
            line: 0,
            rule: "direction",
            message,
        })
        .collect()
}

/// What is wrong with the dependencies of a package: their names, and whether they are ours.
fn messages(package: &str, uses: &[(&str, bool)]) -> Vec<String> {
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == package) else {
        return vec![format!(
            "{package}: say in xtask/src/tidy/graph.rs what it may use"
        )];
    };
    let ours = uses
        .iter()
        .filter(|(used, is_ours)| *is_ours && !may_use.contains(used))
        .map(|(used, _)| format!("{package} must not use {used}"));
    let others = MUST_NOT_USE
        .iter()
        .filter(|(name, _, _)| *name == package)
        .flat_map(|(_, banned, why)| {
            uses.iter()
                .filter(|(used, _)| banned.contains(used))
                .map(move |(used, _)| format!("{package} must not use {used}: {why}"))
        });
    ours.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[track_caller]
    fn check(package: &str, uses: &[(&str, bool)], expected: &[&str]) {
        assert_eq!(messages(package, uses), expected);
    }

    #[test]
    fn packages_use_one_another_in_one_direction() {
        check("agent", &[("model", true), ("aya", false)], &[]);
        check("model", &[("agent", true)], &["model must not use agent"]);
        check("xtask", &[("model", true)], &["xtask must not use model"]);
        check(
            "confgen",
            &[("tests", true)],
            &["confgen must not use tests"],
        );
        check(
            "model",
            &[("tokio", false)],
            &["model must not use tokio: the model does no I/O"],
        );
        check(
            "agent-new",
            &[],
            &["agent-new: say in xtask/src/tidy/graph.rs what it may use"],
        );
    }
}
