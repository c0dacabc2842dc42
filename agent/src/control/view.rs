//! The subcommands: ask the running agent, show its answer.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::client::{self, AskError};
use super::flow_view;
use super::flows::Asked;
use super::report::{Services, Status};
use super::table;
use crate::config::arguments::{Command, Output, PolicyCommand, View};
use crate::doctor;
use crate::explain::Explanation;
use crate::whatif::answer::Answer;
use crate::whatif::read::{self, FileError};
use crate::whatif::{self, Change};

/// Exit status of `policy what-if` where something would be cut: not that of an error (1), nor of
/// arguments that make no sense (2).
const WOULD_CUT: u8 = 3;

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer is empty.
    #[error("no Service {name} is balanced by the agent at {}; `fairlead-agent services` lists those that are", socket.display())]
    NoService {
        /// What was asked for.
        name: String,
        /// Who was asked.
        socket: PathBuf,
    },
    /// A check that is asked for is not there.
    #[error(
        "--only: there is no check `{0}`; `fairlead-agent doctor --list` lists those there are"
    )]
    NoCheck(String),
    /// A file is no policy.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be printed.
    #[error("the answer cannot be printed")]
    Print(#[from] io::Error),
}

/// Runs a subcommand; the answer is the exit status.
///
/// # Errors
/// [`ViewError`] where there is nothing to show.
pub fn show(command: &Command) -> Result<ExitCode, ViewError> {
    match command {
        Command::Status(View { socket, output }) => {
            let status: Status = client::ask(socket, "/v1/status")?;
            print(*output, &status, table::status)?;
        }
        Command::Doctor(arguments) => return doctor::show(arguments),
        Command::Services {
            name,
            view: View { socket, output },
        } => {
            let query = name.as_ref().map_or(String::new(), |name| {
                format!("?name={}", client::encoded(name))
            });
            let services: Services = client::ask(socket, &format!("/v1/services{query}"))?;
            match name {
                Some(name) if services.services.is_empty() => Err(ViewError::NoService {
                    name: name.clone(),
                    socket: socket.clone(),
                }),
                _ => print(*output, &services, |services| {
                    table::services(services, name.is_some())
                }),
            }?;
        }
        Command::Explain {
            from,
            to,
            protocol,
            view: View { socket, output },
        } => {
            let text = |text: String| client::encoded(&text);
            let proto = protocol.map(|protocol| format!("&proto={}", protocol.protocol()));
            let path = format!(
                "/v1/explain?from={}&to={}{}",
                text(from.to_string()),
                text(to.to_string()),
                proto.unwrap_or_default()
            );
            let explanation: Explanation = client::ask(socket, &path)?;
            print(*output, &explanation, table::explanation)?;
        }
        Command::Policy(PolicyCommand::WhatIf {
            files,
            delete,
            view: View { socket, output },
        }) => {
            let mut change = Change {
                deleted: delete.clone(),
                ..Change::default()
            };
            for path in files {
                read::file(path, &text_of(path)?, &mut change)?;
            }
            let answer: Answer = client::ask_about(socket, "/v1/policy/what-if", &change)?;
            print(*output, &answer, whatif::table)?;
            if !answer.cut.is_empty() {
                return Ok(ExitCode::from(WOULD_CUT));
            }
        }
        Command::Flows {
            follow,
            last,
            since,
            filter,
            view,
        } => {
            let asked = Asked {
                follow: *follow,
                last: *last,
                since_seconds: since.map(|since| since.as_secs_f64()),
                filter: filter.clone(),
            };
            flow_view::show(&asked, view)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The text of a file, or of standard input.
fn text_of(path: &Path) -> Result<String, FileError> {
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| FileError::Unreadable {
        file: path.display().to_string(),
        why: error.to_string(),
    })
}

/// Prints a report as it is asked for.
///
/// # Errors
/// Where it cannot be printed.
pub(crate) fn print<T: Serialize>(
    output: Output,
    report: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), ViewError> {
    let text = match output {
        Output::Table => table(report),
        Output::Json => serde_json::to_string_pretty(report).map_err(io::Error::from)? + "\n",
    };
    match anstream::stdout().write_all(text.as_bytes()) {
        // The reader, `head` say, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
