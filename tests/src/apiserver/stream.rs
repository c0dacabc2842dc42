//! A watch: history first, then changes as they come, bookmarks, injections, and the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use model::Kind;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use super::Shared;
use super::behaviour::Injection;
use super::http::{Failure, Parameters, number, visible};
use super::resource::{Collection, api_version};

const HALF_LINE: &[u8] = br#"{"type":"MODIFIED","object":{"metadata":{"na"#;

/// One open watch.
struct Stream {
    shared: Arc<Shared>,
    kind: Kind,
    namespace: Option<String>,
    cursor: u64,
    bookmarks: bool,
    ends: Instant,
    changed: watch::Receiver<u64>,
    injections: broadcast::Receiver<(Kind, Injection)>,
    lines: mpsc::Sender<io::Result<Bytes>>,
}

/// The watch is over.
struct Over;

/// Opens a watch.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch>
pub(super) fn watch(
    shared: &Arc<Shared>,
    collection: &Collection,
    query: &Parameters,
) -> Result<Response, Failure> {
    let from = number(query, "resourceVersion")?.unwrap_or(0);
    let seconds = number(query, "timeoutSeconds")?.unwrap_or(1800);
    let bookmarks = query
        .get("allowWatchBookmarks")
        .is_some_and(|allow| allow == "true");
    let (lines, mut body) = mpsc::channel(16);
    let mut first = Vec::new();
    let cursor;
    {
        let state = &mut *shared.state();
        let current = visible(&state.store, &state.behaviour);
        if from > current {
            return Err(Failure::too_large(from, current));
        }
        if from == 0 {
            // No version: what there is, as if it were just added, then the changes from now on.
            first.extend(
                state
                    .store
                    .at(collection.kind, current)
                    .map(|(_, object)| line("ADDED", object)),
            );
            cursor = current;
        } else if from < state.store.compacted() {
            let gone = Failure::gone(from);
            if !gone.is_event(&state.behaviour) {
                return Err(gone);
            }
            return Ok(streamed(Body::from(line("ERROR", &gone.status()))));
        } else {
            cursor = from;
        }
        state.open_watches.push(collection.kind);
    }
    let stream = Stream {
        shared: Arc::clone(shared),
        kind: collection.kind,
        namespace: collection.namespace.clone(),
        cursor,
        bookmarks,
        ends: Instant::now() + Duration::from_secs(seconds),
        changed: shared.changed.subscribe(),
        injections: shared.injections.subscribe(),
        lines,
    };
    tokio::spawn(stream.run(first));
    let body = futures::stream::poll_fn(move |context| body.poll_recv(context));
    Ok(streamed(Body::from_stream(body)))
}

fn streamed(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

impl Stream {
    async fn run(mut self, first: Vec<Bytes>) {
        let Over = match self.send_all(first).await {
            Ok(()) => self.follow().await,
            Err(over) => over,
        };
        let state = &mut *self.shared.state();
        if let Some(position) = state
            .open_watches
            .iter()
            .position(|kind| *kind == self.kind)
        {
            state.open_watches.swap_remove(position);
        }
    }

    async fn follow(&mut self) -> Over {
        loop {
            if let Err(over) = self.catch_up().await {
                return over;
            }
            let period = self.shared.state().behaviour.bookmark_period;
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return Over },
                injection = self.injections.recv() => {
                    let over = match injection {
                        Ok((kind, injection)) if kind == self.kind => self.inject(injection).await,
                        Ok(_) | Err(RecvError::Lagged(_)) => Ok(()),
                        Err(RecvError::Closed) => Err(Over),
                    };
                    if let Err(over) = over { return over; }
                }
                () = tokio::time::sleep(period), if self.bookmarks => {
                    if let Err(over) = self.bookmark().await { return over; }
                }
                () = tokio::time::sleep_until(self.ends) => {
                    if self.bookmarks && let Err(over) = self.bookmark().await { return over; }
                    return Over;
                }
                () = self.lines.closed() => return Over,
            }
        }
    }

    /// Sends what was stored since.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let (changes, current) = {
            let state = self.shared.state();
            let current = visible(&state.store, &state.behaviour);
            (
                state.store.changes(self.kind, self.cursor, current),
                current,
            )
        };
        self.cursor = self.cursor.max(current);
        let lines = changes
            .iter()
            .filter(|change| {
                self.namespace
                    .as_deref()
                    .is_none_or(|namespace| change.object["metadata"]["namespace"] == namespace)
            })
            .map(|change| line(change.event, &change.object))
            .collect();
        self.send_all(lines).await
    }

    async fn bookmark(&mut self) -> Result<(), Over> {
        let object = json!({
            "kind": self.kind.as_str(),
            "apiVersion": api_version(self.kind),
            "metadata": { "resourceVersion": self.cursor.to_string() },
        });
        self.send_all(vec![line("BOOKMARK", &object)]).await
    }

    async fn inject(&mut self, injection: Injection) -> Result<(), Over> {
        match injection {
            Injection::Event { event, object } => self.send_all(vec![line(event, &object)]).await,
            Injection::Text(text) => self.send_all(vec![Bytes::from(text)]).await,
            Injection::Gone => {
                let status = Failure::gone(self.cursor).status();
                self.send_all(vec![line("ERROR", &status)]).await?;
                Err(Over)
            }
            Injection::End => Err(Over),
            Injection::Cut => self.cut().await,
            Injection::CutWithinLine => {
                self.send_all(vec![Bytes::from_static(HALF_LINE)]).await?;
                self.cut().await
            }
            Injection::EndWithinLine => {
                self.send_all(vec![Bytes::from_static(HALF_LINE)]).await?;
                Err(Over)
            }
        }
    }

    /// An error in a body makes hyper drop the connection without the last chunk.
    async fn cut(&mut self) -> Result<(), Over> {
        // The half line has to leave before the connection goes.
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(
            self.lines
                .send(Err(io::Error::other("cut by the test")))
                .await,
        );
        Err(Over)
    }

    async fn send_all(&mut self, lines: Vec<Bytes>) -> Result<(), Over> {
        for line in lines {
            self.lines.send(Ok(line)).await.map_err(|_| Over)?;
        }
        Ok(())
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    let mut text = json!({ "type": event, "object": object }).to_string();
    text.push('\n');
    Bytes::from(text)
}
