//! What becomes of a machine when something happened.

use std::time::Instant;

use super::{Event, How, Machine, Phase};
use crate::haproxy::runtime::Cause;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an event concerns one phase and is none of the others' business"
)]
impl Machine {
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

    pub(super) fn failed(&mut self, why: String, now: Instant) {
        self.status.gap = Some(why);
        let until = now + self.pace.backoff.failed();
        self.phase = Phase::Failed { until };
    }

    pub(super) fn live(&mut self, now: Instant) {
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
