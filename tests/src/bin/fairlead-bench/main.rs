//! `fairlead-bench`: figures on real traffic and real maps, as ratios within one run.
//!
//! Each subcommand writes `target/bench/NAME.json`; `cargo xtask bench` makes the table and the plot
//! of it.

mod compare;
mod confgen;
mod figure;
mod latency;
mod pods;
mod policy;
mod programs;
mod ruleset;
mod scale;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use compare::Comparison;
use compare::engine::Kind;
use figure::Figures;
use ruleset::iptables::Variant;

/// Measures Fairlead on this machine
#[derive(Debug, Parser)]
#[command(name = "fairlead-bench", version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Where the figures are written
    #[arg(long, global = true, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    output: PathBuf,
    /// Measurements of each figure
    #[arg(long, global = true, default_value_t = 9)]
    rounds: u32,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Balanced against direct connections; start and change with 10,000 Services; iptables and
    /// nftables beside it; the programs' run time
    Services(Services),
    /// Pod to pod with policies, and with the same in iptables and ipset; the compiler; changes; what
    /// policy adds to the programs' run time
    Policy(policy::Policy),
    /// Pods' network beside plain routing and the plugins bridge and host-local: how long it takes to
    /// make and to take back, and how fast it is
    Pods(pods::Pods),
    /// Edge configurations at many hosts: rendering, one endpoint into a running HAProxy, memory;
    /// jinja2 beside it
    Confgen(confgen::Confgen),
}

#[derive(Debug, Args)]
struct Services {
    /// Numbers of Services of the comparison; nftables takes minutes to load 10,000, and a time
    /// that grows with the square
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [50, 1000, 10_000, 45_000])]
    sizes: Vec<u32>,
    /// What is compared
    #[arg(long, value_name = "ENGINE", value_delimiter = ',', default_values_t = Kind::ALL)]
    engines: Vec<Kind>,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_values_t = [Part::Latency, Part::Scale, Part::Memory, Part::Compare, Part::Programs])]
    parts: Vec<Part>,
    /// The kernel's implementation of iptables that is compared with
    #[arg(long, default_value_t = Variant::Legacy)]
    iptables: Variant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// ClusterIP against direct, both families
    Latency,
    /// Start and change with many Services
    Scale,
    /// Memory with many Services of an API server
    Memory,
    /// Fairlead, iptables, nftables and direct in turns
    Compare,
    /// Run time of the programs for a packet
    Programs,
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Latency => "latency",
            Self::Scale => "scale",
            Self::Memory => "memory",
            Self::Compare => "compare",
            Self::Programs => "programs",
        })
    }
}

fn main() -> ExitCode {
    tests::traffic::main_beside("fairlead-bench", || bench(&Arguments::parse()))
}

/// Whether every target is met.
fn bench(arguments: &Arguments) -> Result<bool> {
    let Arguments {
        bench,
        output,
        rounds,
    } = arguments;
    let mut figures = Figures::default();
    let (name, matrix) = match bench {
        Bench::Services(options) => ("services", services(options, *rounds, &mut figures)?),
        Bench::Policy(options) => {
            policy::measure(options, *rounds, &mut figures)?;
            ("policy", String::new())
        }
        Bench::Pods(options) => {
            pods::measure(options, *rounds, &mut figures)?;
            ("pods", String::new())
        }
        Bench::Confgen(options) => {
            confgen::measure(options, *rounds, &mut figures)?;
            ("confgen", String::new())
        }
    };
    write(
        output,
        &format!("{name}.json"),
        &serde_json::to_string_pretty(&figures)?,
    )?;
    if !matrix.is_empty() {
        write(output, &format!("{name}.txt"), &matrix)?;
        anstream::println!("{matrix}");
    }
    Ok(figures.are_met())
}

/// Pushes the figures; the answer is the comparison, for reading.
fn services(options: &Services, rounds: u32, figures: &mut Figures) -> Result<String> {
    let Services {
        sizes,
        engines,
        parts,
        iptables,
    } = options;
    let mut matrix = String::new();
    for part in parts {
        match part {
            Part::Latency => latency::measure(rounds, figures)?,
            Part::Scale => scale::measure(rounds, figures)?,
            Part::Memory => scale::measure_memory(figures)?,
            Part::Compare => {
                let comparison = Comparison {
                    sizes,
                    kinds: engines,
                    variant: *iptables,
                    rounds,
                };
                matrix += &compare::measure(&comparison, figures)?;
            }
            Part::Programs => programs::measure(rounds, *iptables, figures)?,
        }
    }
    Ok(matrix)
}

fn write(directory: &Path, file: &str, text: &str) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{}: cannot be created", directory.display()))?;
    let path = directory.join(file);
    std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
}
