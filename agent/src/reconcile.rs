//! The one owner of the cluster: takes events, waits for quiet, compiles, publishes.
//!
//! Nothing is compiled before every kind has been listed once; from then on, what is published
//! depends on the cluster alone, not on how its events came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Cluster, Event, Kind, KindSet, Problem, SourceState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::desired::{Desired, NodeContext};

/// How long to wait for more events.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    /// After the last one: a rollout's events come in bursts closer than this.
    pub quiet: Duration,
    /// After the first one, however many follow.
    pub longest: Duration,
}

impl Default for Debounce {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            longest: Duration::from_millis(500),
        }
    }
}

/// What is known of the cluster, for status and readiness.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Whether every kind has been listed.
    pub synced: bool,
    /// How well each kind is heard of.
    pub states: BTreeMap<Kind, SourceState>,
    /// What is wrong with objects.
    pub problems: Vec<Problem>,
    /// Services in the cluster.
    pub services: usize,
    /// EndpointSlices in the cluster.
    pub endpoint_slices: usize,
}

/// Follows `events` until `cancel`, or until the source ends.
pub async fn run(
    node_name: Arc<str>,
    kinds: KindSet,
    mut events: mpsc::Receiver<Event>,
    debounce: Debounce,
    desired: watch::Sender<Option<Arc<Desired>>>,
    view: watch::Sender<ClusterView>,
    cancel: CancellationToken,
) {
    let mut cluster = Cluster::default();
    loop {
        let first = tokio::select! {
            () = cancel.cancelled() => return,
            first = events.recv() => first,
        };
        let Some(first) = first else { return };
        cluster.apply(first);
        let first_at = Instant::now();
        while let Ok(more) =
            tokio::time::timeout_at(deadline(first_at, debounce), events.recv()).await
        {
            let Some(more) = more else { break };
            cluster.apply(more);
        }
        let synced = cluster.is_synced(&kinds);
        if synced {
            publish(&mut cluster, &node_name, &desired);
        }
        let problems_of_services = desired
            .borrow()
            .as_ref()
            .map(|desired| desired.problems().cloned().collect());
        let problems: Vec<Problem> = cluster
            .problems()
            .cloned()
            .chain::<Vec<Problem>>(problems_of_services.unwrap_or_default())
            .collect();
        report(&view.borrow().problems, &problems);
        view.send_replace(ClusterView {
            synced,
            states: cluster.source_states().clone(),
            problems,
            services: cluster.services().count(),
            endpoint_slices: cluster.endpoint_slices().count(),
        });
    }
}

fn deadline(first: Instant, debounce: Debounce) -> Instant {
    (Instant::now() + debounce.quiet).min(first + debounce.longest)
}

fn publish(
    cluster: &mut Cluster,
    node_name: &Arc<str>,
    desired: &watch::Sender<Option<Arc<Desired>>>,
) {
    let changes = cluster.take_changes();
    desired.send_if_modified(|desired| {
        let next = match desired.as_ref() {
            Some(known) => known.follow(cluster, &changes),
            None => Desired::compile(cluster, NodeContext::of(cluster, node_name)),
        };
        let differs = desired
            .as_ref()
            .is_none_or(|known| known.generation != next.generation);
        *desired = Some(Arc::new(next));
        differs
    });
}

/// Logs problems that are new, and those that are gone.
fn report(before: &[Problem], after: &[Problem]) {
    for problem in after.iter().filter(|problem| !before.contains(problem)) {
        tracing::warn!(kind = %problem.kind, object = %problem.key, field = problem.field, effect = problem.effect, "{}", problem.message);
    }
    for problem in before.iter().filter(|problem| !after.contains(problem)) {
        tracing::info!(kind = %problem.kind, object = %problem.key, field = problem.field, "the problem is gone");
    }
}
