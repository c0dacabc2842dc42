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
//! needs files of its own waits for it. A run that is killed before finds at its next start that
//! the process is ahead of the files, and reloads.
//!
//! Whatever changes meanwhile is taken up from [`Phase::Idle`], or at once where a reload is still
//! held back.

use std::time::{Duration, Instant};

use super::guard::Refusal;
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

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this time, or before something changes.
    Wait(Option<Instant>),
    /// Render the newest state, and compare it with what is live.
    Render,
    /// Write the candidate, check it, and find the guilty.
    Check,
    /// Make the candidate what the proxy reads.
    Install,
    /// Say the commands.
    Commands,
    /// Begin to write what commands made live, to check it and to switch to it.
    Save,
    /// Tell the proxy to read its files.
    Reload,
    /// Ask the proxy what it runs.
    ReadBack,
    /// Put the last good version back, and tell the proxy.
    RollBack,
}

/// How a change goes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By so many commands.
    Commands(usize),
    /// By a reload.
    Reload(Vec<Cause>),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new state of the cluster, or none that is complete.
    World {
        /// Which.
        number: u64,
        /// Whether every kind was listed to its end.
        is_synced: bool,
    },
    /// The render is what is live already.
    Unchanged,
    /// The guard refuses it.
    Refused(Refusal),
    /// There is something new.
    Rendered(How),
    /// It passed.
    Checked(How),
    /// Some step could not be done; nothing live has changed.
    Failed(String),
    /// The candidate is what the proxy reads.
    Installed,
    /// Every command was done; what they made may be on disk already.
    Commanded {
        /// Whether it is.
        is_saved: bool,
    },
    /// What is live is on its way to the disk.
    Saving,
    /// What was live when that began is on disk.
    Saved,
    /// It could not be saved, or must not be: some objects are left out from here on.
    Unsaved(String),
    /// A command was refused: only a reload makes the process what the files say.
    CommandRefused(String),
    /// The proxy was told, having been seen like this before.
    Reloaded(Seen),
    /// The proxy cannot be asked, and being told was all that can be known.
    Told,
    /// The proxy was asked; `meant` is the generation it should tell.
    SeenNow {
        /// What it said.
        seen: Seen,
        /// What was meant.
        meant: Option<String>,
    },
    /// The proxy did not answer.
    Unseen(String),
    /// The last good version is back, or could not be put back.
    RolledBack(Result<(), String>),
    /// Old processes were counted.
    OldProcesses(usize),
    /// The live process or its files differ from what was meant, and are to be repaired.
    Drifted(String),
    /// Something that held a render back may hold no more.
    Retry,
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
    Save,
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
        if self.phase == Phase::Idle && self.save_due().is_some_and(|due| due <= now) {
            self.phase = Phase::Save;
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
                Step::Wait([due, self.save_due()].into_iter().flatten().min())
            }
            Phase::Render => Step::Render,
            // Two versions are never on their way at once.
            Phase::Check if self.saving.is_some() => Step::Wait(None),
            Phase::Check => Step::Check,
            Phase::Install(How::Reload(_)) => self.cleared(Step::Install, now),
            Phase::Install(How::Commands(_)) => Step::Install,
            Phase::Commands { .. } => Step::Commands,
            Phase::Save => Step::Save,
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
                Step::Wait(Some(
                    self.pace.debounce.due().map_or(until, |due| due.min(until)),
                ))
            }
        }
    }

    fn save_due(&self) -> Option<Instant> {
        let (first, last) = self.unsaved.filter(|_| self.saving.is_none())?;
        Some((last + SAVE_AFTER).min(first + SAVE_WITHIN))
    }

    /// How long to pause before the next [`Step::ReadBack`].
    pub fn look_again(&self) -> Duration {
        LOOK
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
                self.live(now);
            }
            Event::Refused(refusal) => {
                self.status.rendered = self.working;
                self.status.totals.refused += 1;
                self.status.gap = Some(refusal.to_string());
                self.phase = Phase::Idle;
            }
            Event::Rendered(how) => {
                self.status.rendered = self.working;
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
                let first = self.unsaved.map_or(now, |(first, _)| first);
                self.unsaved = (!is_saved).then_some((first, now));
            }
            Event::Saving => {
                self.saving = Some(self.status.live);
                self.unsaved = None;
                self.phase = Phase::Idle;
            }
            Event::Saved => {
                if let Some(saved) = self.saving.take() {
                    self.status.checked = saved;
                }
                self.pace.backoff.succeeded();
            }
            Event::Unsaved(why) => {
                // What is rendered next is compared with what is live, and saved in its turn.
                self.unsaved = None;
                self.saving = None;
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
                if self.phase == Phase::Idle && self.saving.is_none() {
                    self.status.totals.repairs += 1;
                    self.phase = Phase::Reload(vec![Cause::of(format!("drift: {what}"))]);
                }
            }
            Event::Retry => self.pace.debounce.changed(now),
        }
    }

    fn count_commands(&mut self, count: usize) {
        self.status.totals.commands += u64::try_from(count).unwrap_or(u64::MAX);
    }

    fn reloaded(&mut self, now: Instant) {
        // The process reads what is on disk.
        self.unsaved = None;
        self.budget.reloaded(now);
        if let Phase::Reload(causes) = &self.phase {
            self.status.totals.reloaded(causes);
        }
    }

    fn read_back(&mut self, seen: Seen, meant: Option<&str>, now: Instant) {
        self.status.old_processes = seen.old_processes;
        let Phase::ReadBack { before, .. } = &self.phase else {
            return;
        };
        let took = seen.took(before, meant);
        self.status.generation.clone_from(&seen.generation);
        match took {
            Took::Yes => self.live(now),
            Took::No(why) => self.not_taken(why),
            Took::NotYet => {
                let told = seen.generation.as_deref().unwrap_or("no generation");
                self.unseen(format!("the old process still answers, with {told}"), now);
            }
        }
    }

    fn unseen(&mut self, why: String, now: Instant) {
        let limit = self.pace.read_back;
        let Phase::ReadBack {
            since, why: last, ..
        } = &mut self.phase
        else {
            return;
        };
        if now.saturating_duration_since(*since) < limit {
            *last = Some(why);
        } else {
            self.not_taken(format!("not within {limit:?}: {why}"));
        }
    }

    fn not_taken(&mut self, why: String) {
        self.status.totals.failed_reloads += 1;
        self.phase = Phase::RollBack(why);
    }

    fn rolled_back(&mut self, result: Result<(), String>, now: Instant) {
        let Phase::RollBack(why) = &self.phase else {
            return;
        };
        let why = match result {
            Ok(()) => {
                self.status.totals.rollbacks += 1;
                format!("the reload did not take ({why}); the last good version is back")
            }
            Err(error) => format!(
                "the reload did not take ({why}), nor is the last good version back: {error}"
            ),
        };
        self.failed(why, now);
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
