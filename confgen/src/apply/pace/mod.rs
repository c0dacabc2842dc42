//! When to act. Pure: the time comes in.
//!
//! Changes wait for a quiet moment, but never beyond a maximum ([`Debounce`]); reloads keep a gap,
//! a number per hour and a number of old processes ([`Budget`]); what failed is tried again later
//! and later ([`Backoff`]).

mod backoff;
mod budget;

use std::time::{Duration, Instant};

pub use backoff::Backoff;
pub use budget::{Budget, BudgetLimits, Clearance};

/// The longest sleep where nothing is due.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

/// Collects changes until they pause.
#[derive(Clone, Debug)]
pub struct Debounce {
    quiet: Duration,
    max_wait: Duration,
    /// First and last change that is not acted on.
    pending: Option<(Instant, Instant)>,
}

impl Default for Debounce {
    /// An endpoint is followed at once for people, and a rolling update in one go.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(1))
    }
}

impl Debounce {
    /// Acts after `quiet` without a change, and after `max_wait` in any case.
    pub fn new(quiet: Duration, max_wait: Duration) -> Self {
        Self {
            quiet,
            max_wait,
            pending: None,
        }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When to act.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.pending?;
        Some((last + self.quiet).min(first + self.max_wait))
    }

    /// Takes the changes, if it is time: since when the first of them waited.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let is_due = self.due().is_some_and(|due| due <= now);
        let (first, _) = self.pending.take_if(|_| is_due)?;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Debounce;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn changes_wait_for_a_quiet_moment_and_never_for_ever() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        debounce.changed(start);
        assert_eq!(debounce.take(start + 99 * MS), None);
        assert_eq!(debounce.take(start + 100 * MS), Some(start));
        assert_eq!(debounce.take(start + 200 * MS), None);
        // A change every 50 ms for ever, which starved kube2lb.
        let mut taken = Vec::new();
        for step in 0..60 {
            let now = start + 50 * step * MS;
            debounce.changed(now);
            taken.extend(debounce.take(now));
        }
        assert_eq!(taken, [start, start + 1050 * MS]);
    }
}
