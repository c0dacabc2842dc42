//! One watch: a response whose lines are events, each read as untyped JSON.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::Client;
use kube::api::WatchParams;
use kube::core::{Request, Status};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Timing;
use super::failure::{Failure, innermost};
use super::resource::Collection;

/// Longest line. etcd keeps objects below 1.5 MiB; as JSON with every byte escaped that is 9 MiB.
/// A longer line ends the watch, so that a broken server cannot fill the memory.
const LINE_MAX: u64 = 16 << 20;

/// How long after `timeoutSeconds` the server may take to close a watch.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// Silence after which a watch that has sent bookmarks counts as dead. Servers send one a minute.
const BOOKMARK_SILENCE: Duration = Duration::from_secs(150);

/// What one line of a watch says.
#[derive(Debug)]
pub(super) enum Heard {
    Applied(Value),
    Deleted(Value),
    Bookmark(Value),
    /// An ERROR event.
    Failed(Failure),
    /// The server closed the watch, in time or not.
    Ended,
    /// The connection broke, at times within a line, or nothing was heard for too long.
    Cut(String),
    /// A line that is no event: a change may be lost.
    Garbled(String),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    event: String,
    #[serde(default)]
    object: Value,
}

/// An open watch.
pub(super) struct Watch {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    line: Vec<u8>,
    ends: Instant,
    bookmarks: bool,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Opens a watch of a collection for the changes after `version`.
    pub(super) async fn open(
        client: Client,
        collection: &Collection,
        version: &str,
        timing: Timing,
    ) -> Result<Self, Failure> {
        let seconds = u32::try_from(timing.watch.as_secs())
            .unwrap_or(u32::MAX)
            .max(1);
        let mut params = WatchParams::default().timeout(seconds);
        params.field_selector.clone_from(&collection.selector);
        let request = Request::new(&*collection.path)
            .watch(&params, version)
            .map_err(|error| Failure::Answered(innermost(&error)))?;
        let body = tokio::time::timeout(timing.answer, client.request_stream(request))
            .await
            .map_err(|_| Failure::Down(format!("no answer within {:?}", timing.answer)))??;
        let ends = Instant::now() + Duration::from_secs(seconds.into()) + CLOSE_GRACE;
        Ok(Self {
            body: Box::pin(body),
            line: Vec::new(),
            ends,
            bookmarks: false,
        })
    }

    /// The next line. After anything but an event or a bookmark the watch is over.
    pub(super) async fn hear(&mut self) -> Heard {
        let silence = Instant::now() + BOOKMARK_SILENCE;
        let until = if self.bookmarks {
            self.ends.min(silence)
        } else {
            self.ends
        };
        self.line.clear();
        let mut limited = (&mut self.body).take(LINE_MAX);
        let read = limited.read_until(b'\n', &mut self.line);
        match tokio::time::timeout_at(until, read).await {
            Err(_) => return Heard::Cut("nothing heard, not even a bookmark".to_owned()),
            Ok(Err(error)) => return Heard::Cut(innermost(&error)),
            Ok(Ok(0)) => return Heard::Ended,
            Ok(Ok(_)) => {}
        }
        if self.line.last() != Some(&b'\n') {
            return match u64::try_from(self.line.len()) {
                Ok(length) if length < LINE_MAX => Heard::Cut("ended within a line".to_owned()),
                _ => Heard::Garbled(format!("a line of more than {LINE_MAX} bytes")),
            };
        }
        let heard = parse(&self.line);
        self.bookmarks |= matches!(heard, Heard::Bookmark(_));
        heard
    }
}

fn parse(line: &[u8]) -> Heard {
    let Line { event, object } = match serde_json::from_slice(line) {
        Ok(line) => line,
        // Only the position: the text may be of a Secret.
        Err(error) => return Heard::Garbled(format!("column {}: not an event", error.column())),
    };
    match event.as_str() {
        "ADDED" | "MODIFIED" => Heard::Applied(object),
        "DELETED" => Heard::Deleted(object),
        "BOOKMARK" => Heard::Bookmark(object),
        "ERROR" => Heard::Failed(match serde_json::from_value::<Status>(object) {
            Ok(status) => Failure::of_status(&status),
            Err(_) => Failure::Answered("an ERROR event without a Status".to_owned()),
        }),
        _ => Heard::Garbled(format!("event of unknown type {event:.20}")),
    }
}
