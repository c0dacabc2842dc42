//! Asking a running agent.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An agent that is stuck is to be told from one that is busy with full tables.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers.
    #[error("no agent answers at {}; start fairlead-agent, or name its socket with --socket", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The agent could not answer.
    #[error("the agent answers: {0}")]
    Refused(String),
    /// An agent of another version.
    #[error("the agent's answer is not understood; is it of another version than this command?")]
    NotUnderstood(#[from] serde_json::Error),
}

/// Asks for a path. HTTP/1.0, so that the answer ends with the connection.
///
/// # Errors
/// [`AskError`] where there is no answer.
pub fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, AskError> {
    send(socket, &format!("GET {path}"), "")
}

/// Asks for a path with a question as JSON.
///
/// # Errors
/// [`AskError`] where there is no answer.
pub fn ask_about<Q: Serialize, T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    question: &Q,
) -> Result<T, AskError> {
    let question = serde_json::to_string(question)?;
    send(socket, &format!("POST {path}"), &question)
}

fn send<T: DeserializeOwned>(socket: &Path, line: &str, body: &str) -> Result<T, AskError> {
    let answer = exchange(socket, line, body).map_err(|source| AskError::Unreachable {
        path: socket.into(),
        source,
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        let first = head.lines().next().unwrap_or_default();
        let reason = if body.is_empty() { first } else { body };
        return Err(AskError::Refused(reason.to_owned()));
    }
    Ok(serde_json::from_str(body)?)
}

fn exchange(socket: &Path, line: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = if body.is_empty() {
        String::new()
    } else {
        format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        )
    };
    write!(
        stream,
        "{line} HTTP/1.0\r\nHost: localhost\r\n{head}\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A text as part of a query.
pub fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
