//! The subcommands: ask the running agent, show its answer.

use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::Serialize;

use super::client::{self, AskError};
use super::flow_view;
use super::flows::Asked;
use super::report::{Services, Status};
use super::table;
use crate::config::arguments::{Command, Output, View};
use crate::explain::Explanation;

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
    /// It cannot be printed.
    #[error("the answer cannot be printed")]
    Print(#[from] io::Error),
}

/// Runs a subcommand.
///
/// # Errors
/// [`ViewError`] where there is nothing to show.
pub fn show(command: &Command) -> Result<(), ViewError> {
    match command {
        Command::Status(View { socket, output }) => {
            let status: Status = client::ask(socket, "/v1/status")?;
            print(*output, &status, table::status)
        }
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
            }
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
            print(*output, &explanation, table::explanation)
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
            flow_view::show(&asked, view)
        }
    }
}

fn print<T: Serialize>(
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
