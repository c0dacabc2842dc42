//! What objects are told about themselves, written back by one of several processes.
//!
//! [`write_statuses`] holds a Lease while it writes ([`lease`]). It reads an object, puts ours into
//! its status ([`merge`]) and writes only a difference, at the version read. Nothing here may harm
//! the edge: an API server that takes no status costs a log line.

mod client;
mod lease;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use model::{Kind, ObjectKey, ObjectStatus, Status};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::kube_source::Options;
use crate::kube_source::backoff::Backoff;
use crate::kube_source::resource::Resource;
use client::{Client, Refusal};
pub use lease::LeaseTiming;
use lease::{Election, Step};

/// Between two objects: a cluster of 10,000 routes is told within ten minutes of the first start,
/// and the API server has some twenty requests a second more.
const EVERY: Duration = Duration::from_millis(50);

/// What others have written over ours is repaired after this time.
const AGAIN: Duration = Duration::from_secs(600);

const LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    version: "v1",
    plural: "leases",
};

/// Who writes, and by which Lease.
#[derive(Clone, Debug)]
pub struct StatusWriter {
    /// The Lease; processes that serve one configuration share it.
    pub lease: ObjectKey,
    /// This process, unlike any other.
    pub holder: String,
    /// How long the Lease is held.
    pub timing: LeaseTiming,
}

/// Writes `statuses` while this process holds the Lease, until `cancel`, and gives it back then.
pub async fn write_statuses<S: AsRef<[ObjectStatus]>>(
    options: Options,
    writer: StatusWriter,
    mut statuses: watch::Receiver<S>,
    cancel: CancellationToken,
) {
    let client = match Client::new(&options).await {
        Ok(client) => client,
        Err(error) => {
            // The source ends with the same error, and names what to set.
            debug!(%error, "no status is written");
            return cancel.cancelled().await;
        }
    };
    let election = Election::new(&writer.holder, writer.timing);
    let mut task = Task {
        client,
        election,
        writer,
        queue: Queue::default(),
        backoff: Backoff::new(options.timing.retry_first, options.timing.retry_cap),
        said: BTreeSet::new(),
    };
    let run = task.run(&mut statuses);
    if cancel.run_until_cancelled(run).await.is_some() {
        cancel.cancelled().await;
    }
    task.give_back().await;
}

struct Task {
    client: Client,
    election: Election,
    writer: StatusWriter,
    queue: Queue,
    backoff: Backoff,
    /// What was refused and logged, by the plural of its resource.
    said: BTreeSet<&'static str>,
}

impl Task {
    /// Ends when nobody tells statuses any more.
    async fn run<S: AsRef<[ObjectStatus]>>(&mut self, statuses: &mut watch::Receiver<S>) {
        statuses.mark_changed();
        let mut look = Instant::now();
        let mut again = Instant::now() + AGAIN;
        let mut due = Instant::now();
        loop {
            let is_leader = self.election.is_leader(Instant::now());
            tokio::select! {
                changed = statuses.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.queue.follow(statuses.borrow_and_update().as_ref());
                }
                () = tokio::time::sleep_until(look) => {
                    self.look().await;
                    look = Instant::now() + self.writer.timing.period;
                    if !is_leader && self.election.is_leader(Instant::now()) {
                        info!(lease = %self.writer.lease, "this process writes status");
                        self.queue.all_again();
                    }
                }
                () = tokio::time::sleep_until(again) => {
                    self.queue.all_again();
                    again = Instant::now() + AGAIN;
                }
                () = tokio::time::sleep_until(due), if is_leader && !self.queue.is_empty() => {
                    due = Instant::now() + self.write_next().await;
                }
            }
        }
    }

    /// Renews the Lease, takes it, or leaves it to its holder.
    async fn look(&mut self) {
        let asked = Instant::now();
        let path = LEASES.path_of(&self.writer.lease);
        let lease = match self.client.get_path(&path, &self.writer.lease.name).await {
            Ok(lease) => Some(lease),
            Err(Refusal::NotFound) => None,
            Err(refusal) => return self.tell(LEASES, "get, create, patch", &refusal),
        };
        let wall = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
            .to_string();
        let done = match self.election.step(lease.as_ref(), asked, &wall) {
            Step::Wait => {
                self.election.lost();
                return;
            }
            Step::Create(mut lease) => {
                lease["apiVersion"] = json!(LEASES.api_version());
                lease["kind"] = json!("Lease");
                let ObjectKey { namespace, name } = &self.writer.lease;
                lease["metadata"] = json!({"namespace": namespace, "name": name});
                self.client.create(&path, &lease).await
            }
            Step::Patch(fields) => {
                let name = &self.writer.lease.name;
                self.client.patch(&path, name, &fields).await
            }
        };
        match done {
            Ok(()) => self.election.won(asked),
            // Another one was faster; the next look sees who.
            Err(Refusal::Conflict) => self.election.lost(),
            Err(refusal) => self.tell(LEASES, "get, create, patch", &refusal),
        }
    }

    /// Writes one status; answers how long to wait before the next.
    async fn write_next(&mut self) -> Duration {
        let Some(wanted) = self.queue.first() else {
            return EVERY;
        };
        let resource = Resource::of(wanted.kind);
        match self.write(&wanted).await {
            Ok(()) | Err(Refusal::NotFound) => {
                self.queue.done(&wanted);
                self.backoff.reset();
                EVERY
            }
            // Read anew, after the others.
            Err(Refusal::Conflict) => {
                self.queue.later(&wanted);
                EVERY
            }
            Err(refusal @ (Refusal::Forbidden(_) | Refusal::Rejected(_))) => {
                self.tell(resource, "get", &refusal);
                self.queue.done(&wanted);
                EVERY
            }
            Err(refusal @ Refusal::Failed(_)) => {
                debug!(object = %wanted.key, ?refusal, "status not written; tried again");
                self.queue.later(&wanted);
                self.backoff.next()
            }
        }
    }

    async fn write(&mut self, wanted: &ObjectStatus) -> Result<(), Refusal> {
        let (path, object) = self.client.get(wanted.kind, &wanted.key).await?;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        match merge::merged(&object["status"], wanted, &now) {
            Some(status) => self.client.write_status(&path, &object, &status).await,
            None => Ok(()),
        }
    }

    /// Once for each resource: the rule that lacks.
    fn tell(&mut self, resource: Resource, verbs: &str, refusal: &Refusal) {
        let Resource { group, plural, .. } = resource;
        match refusal {
            Refusal::Forbidden(why) if self.said.insert(plural) => {
                let rule = if plural == LEASES.plural {
                    resource.rule(verbs)
                } else {
                    format!(
                        r#"{{apiGroups: ["{group}"], resources: ["{plural}/status"], verbs: [patch]}} and {}"#,
                        resource.rule(verbs)
                    )
                };
                warn!(
                    why,
                    rule,
                    effect = "objects are not told their status; they are served all the same",
                    "writing status is refused; allow it with this rule"
                );
            }
            Refusal::Rejected(why) => {
                warn!(resource = plural, why, "a status is rejected; left out")
            }
            Refusal::Forbidden(_) | Refusal::NotFound | Refusal::Conflict | Refusal::Failed(_) => {
                debug!(resource = plural, ?refusal, "not done; tried again")
            }
        }
    }

    /// The next process need not wait for the Lease to run out.
    async fn give_back(&mut self) {
        if !self.election.is_leader(Instant::now()) {
            return;
        }
        self.election.lost();
        let path = LEASES.path_of(&self.writer.lease);
        let fields = json!({"spec": {"holderIdentity": ""}});
        let given = self.client.patch(&path, &self.writer.lease.name, &fields);
        // An end waits for nobody.
        if tokio::time::timeout(Duration::from_secs(1), given)
            .await
            .is_err()
        {
            debug!("the Lease is not given back; it runs out");
        }
    }
}

type Key = (Kind, ObjectKey);

/// What is to be written, each object once.
#[derive(Debug, Default)]
struct Queue {
    wanted: BTreeMap<Key, Arc<ObjectStatus>>,
    pending: BTreeSet<Key>,
    /// Tried and put off until the others were.
    later: BTreeSet<Key>,
}

impl Queue {
    /// What objects are to be told now. Routes that are told nothing any more lose what they were
    /// told.
    fn follow(&mut self, statuses: &[ObjectStatus]) {
        let mut before = std::mem::take(&mut self.wanted);
        for status in statuses {
            let key = (status.kind, status.key.clone());
            let known = before.remove(&key).filter(|known| **known == *status);
            if known.is_none() {
                self.pending.insert(key.clone());
            }
            let status = known.unwrap_or_else(|| Arc::new(status.clone()));
            self.wanted.insert(key, status);
        }
        for (key, status) in before {
            let was_late = self.later.remove(&key);
            let was_pending = self.pending.remove(&key) || was_late;
            let Status::Route {
                controller,
                parents,
            } = &status.status
            else {
                continue;
            };
            if parents.is_empty() && !was_pending {
                continue;
            }
            let cleared = Status::Route {
                controller: Arc::clone(controller),
                parents: Vec::new(),
            };
            let cleared = ObjectStatus {
                status: cleared,
                kind: status.kind,
                key: status.key.clone(),
            };
            self.wanted.insert(key.clone(), cleared.into());
            self.pending.insert(key);
        }
    }

    /// Every one, as if none were written.
    fn all_again(&mut self) {
        self.pending.extend(self.wanted.keys().cloned());
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.later.is_empty()
    }

    fn first(&mut self) -> Option<Arc<ObjectStatus>> {
        if self.pending.is_empty() {
            self.pending = std::mem::take(&mut self.later);
        }
        let key = self.pending.first()?.clone();
        let found = self.wanted.get(&key).cloned();
        if found.is_none() {
            self.pending.remove(&key);
        }
        found
    }

    fn done(&mut self, status: &ObjectStatus) {
        self.pending.remove(&(status.kind, status.key.clone()));
    }

    fn later(&mut self, status: &ObjectStatus) {
        self.done(status);
        self.later.insert((status.kind, status.key.clone()));
    }
}
