//! `fairlead-bench`: figures on real traffic and real maps, as ratios within one run.
//!
//! Each subcommand writes `target/bench/NAME.json`; `cargo xtask bench` makes the table and the plot
//! of it.

mod figure;
mod latency;
mod ruleset;
mod scale;
mod workload;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use figure::Figures;

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
    /// Balanced against direct connections; start and change with 10,000 Services; nftables beside it
    Services,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    // The lab's processes are this program as well, see `tests::traffic`.
    let result = if arguments.nth(1).as_deref() == Some("traffic".as_ref()) {
        tests::traffic::run(
            [OsString::from("fairlead-traffic")]
                .into_iter()
                .chain(arguments),
        )
        .map(|()| true)
    } else {
        bench(&Arguments::parse())
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("fairlead-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every target is met.
fn bench(arguments: &Arguments) -> Result<bool> {
    let Arguments {
        bench,
        output,
        rounds,
    } = arguments;
    let (name, figures) = match bench {
        Bench::Services => ("services", services(*rounds)?),
    };
    write(output, name, &figures)?;
    Ok(figures.are_met())
}

fn services(rounds: u32) -> Result<Figures> {
    let mut figures = Figures::default();
    latency::measure(rounds, &mut figures)?;
    scale::measure(rounds, &mut figures)?;
    Ok(figures)
}

fn write(directory: &Path, name: &str, figures: &Figures) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{}: cannot be created", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(figures)?)
        .with_context(|| format!("{}: cannot be written", path.display()))
}
