//! When to try again.

use std::time::Duration;

/// Waits that double, up to a limit, each shortened by chance: many edge nodes that fail together
/// do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// Begins with about `first`; `seed` tells nodes apart.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            // The generator stays at zero for ever.
            state: seed | 1,
        }
    }

    /// Another failure: how long to wait, between half of the step and all of it.
    pub fn failed(&mut self) -> Duration {
        let step = self
            .first
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1).min(31);
        // Marsaglia, Xorshift RNGs (2003), the triple 13, 7, 17.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let share = u32::try_from(self.state % 1000).unwrap_or(0);
        step / 2 + step / 2 * share / 1000
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It worked.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn waits_grow_up_to_a_limit_and_differ_between_nodes() {
        let waits = |seed| -> Vec<Duration> {
            let limit = Duration::from_secs(30);
            let mut backoff = Backoff::new(Duration::from_secs(1), limit, seed);
            (0..40).map(|_| backoff.failed()).collect()
        };
        let found = waits(7);
        for (index, wait) in found.iter().enumerate() {
            let step = (1_u64 << index.min(10)).min(30) * 1000;
            let milliseconds = u64::try_from(wait.as_millis()).unwrap();
            assert!(
                (step / 2..=step).contains(&milliseconds),
                "{index}: {wait:?}"
            );
        }
        assert_ne!(found, waits(8));
    }
}
