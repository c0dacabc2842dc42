//! What to do next. Pure: it is told what happened and when, and says what to do.
//!
//! ```text
//! Idle ─► Render ┬─► Commands ─► Idle ─ a quiet moment ─► Save ─► Idle
//!            │   └─► Check ─► Install ─► (budget) Reload ─► ReadBack ─► Idle
//!            │         └─ failed ─► Failed ─ backoff ─► Render  └─ did not take ─► RollBack ─► Failed
//!            └─ unchanged, refused ─► Idle
//! ```
//!
//! What commands can change is live before it is on disk: a check of ten thousand hosts takes half
//! a second. The disk follows in a quiet moment, beside whatever else changes meanwhile; only what
//! needs files of its own waits for it, and so does a reload: one that does not take puts back what
//! is on disk. A run that is killed before finds at its next start that the process is ahead of the
//! files, and reloads.
//!
//! Whatever changes meanwhile is taken up from [`Phase::Idle`], or at once where a reload is still
//! held back.

mod event;
mod on;
mod read_back;

use std::time::{Duration, Instant};

pub use event::{Event, How, Step};

use super::pace::{Backoff, Budget, BudgetLimits, Clearance, Debounce};
use super::reload::{Seen, Took};
use super::status::Status;
use crate::haproxy::runtime::Cause;

/// Times and limits.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Collects changes.
    pub debounce: Debounce,
    /// Reloads.
    pub budget: BudgetLimits,
    /// Tries again what failed.
    pub backoff: Backoff,
    /// How long a reload may take to be seen: HAProxy needs a second for ten thousand hosts, nginx
    /// four.
    pub read_back: Duration,
}

impl Pace {
    /// The defaults; `seed` tells nodes apart.
    pub fn new(seed: u64) -> Self {
        Self {
            debounce: Debounce::default(),
            budget: BudgetLimits::default(),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed),
            read_back: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Idle,
    Render,
    Check,
    Install(How),
    Commands {
        is_installed: bool,
    },
    Reload(Vec<Cause>),
    ReadBack {
        before: Seen,
        since: Instant,
        why: Option<String>,
    },
    RollBack(String),
    Failed {
        until: Instant,
    },
}

/// The core of an applier.
#[derive(Debug)]
pub struct Machine {
    pace: Pace,
    budget: Budget,
    phase: Phase,
    is_synced: bool,
    /// State that is being worked on, and since when its change waits.
    working: u64,
    since: Option<Instant>,
    /// First and last change that is live and not on disk.
    unsaved: Option<(Instant, Instant)>,
    /// The state that is on its way to the disk.
    saving: Option<u64>,
    /// Whether what is live could not be saved.
    behind: bool,
    /// What only a reload does, whatever else is found.
    forced: Option<Cause>,
    status: Status,
}

/// Between two looks whether a reload took.
const LOOK: Duration = Duration::from_millis(20);

/// The disk follows commands after this time without one, and after [`SAVE_WITHIN`] in any case.
const SAVE_AFTER: Duration = Duration::from_millis(500);
const SAVE_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks whether old processes have ended.
const LOOK_AT_OLD: Duration = Duration::from_secs(1);

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an event concerns one phase and is none of the others' business"
)]
impl Machine {
    /// Begins with nothing live.
    pub fn new(pace: Pace) -> Self {
        Self {
            budget: Budget::new(pace.budget),
            pace,
            phase: Phase::Idle,
            is_synced: false,
            working: 0,
            since: None,
            unsaved: None,
            saving: None,
            behind: false,
            forced: None,
            status: Status::default(),
        }
    }

    /// What it tells.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// For what the edge knows alone: quarantine, drift, what was restored.
    pub fn status_mut(&mut self) -> &mut Status {
        &mut self.status
    }

    /// What to do.
    pub fn next(&mut self, now: Instant) -> Step {
        if self.save_due().is_some_and(|due| due <= now) {
            return Step::Save;
        }
        if self.may_begin(now)
            && self.is_synced
            && let Some(since) = self.pace.debounce.take(now)
        {
            // A change that waited behind a failure has waited longer than its successor.
            self.since = Some(self.since.map_or(since, |earlier| earlier.min(since)));
            self.working = self.status.seen;
            self.phase = Phase::Render;
        }
        match &self.phase {
            Phase::Idle => {
                let due = self.pace.debounce.due().filter(|_| self.is_synced);
                self.or_save(due)
            }
            Phase::Render => Step::Render,
            // Two versions are never on their way at once.
            Phase::Check if self.saving.is_some() => Step::Wait(None),
            Phase::Check => Step::Check,
            Phase::Install(How::Reload(_)) => match self.cleared(Step::Install, now) {
                Step::Wait(until) => self.or_save(until),
                // A reload that does not take puts back what is on disk: what is live goes there
                // first.
                Step::Install if self.saving.is_some() => Step::Wait(None),
                Step::Install if self.unsaved.is_some() => Step::Save,
                step => step,
            },
            Phase::Install(How::Commands(_)) => Step::Install,
            Phase::Commands { .. } => Step::Commands,
            Phase::Reload(_) => self.cleared(Step::Reload, now),
            Phase::ReadBack { .. } => Step::ReadBack,
            Phase::RollBack(_) => Step::RollBack,
            Phase::Failed { until } if *until <= now => {
                self.phase = Phase::Render;
                self.working = self.status.seen;
                Step::Render
            }
            Phase::Failed { until } => {
                let until = *until;
                let until = self.pace.debounce.due().map_or(until, |due| due.min(until));
                self.or_save(Some(until))
            }
        }
    }

    fn or_save(&self, until: Option<Instant>) -> Step {
        Step::Wait([until, self.save_due()].into_iter().flatten().min())
    }

    /// When what is live goes to the disk: not while something else is on its way there.
    fn save_due(&self) -> Option<Instant> {
        let is_quiet = matches!(
            &self.phase,
            Phase::Idle | Phase::Install(How::Reload(_)) | Phase::Failed { .. }
        );
        let (first, last) = self.unsaved.filter(|_| is_quiet && self.saving.is_none())?;
        Some((last + SAVE_AFTER).min(first + SAVE_WITHIN))
    }

    /// How long to pause before the next [`Step::ReadBack`].
    pub fn look_again(&self) -> Duration {
        LOOK
    }

    /// Whether nothing is half done.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether a reload that is needed now waits, be it for the budget or since one failed.
    pub fn holds_reloads(&self, now: Instant) -> bool {
        let clearance = self.budget.clearance(self.status.old_processes, now);
        clearance != Clearance::Now || self.pace.backoff.failures() > 0
    }

    /// Whether work may begin anew: nothing is half done.
    fn may_begin(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Idle | Phase::Failed { .. } => true,
            Phase::Install(How::Reload(_)) => {
                let clearance = self.budget.clearance(self.status.old_processes, now);
                clearance != Clearance::Now
            }
            _ => false,
        }
    }

    fn cleared(&mut self, step: Step, now: Instant) -> Step {
        let until = match self.budget.clearance(self.status.old_processes, now) {
            Clearance::Now => return step,
            Clearance::At(at) => {
                self.status.gap = Some("a reload waits for the reload budget".to_owned());
                at
            }
            Clearance::OldProcesses { running, allowed } => {
                self.status.gap = Some(format!(
                    "a reload waits: {running} old processes run, {allowed} may"
                ));
                now + LOOK_AT_OLD
            }
        };
        let due = self.pace.debounce.due();
        Step::Wait(Some(due.map_or(until, |due| due.min(until))))
    }

    /// Whether the reload that is waited for took, if the proxy is seen like this.
    pub fn would_take(&self, seen: &Seen, meant: Option<&str>) -> bool {
        match &self.phase {
            Phase::ReadBack { before, .. } => seen.took(before, meant) == Took::Yes,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
