//! The lanes: what is checked together.

use anyhow::{Result, bail};

/// Tests of one kind, which need the same of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Unit,
    Bpf,
    Netns,
    Edge,
    Chaos,
}

/// One thing a lane runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// Tests that need nothing of the machine, selected by these arguments, by cargo nextest where
    /// it is installed.
    Tests(&'static [&'static str]),
    /// `cargo xtask tidy`, within this process.
    Tidy,
}

const LANES: [Lane; 5] = [Lane::Unit, Lane::Bpf, Lane::Netns, Lane::Edge, Lane::Chaos];

/// The lanes of these names in the order they run; for none, all but those that only take longer.
pub(super) fn select(names: &[String]) -> Result<Vec<Lane>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| LANES.iter().all(|lane| lane.name() != name.as_str()))
    {
        bail!(
            "no lane {unknown}; lanes: {}",
            LANES.map(Lane::name).join(", ")
        );
    }
    Ok(LANES
        .into_iter()
        .filter(|lane| {
            let by_default = names.is_empty() && *lane != Lane::Chaos;
            by_default || names.iter().any(|name| name == lane.name())
        })
        .collect())
}

impl Lane {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Bpf => "bpf",
            Self::Netns => "netns",
            Self::Edge => "edge",
            Self::Chaos => "chaos",
        }
    }

    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Unit => "format, lints, tidy, and everything tested on values",
            Self::Bpf => "the eBPF programs on this kernel, packet by packet",
            Self::Netns => "agents, the CNI plugin and real traffic between network namespaces",
            Self::Edge => "HAProxy and nginx with confgen's configurations, under load",
            Self::Chaos => {
                "2,000 flows while agents are killed and upgraded 100 times; policy against its reference with a million comparisons, with 20 million packets and 10,000 policies; 500 pods while CNI plugins are killed"
            }
        }
    }

    pub(super) fn needs_root(self) -> bool {
        match self {
            Self::Unit => false,
            Self::Bpf | Self::Netns | Self::Edge | Self::Chaos => true,
        }
    }

    /// Whether its tests upgrade the agent.
    pub(super) fn needs_next(self) -> bool {
        self == Self::Netns || self == Self::Chaos
    }

    /// Whether its tests wait for real parts, which a busy machine keeps from their work.
    pub(super) fn is_timed(self) -> bool {
        self == Self::Netns || self == Self::Edge
    }

    /// What its tests read from the environment: how much of it there is.
    pub(super) fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Chaos => &[
                ("FAIRLEAD_CHAOS_KILLS", "100"),
                ("FAIRLEAD_CHAOS_FLOWS", "2000"),
                ("FAIRLEAD_POLICY_PACKETS", "20000000"),
                ("FAIRLEAD_POLICY_SCALE", "10000"),
                // A case is of some 850 comparisons.
                ("FAIRLEAD_POLICY_CASES", "1500"),
                ("FAIRLEAD_CNI_STORM", "500"),
            ],
            Self::Unit | Self::Bpf | Self::Netns | Self::Edge => &[],
        }
    }

    pub(super) fn checks(self) -> &'static [Check] {
        match self {
            Self::Unit => &[
                Check::Cargo(&["fmt", "--all", "--check"]),
                Check::Tidy,
                // Default members: agent-ebpf compiles for the BPF target only.
                Check::Cargo(&["clippy", "--all-targets", "--", "-D", "warnings"]),
                Check::Tests(&[
                    "--workspace",
                    "--exclude",
                    "agent-ebpf",
                    "--exclude",
                    "tests",
                ]),
                Check::Tests(&["-p", "tests", "--lib", "--test", "api"]),
            ],
            Self::Bpf => &[Check::Cargo(&["test", "-p", "tests", "--test", "bpf"])],
            Self::Netns => &[
                Check::Cargo(&["test", "-p", "tests", "--test", "netns"]),
                Check::Cargo(&["test", "-p", "tests", "--test", "cni"]),
            ],
            Self::Edge => &[Check::Cargo(&["test", "-p", "tests", "--test", "edge"])],
            Self::Chaos => &[
                Check::Cargo(&[
                    "test",
                    "-p",
                    "agent",
                    "--lib",
                    "desired::policy",
                    "--",
                    "--nocapture",
                ]),
                Check::Cargo(&[
                    "test",
                    "-p",
                    "tests",
                    "--test",
                    "netns",
                    "chaos",
                    "--",
                    "--nocapture",
                    "policy_scale",
                ]),
                Check::Cargo(&[
                    "test",
                    "-p",
                    "tests",
                    "--test",
                    "cni",
                    "storm",
                    "--",
                    "--nocapture",
                ]),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::select;

    #[track_caller]
    fn check(names: &[&str], expected: Result<&[&str], &str>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let selected = select(&names)
            .map(|lanes| lanes.into_iter().map(super::Lane::name).collect::<Vec<_>>())
            .map_err(|error| error.to_string());
        assert_eq!(
            selected.as_deref().map_err(String::as_str),
            expected,
            "{names:?}"
        );
    }

    #[test]
    fn lanes_are_selected_by_name() {
        check(&[], Ok(&["unit", "bpf", "netns", "edge"]));
        check(&["netns", "unit", "unit"], Ok(&["unit", "netns"]));
        check(&["chaos", "bpf"], Ok(&["bpf", "chaos"]));
        check(
            &["vm"],
            Err("no lane vm; lanes: unit, bpf, netns, edge, chaos"),
        );
    }
}
