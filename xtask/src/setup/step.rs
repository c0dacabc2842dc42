//! One thing that setup does or asks for, and the command that does it.

use std::fmt;
use std::process::Command;

use super::distribution::Distribution;
use super::facts::Facts;
use crate::run;

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

impl Step {
    /// Whether setup may run this itself.
    pub(super) fn can_run(&self, facts: &Facts) -> bool {
        match self {
            Self::UpdateLists | Self::Install(_) => {
                facts.distribution == Distribution::Debian && facts.is_root
            }
            Self::AddSources | Self::InstallLinker(_) => true,
            Self::ByHand(_) => false,
        }
    }

    /// The command that does it; `None` where there is none.
    pub(super) fn command(&self) -> Option<Command> {
        let mut command = match self {
            Self::UpdateLists => with("apt-get", &["update", "--quiet"]),
            Self::Install(packages) => {
                let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
                let mut command = with("apt-get", &arguments);
                command.args(packages);
                command
            }
            Self::AddSources => with("rustup", &["component", "add", "rust-src"]),
            Self::InstallLinker(version) => with(
                "cargo",
                &["install", "bpf-linker", "--locked", "--version", version],
            ),
            Self::ByHand(_) => return None,
        };
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            // A tool is not a part of what this workspace builds.
            .env_remove("CARGO_TARGET_DIR");
        Some(command)
    }
}

fn with(program: &str, arguments: &[&str]) -> Command {
    let mut command = run::command(program);
    command.args(arguments);
    command
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHand(text) => formatter.write_str(text),
            Self::UpdateLists | Self::Install(_) | Self::AddSources | Self::InstallLinker(_) => {
                let command = self.command();
                formatter.write_str(&command.as_ref().map(run::shown).unwrap_or_default())
            }
        }
    }
}
