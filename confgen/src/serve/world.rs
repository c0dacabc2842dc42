//! A state of the cluster as appliers see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Cluster, Event, Kind, ObjectKey, ObjectStatus, Problem};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::apply::bisect::Suspect;
use crate::apply::certificates::LastValid;
use crate::apply::guard::Seen;
use crate::edge::{self, EdgeConfig, EdgePlan, Outside, compile};

/// States of which deletions are remembered: an applier that is further behind judges without.
const REMEMBERED: usize = 1024;

/// A state of the cluster, its plan, and what was deleted on the way to it.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) number: u64,
    cluster: Cluster,
    pub(super) plan: EdgePlan,
    config: Arc<EdgeConfig>,
    /// What events deleted, with the number of the state that they led to.
    deleted: Arc<Vec<(u64, Suspect)>>,
    /// Complete lists that agreed, since the shrink guard began to hold.
    confirmations: u32,
}

impl World {
    pub(super) fn first(cluster: Cluster, plan: EdgePlan, config: EdgeConfig) -> Self {
        Self {
            number: 1,
            cluster,
            plan,
            config: Arc::new(config),
            deleted: Arc::default(),
            confirmations: 0,
        }
    }

    pub(super) fn next(&self, cluster: Cluster, plan: EdgePlan, deletions: Vec<Suspect>) -> Self {
        let number = self.number + 1;
        let mut deleted = Arc::clone(&self.deleted);
        if !deletions.is_empty() {
            let known = self.deleted.len().saturating_sub(REMEMBERED);
            let all = self.deleted[known..].iter().cloned();
            let new = deletions.into_iter().map(|suspect| (number, suspect));
            deleted = Arc::new(all.chain(new).collect());
        }
        Self {
            number,
            cluster,
            plan,
            config: Arc::clone(&self.config),
            deleted,
            confirmations: self.confirmations,
        }
    }

    /// The same cluster, with other servers or another certificate outside it.
    pub(super) fn beside(&self, outside: Outside, plan: EdgePlan) -> Self {
        let config = EdgeConfig {
            outside,
            ..(*self.config).clone()
        };
        Self {
            number: self.number + 1,
            plan,
            config: Arc::new(config),
            ..self.clone()
        }
    }

    /// What plans are compiled by now.
    pub(super) fn config(&self) -> Arc<EdgeConfig> {
        Arc::clone(&self.config)
    }

    /// The same state, which further lists confirm. It is another number, so that it is judged again.
    pub(super) fn confirmed(&self, confirmations: u32) -> Self {
        Self {
            number: self.number + 1,
            confirmations,
            ..self.clone()
        }
    }

    /// Tells the objects: their status, and as Events what is wrong with them.
    pub(super) fn tell(
        &self,
        statuses: &watch::Sender<Vec<ObjectStatus>>,
        problems: &watch::Sender<Vec<Problem>>,
    ) {
        statuses.send_replace(edge::statuses(&self.cluster, &self.config, &self.plan));
        problems.send_replace(self.plan.all_problems());
        self.say();
    }

    fn say(&self) {
        let (problems, losses) = (self.plan.problems.len(), self.plan.losses.len());
        tracing::info!(state = self.number, problems, losses, "the cluster is read");
    }

    /// The plan without some objects.
    pub(super) fn plan(&self, without: &BTreeSet<Suspect>) -> EdgePlan {
        if without.is_empty() {
            return self.plan.clone();
        }
        let mut cluster = self.cluster.clone();
        for (kind, key) in without {
            cluster.apply(Event::Deleted {
                kind: *kind,
                key: key.clone(),
            });
        }
        compile(&cluster, &self.config)
    }

    /// An object as it is: what it looks like, hashed, since the model keeps no versions.
    pub(super) fn version(&self, (kind, key): &Suspect) -> Option<Arc<str>> {
        // Secrets show no values: one that changes is looked at again with the next change.
        let text = format!("{:?}", self.cluster.object(*kind, key)?);
        Some(text.into())
    }

    /// What was deleted after the state of a number.
    pub(super) fn seen(&self, since: u64, is_forced: bool) -> Seen {
        let after = self.deleted.iter().filter(|(number, _)| *number > since);
        let objects: BTreeSet<(Kind, ObjectKey)> =
            after.map(|(_, suspect)| suspect.clone()).collect();
        Seen {
            deletions: objects.len(),
            objects,
            confirmations: self.confirmations,
            is_forced,
        }
    }
}

/// The source of a cluster, heard through what keeps certificates.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) events: Receiver<Event>,
    pub(super) last: LastValid,
}

impl Followed {
    /// The next event; `None` at the end.
    pub(super) async fn first(&mut self, cancel: &CancellationToken) -> Option<Event> {
        tokio::select! {
            () = cancel.cancelled() => None,
            event = self.events.recv() => event,
        }
    }

    /// Applies an event and those that follow, up to a pause; what they deleted.
    pub(super) async fn settle(
        &mut self,
        cluster: &mut Cluster,
        first: Event,
        quiet: Duration,
    ) -> Vec<Suspect> {
        let Self { events, last } = self;
        let mut deleted = Vec::new();
        let mut take = |cluster: &mut Cluster, event: Event| {
            if let Event::Deleted { kind, key } = &event {
                deleted.push((*kind, key.clone()));
            }
            cluster.apply(last.take(event, now()));
        };
        take(cluster, first);
        while let Ok(Some(event)) = tokio::time::timeout(quiet, events.recv()).await {
            take(cluster, event);
        }
        deleted
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The plan, which tells too what was kept of Secrets that broke.
pub(super) fn with_kept(mut plan: EdgePlan, last: &LastValid) -> EdgePlan {
    let mut problems: Vec<Problem> = last.problems().cloned().collect();
    if !problems.is_empty() {
        problems.extend(plan.problems.iter().cloned());
        plan.problems = Arc::new(problems);
    }
    plan
}
