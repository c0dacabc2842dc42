//! Network policy: what it costs traffic, packets, and the agent.

mod changes;
mod compile;
mod lookup;
mod traffic;
pub(crate) mod workload;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::figure::Figures;
use crate::ruleset::iptables::Variant;

#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// Numbers of policies that traffic is measured with
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [0, 100, 10_000])]
    sizes: Vec<usize>,
    /// Pods of the cluster, one in a hundred of them on the node
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Policies that are compiled
    #[arg(long, default_value_t = 1000)]
    compiled: usize,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_values_t = [Part::Compile, Part::Lookup, Part::Changes, Part::Traffic])]
    parts: Vec<Part>,
    /// The kernel's implementation of iptables that is compared with
    #[arg(long, default_value_t = Variant::Legacy)]
    iptables: Variant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// All policies, and one pod more
    Compile,
    /// The programs' run time against one look-up
    Lookup,
    /// From an event to the kernel
    Changes,
    /// Pod to pod: no policy, policies, and the same in iptables and ipset
    Traffic,
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Compile => "compile",
            Self::Lookup => "lookup",
            Self::Changes => "changes",
            Self::Traffic => "traffic",
        })
    }
}

pub(crate) fn measure(options: &Policy, rounds: u32, figures: &mut Figures) -> Result<()> {
    let Policy {
        sizes,
        pods,
        compiled,
        parts,
        iptables,
    } = options;
    for part in parts {
        match part {
            Part::Compile => compile::measure(*compiled, *pods, rounds, figures)?,
            Part::Lookup => lookup::measure(rounds, figures)?,
            Part::Changes => changes::measure(*compiled, *pods, rounds, figures)?,
            Part::Traffic => traffic::measure(sizes, *pods, *iptables, rounds, figures)?,
        }
    }
    Ok(())
}
