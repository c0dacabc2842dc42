//! The loop around one part of the kernel: wait for a new `Desired`, apply it, retry what failed,
//! and read everything back now and then.
//!
//! It knows no kernel facility; [`Facility`] does. It runs on a thread of its own, since system
//! calls block, and a slow kernel must not delay the watch.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::desired::{Desired, LbServiceKey};

/// A failed apply is tried again after this long, then after twice as long, and so on …
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … but at least this often.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// One part of the kernel that is brought in line with `Desired`.
pub trait Facility: Send + 'static {
    /// Brings it in line. With [`Pass::Everything`] its present content is read back first.
    fn apply(&mut self, desired: &Desired, pass: Pass) -> Outcome;
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
    /// Fullness of the tables.
    pub usage: Vec<Usage>,
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
    /// Generation of the last apply that succeeded in full.
    pub generation: Option<u64>,
    /// The outcome of the last apply.
    pub outcome: Outcome,
    /// When the last apply ended.
    pub at: Option<SystemTime>,
    /// How long it took.
    pub took: Duration,
    /// Applies so far.
    pub applies_total: u64,
    /// Applies that failed, in whole or for some unit.
    pub failed_total: u64,
    /// Writes since the start.
    pub operations_total: u64,
    /// Writes that mended what somebody else had changed.
    pub repaired_total: u64,
}

impl Applied {
    /// Whether the last apply succeeded in full.
    pub fn is_in_force(&self) -> bool {
        self.generation.is_some()
            && self.outcome.error.is_none()
            && self.outcome.failures.is_empty()
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
    let mut audited = Instant::now();
    loop {
        let due = retry.due().unwrap_or(audited + audit_period);
        let Some(wake) = runtime.block_on(wait(&mut desired, due, cancel)) else {
            return;
        };
        let current = desired.borrow_and_update().clone();
        let Some(current) = current else { continue };
        let started = Instant::now();
        let applied_before = status.borrow().generation == Some(current.generation);
        let pass = match wake {
            Wake::Changed if retry.failed_whole => Pass::Everything,
            Wake::Changed => Pass::Changes,
            Wake::Due => Pass::Everything,
        };
        if pass == Pass::Everything {
            audited = started;
        }
        let outcome = facility.apply(&current, pass);
        retry.note(&outcome, Instant::now());
        status.send_modify(|status| {
            let good = outcome.error.is_none() && outcome.failures.is_empty();
            status.generation = if good {
                Some(current.generation)
            } else {
                status.generation
            };
            status.at = Some(SystemTime::now());
            status.took = started.elapsed();
            status.applies_total += 1;
            status.failed_total += u64::from(!good);
            status.operations_total += outcome.operations;
            status.repaired_total += if applied_before {
                outcome.operations
            } else {
                0
            };
            log(&outcome, current.generation, status.took);
            status.outcome = outcome;
        });
    }
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
    fn due(&self) -> Option<Instant> {
        self.at
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
    for failure in &outcome.failures {
        let LbServiceKey { service, port, .. } = &failure.key;
        tracing::error!(%service, %port, reason = failure.reason, "not applied; everything else is, and it is tried again");
    }
    if operations > 0 {
        tracing::debug!(generation, operations, ?took, "applied");
    }
}
