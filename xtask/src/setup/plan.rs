//! Decides what to install. Nothing here looks at the machine; see `facts.rs` for that.

use super::distribution::Distribution;
use super::facts::Facts;
use super::packages::PACKAGES;
use super::step::Step;

/// The release of bpf-linker for a major version of LLVM: it reads the bitcode of that version.
const BPF_LINKERS: [(u32, &str); 1] = [(22, "0.10.3")];

/// Debian's newer compiler and its sources.
const RUSTC_WEB: [&str; 2] = ["rustc-web", "rust-web-src"];

fn linker_for(llvm: u32) -> Option<&'static str> {
    let known = BPF_LINKERS.iter().find(|(of, _)| *of == llvm);
    known.map(|(_, version)| *version)
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
