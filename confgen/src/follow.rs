//! The cluster as the source tells of it.

use std::sync::Arc;
use std::time::Duration;

use model::{Cluster, Event, KindSet, Problem};
use model_watch::Source;
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::sync::CancellationToken;

use crate::edge::EdgePlan;

/// A list of thousands of objects is one event; more than these wait in the source.
pub const EVENTS: usize = 256;

/// Applies events until every kind has been listed, or the source has ended.
pub async fn complete(cluster: &mut Cluster, kinds: &KindSet, events: &mut Receiver<Event>) {
    while !cluster.is_synced(kinds) {
        match events.recv().await {
            Some(event) => cluster.apply(event),
            None => return,
        }
    }
}

/// The cluster as one complete list of every kind has it; `None` where there is none in time.
pub async fn listed(source: Source, kinds: &KindSet, patience: Duration) -> Option<Cluster> {
    let cancel = CancellationToken::new();
    let _ended = cancel.clone().drop_guard();
    let (sender, mut events) = mpsc::channel(EVENTS);
    let listing = model_watch::run(source, kinds.clone(), sender, cancel);
    let mut cluster = Cluster::default();
    let all = async {
        tokio::select! {
            ended = listing => ended.is_ok(),
            () = complete(&mut cluster, kinds, &mut events) => true,
        }
    };
    let is_done = tokio::time::timeout(patience, all).await;
    (is_done == Ok(true) && cluster.is_synced(kinds)).then_some(cluster)
}

/// Applies the next events, up to a pause; whether there were any.
pub async fn settle(cluster: &mut Cluster, events: &mut Receiver<Event>, quiet: Duration) -> bool {
    let Some(event) = events.recv().await else {
        return false;
    };
    cluster.apply(event);
    while let Ok(Some(event)) = tokio::time::timeout(quiet, events.recv()).await {
        cluster.apply(event);
    }
    true
}

/// Objects that could not be read at all are the plan's problems too.
pub fn with_problems_of(cluster: &Cluster, plan: &mut EdgePlan) {
    let mut problems: Vec<Problem> = cluster.problems().cloned().collect();
    if !problems.is_empty() {
        problems.extend(plan.problems.iter().cloned());
        plan.problems = Arc::new(problems);
    }
}
