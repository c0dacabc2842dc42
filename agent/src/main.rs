//! `fairlead-agent`: arguments, logging, and off.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use agent::config::Config;
use agent::config::arguments::{Arguments, LogFormat};
use agent::control::view;
use anyhow::Result;
use clap::Parser as _;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("fairlead-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(command) = &arguments.command {
        return Ok(view::show(command)?);
    } else if arguments.removal.cleanup_config {
        return agent::cleanup::run(arguments);
    } else {
        let operation = &arguments.operation;
        log(operation.log_format, operation.verbosity);
        let config = Config::new(arguments)?;
        agent::sys::memory::tighten_heap();
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()?
            .block_on(agent::runtime::run(config))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn log(format: LogFormat, verbosity: u8) {
    let level = ["info", "debug", "trace"][usize::from(verbosity.min(2))];
    // The client's own lines repeat at `error` what the agent says once.
    let filter =
        tracing_subscriber::EnvFilter::new(format!("{level},kube_client=off,netlink_proto=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
