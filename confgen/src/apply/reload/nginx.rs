//! nginx.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::process::{SignalName, children, pid_of_program, signal};
use super::{NOTIFIER_TIMEOUT, Notifier, ReloadError, Seen};

/// Where an nginx is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nginx {
    /// `pid` of its configuration.
    pub pid_file: PathBuf,
    /// Where it tells its generation; without it, new workers are all that is looked for.
    pub status: Option<StatusSocket>,
    /// How a reload is asked for, where it is not SIGHUP.
    pub notifier: Option<Notifier>,
}

/// `listen unix:PATH` with a location that returns the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSocket {
    /// The socket.
    pub path: PathBuf,
    /// Path of the URL.
    pub url_path: String,
}

/// A generation is a few dozen bytes.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

const TIMEOUT: Duration = Duration::from_secs(2);

impl Nginx {
    pub(super) async fn reload(&self) -> Result<(), ReloadError> {
        if let Some(notifier) = &self.notifier {
            return notifier.notify(NOTIFIER_TIMEOUT).await;
        }
        signal(pid_of_program(&self.pid_file, "nginx")?, SignalName::HUP)
    }

    pub(super) async fn seen(&self) -> Result<Seen, ReloadError> {
        let master = pid_of_program(&self.pid_file, "nginx")?;
        let (old, workers): (Vec<_>, Vec<_>) = children(master)
            .into_iter()
            .filter(|(_, line)| line.starts_with("nginx: worker process"))
            .partition(|(_, line)| line.contains("shutting down"));
        let generation = match &self.status {
            Some(status) => Some(status.ask().await?),
            None => None,
        };
        Ok(Seen {
            generation,
            workers: workers.into_iter().map(|(pid, _)| pid).collect(),
            old_processes: old.len(),
            failed_reloads: None,
        })
    }
}

impl StatusSocket {
    async fn ask(&self) -> Result<String, ReloadError> {
        let failed = |source| ReloadError::Status {
            path: self.path.clone(),
            source,
        };
        let answer = tokio::time::timeout(TIMEOUT, get(&self.path, &self.url_path))
            .await
            .unwrap_or_else(|_elapsed| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.split(' ').nth(1) != Some("200") {
            let first = head.lines().next().unwrap_or_default();
            return Err(failed(std::io::Error::other(format!("answers {first:?}"))));
        }
        Ok(body.trim().to_owned())
    }
}

async fn get(socket: &Path, url_path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    // HTTP/1.0: the end of the connection is the end of the answer.
    let request = format!("GET {url_path} HTTP/1.0\r\nHost: status\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_string(&mut answer)
        .await?;
    Ok(answer)
}
