//! Pauses between attempts: doubling, capped, with jitter so that the nodes of a cluster do not
//! come back to a restarted API server in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The pauses after a run of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// Something worked: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt.
    pub(super) async fn pause(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }

    /// How long to wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let longest = self.longest();
        self.failures = self.failures.saturating_add(1);
        let half = longest / 2;
        half + half.mul_f64(random_fraction())
    }

    fn longest(&self) -> Duration {
        // 2^16 times any first pause is past every cap in use.
        self.first
            .saturating_mul(1 << self.failures.min(16))
            .min(self.cap)
    }
}

/// At least 0 and below 1. Spreading needs no better randomness than a hasher's seed.
pub(super) fn random_fraction() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for longest in [100, 200, 400, 800, 1000, 1000] {
            let longest = Duration::from_millis(longest);
            let pause = backoff.next();
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{pause:?} of at most {longest:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
