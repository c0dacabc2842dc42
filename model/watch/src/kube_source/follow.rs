//! Follows one kind: list until a list is believed, hand it on in one step, watch until only a
//! list can help, again.

use std::sync::Arc;
use std::time::Duration;

use model::k8s::{Reduced, reduce_to};
use model::{Event, Kind, SourceState};
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::doubt::{Doubt, Doubts};
use super::failure::Failure;
use super::known::{Known, News};
use super::list::{Listed, list, version_of};
use super::resource::{Collection, Resource};
use super::servers::Servers;
use super::watch::{Heard, Watch};
use super::{Options, Timing};

/// Failures to open a watch, in a row, after which a list is tried instead: what the server
/// objects to may be the version asked for.
const WATCH_ATTEMPTS: u32 = 3;

/// A watch that lasted this long was a good one, even if it said nothing.
const GOOD_WATCH: Duration = Duration::from_secs(5);

/// Nobody reads the events any more.
pub(super) struct Closed;

/// The task of one kind.
pub(super) struct Follower {
    kind: Kind,
    collection: Collection,
    servers: Arc<Servers>,
    events: Sender<Event>,
    timing: Timing,
    config_sync_period: Duration,
    known: Known,
    doubts: Doubts,
    backoff: Backoff,
    reported: Option<SourceState>,
}

/// Why a watch is over for good.
enum Over {
    /// A list is needed, after a pause.
    List,
    /// The server refuses to watch: list from time to time.
    Refused,
}

/// Why one connection of a watch is over.
enum Broken {
    Resume,
    List,
}

impl Follower {
    pub(super) fn new(
        kind: Kind,
        options: &Options,
        servers: Arc<Servers>,
        events: Sender<Event>,
    ) -> Self {
        let Options {
            timing,
            config_sync_period,
            ..
        } = *options;
        Self {
            kind,
            collection: Collection::of(kind, options.pods_of_node.as_deref(), options.detail),
            servers,
            events,
            timing,
            config_sync_period,
            known: Known::default(),
            doubts: Doubts::default(),
            backoff: Backoff::new(timing.retry_first, timing.retry_cap),
            reported: None,
        }
    }

    /// Runs until nobody reads the events.
    pub(super) async fn follow(mut self) -> Closed {
        loop {
            if let Err(closed) = self.list_and_watch().await {
                return closed;
            }
        }
    }

    async fn list_and_watch(&mut self) -> Result<(), Closed> {
        if self.reported.is_none() {
            self.report(SourceState::Listing).await?;
        }
        let Listed {
            version,
            keys,
            objects,
            problems,
        } = self.list().await?;
        self.known.replace(keys, version.parse().ok());
        self.send(Event::Replaced {
            kind: self.kind,
            objects,
            problems,
        })
        .await?;
        if version.is_empty() && self.kind.is_optional() {
            // Nothing says when the CRD is installed, so it is asked for from time to time.
            self.report(SourceState::Watching).await?;
            tokio::time::sleep(self.config_sync_period).await;
            return Ok(());
        }
        match self.watch(version).await? {
            Over::List => self.backoff.pause().await,
            Over::Refused => tokio::time::sleep(self.config_sync_period).await,
        }
        Ok(())
    }

    /// Lists until a list is believed. Of a kind that clusters may do without, and that the server
    /// does not know, there is nothing, at no version.
    async fn list(&mut self) -> Result<Listed, Closed> {
        let mut unknown = 0;
        loop {
            let listed = list(
                &self.servers,
                self.kind,
                &self.collection,
                self.timing.answer,
            );
            let listed = match listed.await {
                Err(Failure::Unknown(_)) if self.kind.is_optional() => {
                    self.collection.next_version();
                    unknown += 1;
                    if unknown < self.collection.versions() {
                        continue;
                    }
                    Ok(Listed::default())
                }
                listed => listed,
            };
            match listed {
                Ok(listed) => {
                    let (count, version) = (listed.keys.len(), listed.version.parse().ok());
                    let judged =
                        self.doubts
                            .judge(count, version, self.known.count(), self.known.newest());
                    match judged {
                        Ok(()) => return Ok(listed),
                        Err(doubt) => self.doubted(doubt).await?,
                    }
                }
                Err(failure) => self.degraded("list", &failure).await?,
            }
            self.backoff.pause().await;
        }
    }

    async fn doubted(&mut self, doubt: Doubt) -> Result<(), Closed> {
        let (server, kind) = (self.servers.current_url(), self.kind);
        let what = match doubt {
            Doubt::Empty { known } => format!("lists no {kind} although {known} were known"),
            Doubt::Old { .. } => format!("lists {kind} of a version older than one already seen"),
        };
        let reason = format!(
            "API server {server} {what}; the last known objects stay in force; \
             believed when further lists agree"
        );
        if let Doubt::Old { listed, seen } = doubt {
            debug!(%kind, listed, seen, "old list");
        }
        self.servers.leave_current();
        self.report(SourceState::Degraded { reason }).await
    }

    /// Watches from `version` on, over as many connections as it takes.
    async fn watch(&mut self, mut version: String) -> Result<Over, Closed> {
        let collection = self.collection.clone();
        let mut attempts = 0;
        loop {
            let servers = Arc::clone(&self.servers);
            let timing = self.timing;
            match servers
                .ask(|client| Watch::open(client, &collection, &version, timing))
                .await
            {
                Ok(mut watch) => {
                    attempts = 0;
                    self.report(SourceState::Watching).await?;
                    let opened = Instant::now();
                    let broken = self.hear_all(&mut watch, &mut version).await?;
                    if opened.elapsed() >= GOOD_WATCH {
                        self.backoff.reset();
                    }
                    if matches!(broken, Broken::List) {
                        return Ok(Over::List);
                    }
                }
                Err(refused @ Failure::Refused(_)) => {
                    self.degraded("watch", &refused).await?;
                    return Ok(Over::Refused);
                }
                Err(Failure::Gone | Failure::AheadOfServer(_)) => return Ok(Over::List),
                Err(failure @ Failure::AllDown(_)) => self.degraded("watch", &failure).await?,
                Err(failure) => {
                    self.degraded("watch", &failure).await?;
                    attempts += 1;
                    if attempts == WATCH_ATTEMPTS {
                        return Ok(Over::List);
                    }
                }
            }
            self.backoff.pause().await;
        }
    }

    /// Hands on what one connection says; `version` follows.
    async fn hear_all(
        &mut self,
        watch: &mut Watch,
        version: &mut String,
    ) -> Result<Broken, Closed> {
        let kind = self.kind;
        loop {
            let (news, object) = match watch.hear().await {
                Heard::Applied(object) => (self.applied(&object).await?, object),
                Heard::Deleted(object) => (self.deleted(&object).await?, object),
                Heard::Bookmark(object) => (self.known.bookmark(version_of(&object)), object),
                Heard::Failed(Failure::Gone | Failure::AheadOfServer(_)) => {
                    return Ok(Broken::List);
                }
                Heard::Failed(failure) => {
                    debug!(%kind, %failure, "watch failed, resumed");
                    return Ok(Broken::Resume);
                }
                Heard::Ended => return Ok(Broken::Resume),
                Heard::Cut(cause) => {
                    debug!(%kind, cause, "watch cut, resumed");
                    return Ok(Broken::Resume);
                }
                Heard::Garbled(cause) => {
                    warn!(%kind, cause, "watch sent a line that cannot be read; listing again");
                    return Ok(Broken::List);
                }
            };
            match news {
                News::Fresh => {
                    self.backoff.reset();
                    if let Some(seen) = object
                        .pointer("/metadata/resourceVersion")
                        .and_then(Value::as_str)
                        && is_later(seen, version)
                    {
                        seen.clone_into(version);
                    }
                }
                News::Stale => debug!(%kind, "watch repeated something known"),
                News::Unclear => {
                    warn!(%kind, "watch is out of order; listing again");
                    return Ok(Broken::List);
                }
            }
        }
    }

    async fn applied(&mut self, json: &Value) -> Result<News, Closed> {
        let Reduced {
            key,
            object,
            problems,
        } = reduce_to(self.collection.detail, self.kind, json);
        let news = self.known.applied(&key, version_of(json));
        if news == News::Fresh {
            self.send(Event::Applied {
                kind: self.kind,
                key,
                object,
                problems,
            })
            .await?;
        }
        Ok(news)
    }

    async fn deleted(&mut self, json: &Value) -> Result<News, Closed> {
        let Reduced { key, .. } = reduce_to(self.collection.detail, self.kind, json);
        let news = self.known.deleted(&key, version_of(json));
        if news == News::Fresh {
            self.send(Event::Deleted {
                kind: self.kind,
                key,
            })
            .await?;
        }
        Ok(news)
    }

    async fn degraded(&mut self, verb: &str, failure: &Failure) -> Result<(), Closed> {
        let resource = Resource::of(self.kind);
        let plural = resource.plural;
        let Timing { retry_cap, .. } = self.timing;
        let period = self.config_sync_period;
        let next = match (failure, verb) {
            (Failure::Refused(_), "watch") => format!(
                "listed every {period:?} instead, so changes arrive late; \
                 allow it with a ClusterRole rule {}",
                resource.rule("watch")
            ),
            (Failure::Refused(_), _) => format!(
                "the last known objects stay in force; allow it with a ClusterRole rule {}; \
                 tried again with pauses of up to {retry_cap:?}",
                resource.rule("list, watch")
            ),
            _ => format!(
                "the last known objects stay in force; tried again with pauses of up to {retry_cap:?}"
            ),
        };
        let refused = if matches!(failure, Failure::Refused(_)) {
            "is refused"
        } else {
            "does not work"
        };
        let reason = format!("{verb} of {plural} {refused} ({failure}); {next}");
        // `Servers` has said once for all kinds that none of them is usable.
        let quiet = matches!(failure, Failure::AllDown(_));
        self.report_with(SourceState::Degraded { reason }, quiet)
            .await
    }

    async fn report(&mut self, state: SourceState) -> Result<(), Closed> {
        self.report_with(state, false).await
    }

    async fn report_with(&mut self, state: SourceState, quiet: bool) -> Result<(), Closed> {
        if self.reported.as_ref() == Some(&state) {
            return Ok(());
        }
        let kind = self.kind;
        match &state {
            SourceState::Degraded { reason } if !quiet => warn!(%kind, reason, "source degraded"),
            SourceState::Degraded { reason } => debug!(%kind, reason, "source degraded"),
            SourceState::Watching => info!(%kind, objects = self.known.count(), "watching"),
            SourceState::Listing => debug!(%kind, "listing"),
        }
        self.reported = Some(state.clone());
        self.send(Event::Source { kind, state }).await
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}

/// Versions that are no numbers are taken as they come.
fn is_later(seen: &str, version: &str) -> bool {
    match (seen.parse::<u64>(), version.parse::<u64>()) {
        (Ok(seen), Ok(version)) => seen > version,
        _ => true,
    }
}
