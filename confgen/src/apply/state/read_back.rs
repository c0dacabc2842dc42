//! Whether a reload took, and what follows where it did not.

use std::time::Instant;

use super::{Machine, Phase};
use crate::apply::reload::{Seen, Took};

impl Machine {
    pub(super) fn read_back(&mut self, seen: Seen, meant: Option<&str>, now: Instant) {
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

    pub(super) fn unseen(&mut self, why: String, now: Instant) {
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

    pub(super) fn rolled_back(&mut self, result: Result<(), String>, now: Instant) {
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
}
