//! Decides what to install. Nothing here looks at the machine; see `facts.rs` for that.

use std::fmt;
use std::process::Command;

use super::distribution::{Distribution, Names};
use crate::run;

/// What the machine has, as far as the plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) distribution: Distribution,
    pub(super) is_root: bool,
    /// Tools of [`PACKAGES`] that are not there.
    pub(super) missing_tools: Vec<&'static str>,
    /// Whether apt's lists were updated in this run. Images come without lists, or with old ones,
    /// which offer a compiler that no known linker fits.
    pub(super) has_fresh_lists: bool,
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

/// A package and the tools it is needed for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    names: Names,
    pub(super) tools: &'static [&'static str],
    reason: &'static str,
}

pub(super) const PACKAGES: [Package; 13] = [
    Package {
        names: Names {
            debian: "build-essential",
            fedora: "gcc make",
            suse: "gcc make",
            arch: "base-devel",
        },
        tools: &["cc", "make"],
        reason: "the C and assembly parts of the crate ring",
    },
    Package {
        names: Names {
            debian: "iproute2",
            fedora: "iproute",
            suse: "iproute2",
            arch: "iproute2",
        },
        tools: &["ip"],
        reason: "to look around in a lab",
    },
    Package {
        names: Names {
            debian: "nftables",
            fedora: "nftables",
            suse: "nftables",
            arch: "nftables",
        },
        tools: &["nft"],
        reason: "to look around in a lab, and the ruleset the benchmark compares with",
    },
    Package {
        names: Names {
            debian: "iptables",
            fedora: "iptables-nft",
            suse: "iptables",
            arch: "iptables",
        },
        tools: &["iptables-restore"],
        reason: "the other ruleset the benchmark compares with; nothing else needs it",
    },
    Package {
        names: Names {
            debian: "ipset",
            fedora: "ipset",
            suse: "ipset",
            arch: "ipset",
        },
        tools: &["ipset"],
        reason: "sets of the ruleset that the policy benchmark compares with; nothing else needs it",
    },
    Package {
        names: Names {
            debian: "util-linux",
            fedora: "util-linux",
            suse: "util-linux",
            arch: "util-linux",
        },
        tools: &["nsenter", "unshare"],
        reason: "starts programs in the namespaces of a lab",
    },
    Package {
        names: Names {
            debian: "procps",
            fedora: "procps-ng",
            suse: "procps",
            arch: "procps-ng",
        },
        tools: &["sysctl"],
        reason: "settings of a lab's namespaces",
    },
    Package {
        names: Names {
            debian: "containernetworking-plugins",
            fedora: "containernetworking-plugins",
            suse: "cni-plugins",
            arch: "cni-plugins",
        },
        // Not `bridge`: iproute2 has a program of that name.
        tools: &["portmap", "host-local"],
        reason: "CNI plugins that ours is chained with in tests, and compared with",
    },
    Package {
        names: Names {
            debian: "haproxy",
            fedora: "haproxy",
            suse: "haproxy",
            arch: "haproxy",
        },
        tools: &["haproxy"],
        reason: "the proxy that confgen's configurations are checked by and served with",
    },
    Package {
        names: Names {
            debian: "nginx",
            fedora: "nginx",
            suse: "nginx",
            arch: "nginx",
        },
        tools: &["nginx"],
        reason: "the other one",
    },
    Package {
        names: Names {
            debian: "libnginx-mod-stream",
            fedora: "nginx-mod-stream",
            suse: "nginx",
            arch: "nginx-mod-stream",
        },
        tools: &["ngx_stream_module.so"],
        reason: "hosts whose TLS nginx passes through",
    },
    Package {
        names: Names {
            debian: "caddy",
            fedora: "caddy",
            suse: "caddy",
            arch: "caddy",
        },
        tools: &["caddy"],
        reason: "the example of a proxy that an operator's own template is for",
    },
    Package {
        names: Names {
            debian: "curl",
            fedora: "curl",
            suse: "curl",
            arch: "curl",
        },
        tools: &["curl"],
        reason: "asks the proxies over HTTP/2",
    },
];

/// The release of bpf-linker for a major version of LLVM: it reads the bitcode of that version.
const BPF_LINKERS: [(u32, &str); 1] = [(22, "0.10.3")];

/// Debian's newer compiler and its sources.
const RUSTC_WEB: [&str; 2] = ["rustc-web", "rust-web-src"];

fn linker_for(llvm: u32) -> Option<&'static str> {
    let known = BPF_LINKERS.iter().find(|(of, _)| *of == llvm);
    known.map(|(_, version)| *version)
}

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
    let is_debian = facts.distribution == Distribution::Debian;
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
        if is_debian {
            packages.push(package.names.debian);
        } else {
            let how = facts.distribution.by_hand(&package.names).map_or_else(
                || format!("on Debian: package {}", package.names.debian),
                |(install, name)| format!("{install} {name}"),
            );
            let tools = missing.join(" and ");
            steps.push(Step::ByHand(format!(
                "install {tools} ({}): {how}",
                package.reason
            )));
        }
    }
    let is_compiler_old = facts.bpf_linker.is_none()
        && facts.offers_rustc_web
        && facts.is_root
        && facts.llvm.is_some_and(|llvm| linker_for(llvm).is_none());
    if is_debian && is_compiler_old {
        packages.extend(RUSTC_WEB);
    }
    if !facts.has_core_sources {
        // Apt first: it is there where rustup's servers may be out of reach.
        let apt = is_debian && (facts.offers_rustc_web || !facts.has_fresh_lists);
        if apt && (facts.is_root || !facts.has_rustup) {
            packages.extend(RUSTC_WEB);
        } else if facts.has_rustup {
            steps.push(Step::AddSources);
        } else {
            steps.push(Step::ByHand(
                "install rustup (https://rustup.rs) and run: rustup component add rust-src"
                    .to_owned(),
            ));
        }
    }
    // Which linker fits is known once the compiler has come.
    if !is_compiler_old {
        steps.extend(linker(facts));
    }
    if !packages.is_empty() {
        steps.insert(0, Step::Install(packages));
        if !facts.has_fresh_lists {
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
    Some(linker_for(llvm).map_or_else(
        || {
            Step::ByHand(format!(
                "install a bpf-linker that reads the bitcode of LLVM {llvm}; releases known to fit: {}",
                BPF_LINKERS.map(|(of, version)| format!("{version} for LLVM {of}")).join(", ")
            ))
        },
        Step::InstallLinker,
    ))
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

#[cfg(test)]
mod tests {
    use super::{Facts, Step, plan};
    use crate::setup::distribution::Distribution;

    /// A machine on which nothing is missing.
    fn complete() -> Facts {
        Facts {
            distribution: Distribution::Debian,
            is_root: true,
            missing_tools: Vec::new(),
            has_fresh_lists: true,
            has_rustup: true,
            offers_rustc_web: true,
            has_core_sources: true,
            llvm: Some(22),
            bpf_linker: Some("bpf-linker 0.10.3".to_owned()),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
        let mut facts = complete();
        change(&mut facts);
        let steps: Vec<String> = plan(&facts).iter().map(Step::to_string).collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn what_is_there_is_not_installed_again() {
        check(|_| {}, &[]);
        check(|facts| facts.distribution = Distribution::Unknown, &[]);
        check(|facts| facts.has_fresh_lists = false, &[]);
    }

    #[test]
    fn missing_tools_become_one_installation_of_their_packages() {
        check(
            |facts| facts.missing_tools = vec!["cc", "make", "nft"],
            &["apt-get install --yes --quiet --no-install-recommends build-essential nftables"],
        );
    }

    #[test]
    fn lists_are_updated_before_a_package_is_installed() {
        check(
            |facts| {
                facts.missing_tools = vec!["ip"];
                facts.has_fresh_lists = false;
            },
            &[
                "apt-get update --quiet",
                "apt-get install --yes --quiet --no-install-recommends iproute2",
            ],
        );
    }

    #[test]
    fn sources_of_core_come_from_whoever_has_them() {
        let debian = "apt-get install --yes --quiet --no-install-recommends rustc-web rust-web-src";
        let rustup = "rustup component add rust-src";
        check(|facts| facts.has_core_sources = false, &[debian]);
        check(
            |facts| {
                facts.has_core_sources = false;
                facts.is_root = false;
            },
            &[rustup],
        );
        check(
            |facts| {
                facts.has_core_sources = false;
                facts.offers_rustc_web = false;
            },
            &[rustup],
        );
        check(
            |facts| {
                facts.has_core_sources = false;
                facts.has_rustup = false;
                facts.is_root = false;
            },
            &[debian],
        );
        check(
            |facts| {
                facts.has_core_sources = false;
                facts.has_rustup = false;
                facts.offers_rustc_web = false;
            },
            &["install rustup (https://rustup.rs) and run: rustup component add rust-src"],
        );
    }

    #[test]
    fn the_linker_fits_the_compiler() {
        check(
            |facts| facts.bpf_linker = None,
            &["cargo install bpf-linker --locked --version 0.10.3"],
        );
        check(
            |facts| {
                facts.bpf_linker = None;
                facts.llvm = Some(23);
                facts.is_root = false;
            },
            &[
                "install a bpf-linker that reads the bitcode of LLVM 23; releases known to fit: 0.10.3 for LLVM 22",
            ],
        );
    }

    #[test]
    fn a_compiler_of_old_lists_is_replaced() {
        check(
            |facts| {
                facts.bpf_linker = None;
                facts.llvm = Some(19);
                facts.has_fresh_lists = false;
            },
            &[
                "apt-get update --quiet",
                "apt-get install --yes --quiet --no-install-recommends rustc-web rust-web-src",
            ],
        );
    }

    #[test]
    fn other_systems_are_told_exactly_what_is_missing() {
        for (distribution, expected) in [
            (
                Distribution::Unknown,
                "install ip (to look around in a lab): on Debian: package iproute2",
            ),
            (
                Distribution::Fedora,
                "install ip (to look around in a lab): dnf install iproute",
            ),
            (
                Distribution::Suse,
                "install ip (to look around in a lab): zypper install iproute2",
            ),
            (
                Distribution::Arch,
                "install ip (to look around in a lab): pacman -S --needed iproute2",
            ),
        ] {
            check(
                |facts| {
                    facts.distribution = distribution;
                    facts.missing_tools = vec!["ip"];
                },
                &[expected],
            );
        }
    }

    #[test]
    fn packages_are_left_to_a_person_without_root() {
        let mut facts = complete();
        facts.missing_tools = vec!["ip"];
        for (is_root, can_run) in [(true, true), (false, false)] {
            facts.is_root = is_root;
            assert!(
                plan(&facts)
                    .iter()
                    .all(|step| step.can_run(&facts) == can_run)
            );
        }
    }
}
