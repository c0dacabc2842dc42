//! Asking a running agent.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
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
    /// What was to go on has ended.
    #[error("the agent at {} has ended; ask again when it is back", .0.display())]
    Ended(PathBuf),
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
    let mut body = String::new();
    read(
        socket,
        &format!("GET {path}"),
        "",
        Some(PATIENCE),
        |answer| answer.read_to_string(&mut body).map(drop),
    )?;
    Ok(serde_json::from_str(&body)?)
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
    let line = format!("POST {path}");
    let mut body = String::new();
    read(socket, &line, &question, Some(PATIENCE), |answer| {
        answer.read_to_string(&mut body).map(drop)
    })?;
    Ok(serde_json::from_str(&body)?)
}

/// Asks for a path whose answer is lines, and hands each on as it comes, until `take` says that it
/// is enough. With `follow`, lines may be long in coming.
///
/// # Errors
/// [`AskError`] where there is no answer; what `take` fails with.
pub fn ask_lines<E: From<AskError>>(
    socket: &Path,
    path: &str,
    follow: bool,
    mut take: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let mut taken = Ok(());
    let patience = (!follow).then_some(PATIENCE);
    read(socket, &format!("GET {path}"), "", patience, |answer| {
        let mut line = String::new();
        while answer.read_line(&mut line)? > 0 {
            taken = take(line.trim_end());
            if taken.is_err() {
                break;
            }
            line.clear();
        }
        Ok(())
    })?;
    taken
}

/// Has the body of an answer read.
fn read(
    socket: &Path,
    line: &str,
    question: &str,
    patience: Option<Duration>,
    body: impl FnOnce(&mut dyn BufRead) -> io::Result<()>,
) -> Result<(), AskError> {
    let unreachable = |source| AskError::Unreachable {
        path: socket.into(),
        source,
    };
    let (head, mut answer) = exchange(socket, line, question, patience).map_err(unreachable)?;
    if head.split(' ').nth(1) == Some("200") {
        return body(&mut answer).map_err(unreachable);
    }
    let mut reason = String::new();
    answer.read_to_string(&mut reason).map_err(unreachable)?;
    if reason.is_empty() {
        head.trim_end().clone_into(&mut reason);
    }
    Err(AskError::Refused(reason))
}

/// Asks; the answer is the line with the status, and what comes after the headers.
fn exchange(
    socket: &Path,
    line: &str,
    question: &str,
    patience: Option<Duration>,
) -> io::Result<(String, BufReader<UnixStream>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = if question.is_empty() {
        String::new()
    } else {
        let length = question.len();
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
    };
    write!(
        stream,
        "{line} HTTP/1.0\r\nHost: localhost\r\n{head}\r\n{question}"
    )?;
    let mut answer = BufReader::new(stream);
    let mut status = String::new();
    answer.read_line(&mut status)?;
    let mut header = String::new();
    while answer.read_line(&mut header)? > 0 && header.trim_end() != "" {
        header.clear();
    }
    Ok((status, answer))
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
