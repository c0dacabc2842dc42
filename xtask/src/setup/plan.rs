//! Decides what to install. Nothing here looks at the machine; see `facts.rs` for that.

use std::fmt;
use std::process::Command;

use crate::run;

/// What the machine has, as far as the plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) is_debian: bool,
    pub(super) is_root: bool,
    /// Tools of [`PACKAGES`] that are not there.
    pub(super) missing_tools: Vec<&'static str>,
    /// Whether apt knows any package; container images come without.
    pub(super) has_apt_lists: bool,
    pub(super) has_rustup: bool,
    /// Whether apt knows rust-web-src, the sources of Debian's newer compiler.
    pub(super) offers_rustc_web: bool,
    /// Whether a compiler has the sources of `core`.
    pub(super) has_core_sources: bool,
    /// Major version of that compiler's LLVM.
    pub(super) llvm: Option<u32>,
    /// What `bpf-linker --version` prints.
    pub(super) bpf_linker: Option<String>,
}

/// A Debian package and the tools it is needed for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    name: &'static str,
    pub(super) tools: &'static [&'static str],
    reason: &'static str,
}

pub(super) const PACKAGES: [Package; 5] = [
    Package {
        name: "build-essential",
        tools: &["cc", "make"],
        reason: "the C and assembly parts of the crate ring",
    },
    Package {
        name: "iproute2",
        tools: &["ip"],
        reason: "to look around in a lab",
    },
    Package {
        name: "nftables",
        tools: &["nft"],
        reason: "to look around in a lab, and the ruleset the benchmark compares with",
    },
    Package {
        name: "util-linux",
        tools: &["nsenter", "unshare"],
        reason: "starts programs in the namespaces of a lab",
    },
    Package {
        name: "procps",
        tools: &["sysctl"],
        reason: "settings of a lab's namespaces",
    },
];

/// The release of bpf-linker for a major version of LLVM: it reads the bitcode of that version.
const BPF_LINKERS: [(u32, &str); 1] = [(22, "0.10.3")];

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `apt-get update`.
    UpdateLists,
    /// Debian packages.
    Install(Vec<&'static str>),
    /// The sources of `core` for rustup's toolchain.
    AddSources,
    /// bpf-linker of this release.
    InstallLinker(&'static str),
    /// What only a person can do.
    ByHand(String),
}

/// What is missing, in the order to install it.
pub(super) fn plan(facts: &Facts) -> Vec<Step> {
    let mut packages = Vec::new();
    let mut steps = Vec::new();
    for package in PACKAGES {
        let missing: Vec<&str> = package
            .tools
            .iter()
            .filter(|tool| facts.missing_tools.contains(tool))
            .copied()
            .collect();
        if missing.is_empty() {
            continue;
        }
        if facts.is_debian {
            packages.push(package.name);
        } else {
            steps.push(Step::ByHand(format!(
                "install {} ({}; on Debian: package {})",
                missing.join(" and "),
                package.reason,
                package.name
            )));
        }
    }
    if !facts.has_core_sources {
        if facts.has_rustup {
            steps.push(Step::AddSources);
        } else if facts.offers_rustc_web || (facts.is_debian && !facts.has_apt_lists) {
            packages.extend(["rustc-web", "rust-web-src"]);
        } else {
            steps.push(Step::ByHand(
                "install rustup (https://rustup.rs) and run: rustup component add rust-src"
                    .to_owned(),
            ));
        }
    }
    steps.extend(linker(facts));
    if !packages.is_empty() {
        steps.insert(0, Step::Install(packages));
        if !facts.has_apt_lists {
            steps.insert(0, Step::UpdateLists);
        }
    }
    steps
}

fn linker(facts: &Facts) -> Option<Step> {
    if facts.bpf_linker.is_some() {
        return None;
    }
    // Sources that are still to come are of a compiler that has the newest LLVM known here.
    let (newest, _) = BPF_LINKERS[BPF_LINKERS.len() - 1];
    let llvm = facts.llvm.unwrap_or(newest);
    let known = BPF_LINKERS.iter().find(|(of, _)| *of == llvm);
    Some(known.map_or_else(
        || {
            Step::ByHand(format!(
                "install a bpf-linker that reads the bitcode of LLVM {llvm}; releases known to fit: {}",
                BPF_LINKERS.map(|(of, version)| format!("{version} for LLVM {of}")).join(", ")
            ))
        },
        |(_, version)| Step::InstallLinker(version),
    ))
}

impl Step {
    /// Whether setup may run this itself.
    pub(super) fn can_run(&self, facts: &Facts) -> bool {
        match self {
            Self::UpdateLists | Self::Install(_) => facts.is_debian && facts.is_root,
            Self::AddSources | Self::InstallLinker(_) => true,
            Self::ByHand(_) => false,
        }
    }

    /// The command that does it; `None` where there is none.
    pub(super) fn command(&self) -> Option<Command> {
        let mut command = match self {
            Self::UpdateLists | Self::Install(_) => run::command("apt-get"),
            Self::AddSources => run::command("rustup"),
            Self::InstallLinker(_) => run::cargo(),
            Self::ByHand(_) => return None,
        };
        match self {
            Self::UpdateLists => command.args(["update", "--quiet"]),
            Self::Install(packages) => command
                .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
            Self::AddSources => command.args(["component", "add", "rust-src"]),
            Self::InstallLinker(version) => command
                .args(["install", "bpf-linker", "--locked", "--version", version])
                .env_remove("CARGO_TARGET_DIR"),
            Self::ByHand(_) => &mut command,
        };
        Some(command)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.command()) {
            (_, Some(command)) => formatter.write_str(&run::shown(&command)),
            (Self::ByHand(text), None) => formatter.write_str(text),
            (_, None) => Ok(()),
        }
    }
}
