//! What came of a lane.

use std::fmt;
use std::iter;
use std::ops::Add;
use std::time::Duration;

/// Tests executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) passed: u32,
    pub(super) failed: u32,
}

impl Sum {
    /// What a line of libtest's output says; `None` for any other line.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let result = line.trim_start().strip_prefix("test result: ")?;
        let number_before = |word: &str| {
            let (before, _) = result.split_once(word)?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        Some(Self {
            passed: number_before(" passed")?,
            failed: number_before(" failed")?,
        })
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

impl iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Add::add)
    }
}

/// How a lane ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) lane: &'static str,
    pub(super) sum: Sum,
    /// Why each check that did not hold did not.
    pub(super) failures: Vec<String>,
    pub(super) took: Duration,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.failures.is_empty() && self.sum.failed == 0 && self.sum.passed > 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_success() { "ok" } else { "FAILED" };
        write!(
            formatter,
            "{}: {verdict}, {} passed, {} failed, {:.1} s",
            self.lane,
            self.sum.passed,
            self.sum.failed,
            self.took.as_secs_f64()
        )?;
        if self.sum == Sum::default() {
            formatter.write_str("; no test was executed")?;
        }
        for failure in &self.failures {
            write!(formatter, "\n  {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Sum};

    #[test]
    fn results_are_read_from_their_lines_only() {
        let sum = |passed, failed| Some(Sum { passed, failed });
        for (line, expected) in [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
                sum(12, 0),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored\n",
                sum(3, 2),
            ),
            (
                "test result: \u{1b}[32mok\u{1b}[m. 4 passed; 0 failed; 0 ignored\n",
                sum(4, 0),
            ),
            ("test a_result ... ok\n", None),
            ("running 3 tests\n", None),
            ("the test result: ok. 1 passed; 0 failed\n", None),
        ] {
            assert_eq!(Sum::of_line(line), expected, "{line}");
        }
    }

    #[test]
    fn a_lane_fails_with_a_check_a_test_or_without_any_test() {
        for (passed, failed, failures, expected) in [
            (1, 0, vec![], true),
            (0, 0, vec![], false),
            (5, 1, vec![], false),
            (5, 0, vec!["cargo fmt".to_owned()], false),
        ] {
            let outcome = Outcome {
                lane: "unit",
                sum: Sum { passed, failed },
                failures,
                took: Duration::from_millis(1500),
            };
            assert_eq!(outcome.is_success(), expected, "{outcome}");
        }
    }
}
