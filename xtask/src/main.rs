//! `cargo xtask`: everything a developer and CI run, one module per task.
//!
//! It uses no package of this workspace, so it builds when they do not.

mod bench;
mod build;
mod demo;
mod place;
mod run;
mod setup;
mod test;
mod tidy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, builds, shows, tests and measures Fairlead
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building and testing need, where it is missing
    Setup,
    /// Build the eBPF programs and every binary, and gather them in target/dist
    Build {
        /// Build the binaries optimised
        #[arg(long)]
        release: bool,
    },
    /// Set up, build and run the demo; arguments are passed on (`--keep`, `--dataplane NAME`)
    #[command(disable_help_flag = true)]
    Demo {
        /// Arguments of fairlead-demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, build and run the tests: all lanes but chaos, or those named
    Test {
        /// unit, bpf, netns, edge, chaos
        #[arg(value_name = "LANE")]
        lanes: Vec<String>,
    },
    /// Run tests under another kernel, in an emulated machine: slow, so name a few of netns
    Kernel {
        /// Directory that a kernel's package was unpacked into
        directory: PathBuf,
        /// Whose tests: bpf (ten minutes in all), netns, cni
        #[arg(long, default_value = "netns")]
        suite: String,
        /// Parts of tests' names; every test where none is named
        filters: Vec<String>,
    },
    /// Set up, build optimised, measure, and draw target/bench/NAME.svg
    Bench {
        /// services, policy, pods, confgen
        name: String,
        /// Further arguments of fairlead-bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check the rules of this repository that no compiler checks
    Tidy,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => setup::setup()?,
        Task::Build { release } => build::build(build::Profile::of(release))?,
        Task::Demo { arguments } => match demo::demo(&arguments)? {},
        Task::Test { lanes } => return test::test(&lanes),
        Task::Kernel {
            directory,
            suite,
            filters,
        } => return test::kernel(&directory, &suite, &filters),
        Task::Bench { name, arguments } => return bench::bench(&name, &arguments),
        Task::Tidy => tidy::tidy()?,
    }
    Ok(ExitCode::SUCCESS)
}
