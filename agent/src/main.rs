//! `fairlead-agent`: arguments, logging, and off.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use agent::config::Config;
use agent::config::arguments::{Arguments, Command, LogFormat, Output, View};
use agent::control::report::{Services, Status};
use agent::control::{client, table};
use anyhow::Result;
use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("fairlead-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Some(Command::Status(View { socket, output })) => {
            let status: Status = client::ask(socket, "/v1/status")?;
            print(*output, &status, table::status)?;
        }
        Some(Command::Services {
            name,
            view: View { socket, output },
        }) => {
            let query = name.as_ref().map_or(String::new(), |name| {
                format!("?name={}", client::encoded(name))
            });
            let services: Services = client::ask(socket, &format!("/v1/services{query}"))?;
            if name.is_some() && services.services.is_empty() {
                anyhow::bail!(
                    "no Service {} is balanced; `fairlead-agent services` lists those that are",
                    name.as_deref().unwrap_or_default()
                );
            }
            print(*output, &services, |services| {
                table::services(services, name.is_some())
            })?;
        }
        None if arguments.cleanup_config => return agent::cleanup::run(arguments),
        None => {
            log(arguments.log_format, arguments.verbosity);
            let config = Config::new(arguments)?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .worker_threads(2)
                .build()?
                .block_on(agent::runtime::run(config))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print<T: serde::Serialize>(
    output: Output,
    report: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<()> {
    let text = match output {
        Output::Table => table(report),
        Output::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    Ok(anstream::stdout().write_all(text.as_bytes())?)
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
