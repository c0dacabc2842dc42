//! How often a proxy may be reloaded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Limits of reloads. Every reload leaves an old process until its last connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Between two.
    pub min_gap: Duration,
    /// In any hour.
    pub per_hour: usize,
    /// Old processes that may still run when another reload begins.
    pub max_old_processes: usize,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            min_gap: Duration::from_secs(2),
            per_hour: 120,
            max_old_processes: 8,
        }
    }
}

/// Reloads of the last hour.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: BudgetLimits,
    reloads: VecDeque<Instant>,
}

/// Whether a reload may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clearance {
    /// Now.
    Now,
    /// Not before.
    At(Instant),
    /// Not before some of the old processes have ended.
    OldProcesses {
        /// There are these many.
        running: usize,
        /// May be there.
        allowed: usize,
    },
}

const HOUR: Duration = Duration::from_secs(3600);

impl Budget {
    /// A budget that nothing was taken of.
    pub fn new(limits: BudgetLimits) -> Self {
        Self {
            limits,
            reloads: VecDeque::new(),
        }
    }

    /// Notes a reload.
    pub fn reloaded(&mut self, now: Instant) {
        self.reloads.push_back(now);
        while self.reloads.len() > self.limits.per_hour.max(1) {
            self.reloads.pop_front();
        }
    }

    /// Whether a reload may begin while `old_processes` run, as they were counted.
    pub fn clearance(&self, old_processes: usize, now: Instant) -> Clearance {
        let gap = self.reloads.back().map(|last| *last + self.limits.min_gap);
        let is_spent = self.reloads.len() >= self.limits.per_hour.max(1);
        let hour = self
            .reloads
            .front()
            .filter(|_| is_spent)
            .map(|first| *first + HOUR);
        match gap.max(hour) {
            Some(at) if at > now => Clearance::At(at),
            _ if old_processes > self.limits.max_old_processes => Clearance::OldProcesses {
                running: old_processes,
                allowed: self.limits.max_old_processes,
            },
            _ => Clearance::Now,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Budget, BudgetLimits, Clearance, HOUR};

    #[test]
    fn reloads_keep_their_gap_their_number_and_the_old_processes() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(BudgetLimits {
            min_gap: 2 * second,
            per_hour: 3,
            max_old_processes: 1,
        });
        assert_eq!(budget.clearance(1, start), Clearance::Now);
        let held = Clearance::OldProcesses {
            running: 2,
            allowed: 1,
        };
        assert_eq!(budget.clearance(2, start), held);
        budget.reloaded(start);
        assert_eq!(
            budget.clearance(0, start + second),
            Clearance::At(start + 2 * second)
        );
        assert_eq!(budget.clearance(0, start + 2 * second), Clearance::Now);
        budget.reloaded(start + 2 * second);
        budget.reloaded(start + 4 * second);
        assert_eq!(
            budget.clearance(0, start + 9 * second),
            Clearance::At(start + HOUR)
        );
        assert_eq!(budget.clearance(0, start + HOUR), Clearance::Now);
    }
}
