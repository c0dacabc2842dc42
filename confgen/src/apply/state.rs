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

    /// What happened.
    pub fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::World { number, is_synced } => {
                self.is_synced = is_synced;
                if number > self.status.seen {
                    self.status.seen = number;
                    self.pace.debounce.changed(now);
                }
                if !is_synced && self.phase == Phase::Idle {
                    self.status.gap = Some("the cluster is not known completely".to_owned());
                }
            }
            Event::Unchanged => {
                self.status.rendered = self.working;
                self.status.checked = self.working;
                self.status.guard = None;
                self.live(now);
                if self.behind {
                    // Nothing differs, so nothing else would have it saved.
                    self.not_saved(now);
                }
            }
            Event::Refused(refusal) => {
                self.status.rendered = self.working;
                self.status.totals.refused += 1;
                self.status.gap = Some(refusal.to_string());
                self.status.guard = Some(refusal.to_string());
                self.phase = Phase::Idle;
            }
            Event::Rendered(how) => {
                self.status.rendered = self.working;
                self.status.guard = None;
                self.phase = match how {
                    How::Commands(count) => {
                        self.count_commands(count);
                        Phase::Commands {
                            is_installed: false,
                        }
                    }
                    How::Reload(_) => Phase::Check,
                };
            }
            Event::Checked(how) => {
                self.status.checked = self.working;
                let how = match (self.forced.take(), how) {
                    (Some(forced), _) => How::Reload(vec![forced]),
                    (None, how) => how,
                };
                if let How::Reload(causes) = &how {
                    self.status.last_causes.clone_from(causes);
                }
                self.phase = Phase::Install(how);
            }
            Event::Failed(why) => self.failed(why, now),
            Event::Installed => {
                self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
                    Phase::Install(How::Commands(count)) => {
                        self.count_commands(count);
                        Phase::Commands { is_installed: true }
                    }
                    Phase::Install(How::Reload(causes)) => Phase::Reload(causes),
                    other => other,
                };
            }
            Event::Commanded { is_saved } => {
                self.status.totals.runtime_changes += 1;
                self.live(now);
                if is_saved {
                    self.unsaved = None;
                } else {
                    self.not_saved(now);
                }
            }
            Event::Partly(count) => {
                self.status.totals.runtime_changes += 1;
                self.count_commands(count);
                self.not_saved(now);
            }
            Event::Saving => {
                self.saving = Some(self.status.live);
                self.unsaved = None;
            }
            Event::Saved => {
                // What waits to be reloaded is checked already, and newer.
                let saved = self.saving.take().unwrap_or_default();
                self.behind = false;
                self.status.checked = self.status.checked.max(saved);
            }
            Event::Unsaved(why) => {
                // What is rendered next is compared with what is live, and saved in its turn.
                self.unsaved = None;
                self.saving = None;
                self.behind = true;
                self.failed(why, now);
            }
            Event::CommandRefused(why) => {
                let cause = Cause::of(format!("runtime: {why}"));
                self.status.last_causes = vec![cause.clone()];
                self.phase = match self.phase {
                    Phase::Commands { is_installed: true } => Phase::Reload(vec![cause]),
                    _ => {
                        self.forced = Some(cause);
                        Phase::Check
                    }
                };
            }
            Event::Reloaded(before) => {
                self.reloaded(now);
                let why = None;
                self.phase = Phase::ReadBack {
                    before,
                    since: now,
                    why,
                };
            }
            Event::Told => {
                self.reloaded(now);
                self.live(now);
            }
            Event::SeenNow { seen, meant } => self.read_back(seen, meant.as_deref(), now),
            Event::Unseen(why) => self.unseen(why, now),
            Event::RolledBack(result) => self.rolled_back(result, now),
            Event::OldProcesses(count) => self.status.old_processes = count,
            Event::Drifted(what) => {
                let is_on_disk = self.unsaved.is_none() && self.saving.is_none();
                if self.phase == Phase::Idle && is_on_disk {
                    self.status.totals.repairs += 1;
                    self.phase = Phase::Reload(vec![Cause::of(format!("drift: {what}"))]);
                }
            }
            Event::Retry => self.pace.debounce.changed(now),
        }
    }

    /// What is live is not what is on disk.
    fn not_saved(&mut self, now: Instant) {
        let first = self.unsaved.map_or(now, |(first, _)| first);
        self.unsaved = Some((first, now));
    }

    fn count_commands(&mut self, count: usize) {
        self.status.totals.commands += u64::try_from(count).unwrap_or(u64::MAX);
    }

    fn reloaded(&mut self, now: Instant) {
        // The process reads what is on disk.
        self.unsaved = None;
        self.behind = false;
        self.budget.reloaded(now);
        if let Phase::Reload(causes) = &self.phase {
            self.status.totals.reloaded(causes);
        }
    }

    fn failed(&mut self, why: String, now: Instant) {
        self.status.gap = Some(why);
        let until = now + self.pace.backoff.failed();
        self.phase = Phase::Failed { until };
    }

    fn live(&mut self, now: Instant) {
        self.status.live = self.working;
        self.status.gap = None;
        self.pace.backoff.succeeded();
        if let Some(since) = self.since.take() {
            let waited = now.saturating_duration_since(since).as_secs_f64();
            self.status.waited_seconds = waited;
            self.status.longest_wait_seconds = self.status.longest_wait_seconds.max(waited);
        }
        self.phase = Phase::Idle;
    }
}

#[cfg(test)]
mod tests;
