//! The loop around one part of the kernel: wait for a new `Desired`, apply it, retry what failed,
//! and read everything back now and then.
//!
//! It knows no kernel facility; [`Facility`] does. It runs on a thread of its own, since system
//! calls block, and a slow kernel must not delay the watch.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use model::Problem;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::desired::{Desired, LbServiceKey};
use crate::divergence::{self, Divergences};
use crate::histogram::Histogram;

/// A failed apply is tried again after this long, then after twice as long, and so on …
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … but at least this often.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Between two steps of the audit, each of which looks at a few Services.
const AUDIT_STEP: Duration = Duration::from_secs(1);

/// One part of the kernel that is brought in line with `Desired`.
pub trait Facility: Send + 'static {
    /// Brings it in line. With [`Pass::Everything`] its present content is read back first.
    fn apply(&mut self, desired: &Desired, pass: Pass) -> Outcome;

    /// Compares a little of it with what was written, and mends what differs; with `strangers`,
    /// looks for what was never written too. The answer is what was found.
    ///
    /// # Errors
    /// Where the kernel refuses; the next apply reads everything back.
    fn audit(&mut self, strangers: bool) -> Result<Divergences, String>;
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// What changed since the last apply.
    Changes,
    /// All of it.
    Everything,
}

/// What came of one apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Writes done.
    pub operations: u64,
    /// Units that are not as they should be. What they had before keeps working.
    pub failures: Vec<Failure>,
    /// Why the apply ended early.
    pub error: Option<String>,
    /// What of the policies the tables have no room for. Its pods are closed and the rest is in
    /// force; only another change makes room.
    pub no_room: Option<String>,
    /// Fullness of the tables.
    pub usage: Vec<Usage>,
    /// Revision of the policy tables that are in force; pods whose rules do not fit are closed.
    pub policy: Option<u64>,
    /// What is wrong with objects, as far as it shows only here.
    pub problems: Vec<Problem>,
}

/// A unit that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The unit.
    pub key: LbServiceKey,
    /// Why, and what to do.
    pub reason: String,
}

/// Fullness of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Name of the map.
    pub map: &'static str,
    /// Entries in use.
    pub used: u64,
    /// Entries it can hold.
    pub max: u64,
}

/// What has been applied, for status, metrics and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Generation that is in force, but for the units that there is no room for.
    pub generation: Option<u64>,
    /// The outcome of the last apply.
    pub outcome: Outcome,
    /// When the last apply ended.
    pub at: Option<SystemTime>,
    /// When the last apply that succeeded in full ended.
    pub succeeded_at: Option<SystemTime>,
    /// Since when every apply has ended early.
    pub failing_since: Option<Instant>,
    /// How long the last apply took.
    pub took: Duration,
    /// How long applies took.
    pub durations: Histogram,
    /// Applies so far.
    pub applies_total: u64,
    /// Applies that failed, in whole or for some unit.
    pub failed_total: u64,
    /// Writes since the start.
    pub operations_total: u64,
    /// Writes that mended what somebody else had changed.
    pub repaired_total: u64,
    /// The same by map and by what was wrong.
    pub divergences: Divergences,
}

impl Applied {
    /// Whether the kernel follows the cluster: kube-proxy calls itself unhealthy after a minute without.
    pub fn is_healthy(&self, now: Instant) -> bool {
        const PATIENCE: Duration = Duration::from_secs(60);
        let follows = |since: Instant| now.saturating_duration_since(since) < PATIENCE;
        self.generation.is_some() && self.failing_since.is_none_or(follows)
    }
}

/// Runs `facility` until `cancel`. Nothing is applied before there is a first `Desired`.
pub fn run(
    mut facility: impl Facility,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    status: &watch::Sender<Applied>,
    audit_period: Duration,
    cancel: &CancellationToken,
    runtime: &Handle,
) {
    let mut retry = Retry::default();
    let mut searched = Instant::now();
    loop {
        let step = Instant::now() + AUDIT_STEP.min(audit_period);
        let due = match retry.at {
            Some(at) if retry.failed_whole => at,
            at => at.map_or(step, |at| at.min(step)),
        };
        let Some(wake) = runtime.block_on(wait(&mut desired, due, cancel)) else {
            return;
        };
        let current = desired.borrow_and_update().clone();
        let Some(current) = current else { continue };
        let is_applied = status.borrow().generation == Some(current.generation);
        if matches!(wake, Wake::Due) && !retry.is_due(Instant::now()) && is_applied {
            let strangers = searched.elapsed() >= audit_period;
            if strangers {
                searched = Instant::now();
            }
            match facility.audit(strangers) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => mended(found, status),
                Err(error) => {
                    tracing::error!(error, "the tables cannot be compared; they are read back");
                    retry.at = Some(Instant::now());
                }
            }
            continue;
        }
        let started = Instant::now();
        // What has no room is looked at again by itself.
        let lacks_room = !retry.failed_whole && !status.borrow().outcome.failures.is_empty();
        let pass = match wake {
            Wake::Changed if retry.failed_whole => Pass::Everything,
            Wake::Changed => Pass::Changes,
            Wake::Due if lacks_room => Pass::Changes,
            Wake::Due => Pass::Everything,
        };
        let outcome = facility.apply(&current, pass);
        retry.note(&outcome, Instant::now());
        status.send_modify(|status| {
            let good = outcome.error.is_none() && outcome.failures.is_empty();
            status.at = Some(SystemTime::now());
            if outcome.error.is_none() {
                status.generation = Some(current.generation);
                status.failing_since = None;
            } else {
                status.failing_since.get_or_insert_with(Instant::now);
            }
            if good {
                status.succeeded_at = status.at;
            }
            status.took = started.elapsed();
            status.durations.observe(status.took);
            status.applies_total += 1;
            status.failed_total += u64::from(!good);
            status.operations_total += outcome.operations;
            status.repaired_total += if is_applied && !lacks_room {
                outcome.operations
            } else {
                0
            };
            log(&outcome, current.generation, status.took);
            if outcome.no_room != status.outcome.no_room {
                let no_room = outcome.no_room.as_deref();
                tracing::warn!(no_room, "what has no room in the policy tables changed");
            }
            status.outcome = outcome;
        });
    }
}

fn mended(found: Divergences, status: &watch::Sender<Applied>) {
    status.send_modify(|status| {
        let count: u64 = found.values().sum();
        status.repaired_total += count;
        status.operations_total += count;
        divergence::add(&mut status.divergences, found);
    });
}

/// An error with what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

enum Wake {
    Changed,
    Due,
}

/// Waits for a new `Desired` or for `due`; `None` when it is time to stop.
async fn wait(
    desired: &mut watch::Receiver<Option<Arc<Desired>>>,
    due: Instant,
    cancel: &CancellationToken,
) -> Option<Wake> {
    tokio::select! {
        () = cancel.cancelled() => None,
        changed = desired.changed() => changed.ok().map(|()| Wake::Changed),
        () = tokio::time::sleep_until(due.into()) => Some(Wake::Due),
    }
}

#[derive(Default)]
struct Retry {
    at: Option<Instant>,
    delay: Duration,
    failed_whole: bool,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    fn note(&mut self, outcome: &Outcome, now: Instant) {
        self.failed_whole = outcome.error.is_some();
        if outcome.error.is_none() && outcome.failures.is_empty() {
            *self = Self::default();
            return;
        }
        self.delay = (self.delay * 2).clamp(FIRST_RETRY, LAST_RETRY);
        // A quarter more or less, so that the nodes of a cluster do not retry in step.
        let random = u32::try_from(RandomState::new().hash_one(0) % 512).unwrap_or(0);
        self.at = Some(now + self.delay * (768 + random) / 1024);
    }
}

fn log(outcome: &Outcome, generation: u64, took: Duration) {
    let operations = outcome.operations;
    if let Some(error) = &outcome.error {
        tracing::error!(
            generation,
            operations,
            error,
            "apply failed; the tables are read back and it is tried again"
        );
    }
    if operations > 0 {
        tracing::debug!(generation, operations, ?took, "applied");
    }
}
