//! Durations, counted by how long they were.

use std::time::Duration;

/// Upper bounds of the buckets: 1 ms, doubled up to 65.536 s. The shortest apply takes about a
/// millisecond; Kubernetes' objective for programming a Service is 30 s, which lies well inside.
pub const BOUNDS: [Duration; 17] = {
    let mut bounds = [Duration::ZERO; 17];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = Duration::from_millis(1 << index);
        index += 1;
    }
    bounds
};

/// How many durations fell between which of [`BOUNDS`], and beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one more.
    pub fn observe(&mut self, duration: Duration) {
        let index = BOUNDS.partition_point(|bound| *bound < duration);
        self.buckets[index] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Upper bounds in seconds, the last one infinite, each with how many lie between it and the
    /// bound before.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64);
        bounds
            .chain([f64::INFINITY])
            .zip(self.buckets.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for milliseconds in [0, 1, 2, 3, 65_536, 65_537, 1_000_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let filled: Vec<_> = histogram
            .buckets()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            filled,
            [
                (0.001, 2),
                (0.002, 1),
                (0.004, 1),
                (65.536, 1),
                (f64::INFINITY, 2)
            ]
        );
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.sum(), Duration::from_millis(1_131_079));
    }
}
