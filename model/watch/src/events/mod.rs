//! Problems as Kubernetes Events, so that `kubectl get events` shows them beside their objects.
//!
//! [`post_events`] posts each problem once while it lasts. What an Event says is [`record`]'s, what
//! is posted next and when is [`queue`]'s, the requests are [`post`]'s. Nothing here may harm the
//! agent: an API server that takes no Events costs a log line.

mod post;
mod queue;
mod record;

use std::sync::Arc;

use model::Problem;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::kube_source::Options;
use crate::kube_source::backoff::Backoff;
use crate::kube_source::resource::Resource;
use post::{Outcome, Poster};
use queue::{Pace, Queue};
use record::Reporter;

/// Where Events are served, for the rule that allows posting them.
const EVENTS: Resource = Resource {
    version: "v1",
    group: "",
    plural: "events",
};

/// Posts an Event for each problem that is new in `problems`, as `component` on `node`, until
/// `cancel`.
///
/// The name of an Event follows from its problem, so the same problem seen by many nodes, or again
/// after a restart, raises the count of the one Event there is.
pub async fn post_events<P: AsRef<[Problem]>>(
    options: Options,
    component: &str,
    node: Arc<str>,
    problems: watch::Receiver<P>,
    cancel: CancellationToken,
) {
    let reporter = Reporter {
        component: component.into(),
        node,
    };
    let posting = post_all(&options, reporter, problems);
    if cancel.run_until_cancelled(posting).await.is_some() {
        cancel.cancelled().await;
    }
}

/// Ends where no Event will ever be posted again.
async fn post_all<P: AsRef<[Problem]>>(
    options: &Options,
    reporter: Reporter,
    mut problems: watch::Receiver<P>,
) {
    let mut poster = match Poster::new(options, reporter).await {
        Ok(poster) => poster,
        Err(error) => {
            // The source ends with the same error, and names what to set.
            debug!(%error, "no Events are posted");
            return;
        }
    };
    let timing = options.timing;
    let mut backoff = Backoff::new(timing.retry_first, timing.retry_cap);
    let mut queue = Queue::default();
    let mut pace = Pace::new(Instant::now());
    let mut not_before = Instant::now();
    let mut failing = false;
    problems.mark_changed();
    loop {
        let due = pace.next(Instant::now()).max(not_before);
        tokio::select! {
            changed = problems.changed() => {
                if changed.is_err() {
                    return;
                }
                let left_out = queue.follow(problems.borrow_and_update().as_ref());
                if left_out > 0 {
                    debug!(left_out, "too many problems at once; these get no Event");
                }
                continue;
            }
            () = tokio::time::sleep_until(due), if !queue.is_empty() => {}
        }
        let Some(problem) = queue.first() else {
            continue;
        };
        // Not raced against `problems.changed()`: a request that is dropped half-way may have been
        // served, and its repetition would count the problem twice.
        match poster.post(problem).await {
            Outcome::Posted => {
                pace.take(Instant::now());
                queue.done();
                backoff.reset();
                failing = false;
            }
            Outcome::Rejected(why) => {
                debug!(object = %problem.key, why, "the Event of a problem is rejected; left out");
                pace.take(Instant::now());
                queue.done();
            }
            Outcome::Failed(why) => {
                if !failing {
                    debug!(
                        why,
                        "Events cannot be posted; tried again with growing pauses"
                    );
                }
                failing = true;
                not_before = Instant::now() + backoff.next();
            }
            Outcome::Forbidden(why) => {
                warn!(
                    why,
                    rule = EVENTS.rule("create, patch"),
                    effect = "problems are in the log and in `status` only, until a restart",
                    "posting Events is refused; allow it with this ClusterRole rule"
                );
                return;
            }
        }
    }
}
