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
    /// What a summary line of libtest or nextest says; `None` for any other line.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let plain = anstream::adapter::strip_str(line).to_string();
        let line = plain.trim_start();
        let number_before = |text: &str, word: &str| {
            let (before, _) = text.split_once(word)?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        if let Some(result) = line.strip_prefix("test result: ") {
            return Some(Self {
                passed: number_before(result, " passed")?,
                failed: number_before(result, " failed")?,
            });
        }
        let (_, result) = line.strip_prefix("Summary [")?.split_once("run: ")?;
        Some(Self {
            passed: number_before(result, " passed")?,
            // nextest leaves out what did not occur.
            failed: number_before(result, " failed").unwrap_or_default(),
        })
    }

    /// This, and one more failed where a check did not hold without a test of its own failing: the
    /// sum of a run that fails never says `0 failed`.
    pub(super) fn of_failed_check(self) -> Self {
        Self {
            failed: self.failed.max(1),
            ..self
        }
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

/// What the output of tests says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) sum: Sum,
    /// The names of those that failed, where libtest gives them.
    pub(super) failed: Vec<String>,
}

impl Results {
    pub(super) fn read_line(&mut self, line: &str) {
        self.sum = self.sum + Sum::of_line(line).unwrap_or_default();
        let plain = anstream::adapter::strip_str(line).to_string();
        let name = plain
            .trim_end()
            .strip_prefix("test ")
            .and_then(|line| line.strip_suffix(" ... FAILED"));
        self.failed.extend(name.map(str::to_owned));
    }

    /// The sum if those that failed had passed.
    pub(super) fn all_passed(&self) -> Sum {
        Sum {
            passed: self.sum.passed + self.sum.failed,
            failed: 0,
        }
    }
}

/// How a lane ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) lane: &'static str,
    pub(super) sum: Sum,
    /// Why each check that did not hold did not, and the tests that failed in it.
    pub(super) failures: Vec<String>,
    /// Tests that failed beside others and passed alone.
    pub(super) flaky: Vec<String>,
    pub(super) took: Duration,
}

impl Outcome {
    /// How a lane ended whose checks came to this. One without any test has failed.
    pub(super) fn of(
        lane: &'static str,
        sum: Sum,
        mut failures: Vec<String>,
        took: Duration,
    ) -> Self {
        let executed_none = sum == Sum::default();
        if executed_none {
            failures.push("no test was executed".to_owned());
        }
        Self {
            lane,
            sum: if executed_none {
                sum.of_failed_check()
            } else {
                sum
            },
            failures,
            flaky: Vec::new(),
            took,
        }
    }

    pub(super) fn with_flaky(self, flaky: Vec<String>) -> Self {
        Self { flaky, ..self }
    }

    pub(super) fn is_success(&self) -> bool {
        self.failures.is_empty() && self.sum.failed == 0
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
        for failure in &self.failures {
            write!(formatter, "\n  {failure}")?;
        }
        for name in &self.flaky {
            write!(
                formatter,
                "\n  flaky: {name} failed beside others and passed alone"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Results, Sum};

    #[test]
    fn tests_that_failed_are_named() {
        let mut results = Results::default();
        for line in [
            "test routes::heal ... ok\n",
            "test routes::gone ... FAILED\n",
            "\u{1b}[1mtest pods::late ... \u{1b}[31mFAILED\u{1b}[m\n",
            "the test x ... FAILED\n",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored\n",
        ] {
            results.read_line(line);
        }
        assert_eq!(results.failed, ["routes::gone", "pods::late"]);
        assert_eq!((results.sum.failed, results.all_passed().passed), (2, 3));
    }

    #[test]
    fn a_test_that_passed_alone_is_named_beside_the_sum() {
        let sum = Sum {
            passed: 3,
            failed: 0,
        };
        let took = Duration::from_secs(1);
        let outcome = Outcome::of("netns", sum, Vec::new(), took);
        let outcome = outcome.with_flaky(vec!["pods::late".to_owned()]);
        assert!(outcome.is_success());
        assert!(outcome.to_string().ends_with(
            "0 failed, 1.0 s\n  flaky: pods::late failed beside others and passed alone"
        ));
    }

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
            (
                "     Summary [   0.271s] 29 tests run: 29 passed, 0 skipped\n",
                sum(29, 0),
            ),
            (
                "\u{1b}[31;1m     Summary\u{1b}[0m [   1.0s] \u{1b}[1m9\u{1b}[0m tests run: \u{1b}[1m7\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m (1 slow), \u{1b}[1m2\u{1b}[0m \u{1b}[31;1mfailed\u{1b}[0m, 3 skipped\n",
                sum(7, 2),
            ),
            (
                "     Summary [   0.1s] 1/5 tests run: 0 passed, 1 failed, 0 skipped\n",
                sum(0, 1),
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
        for (passed, failed, failures, success, failed_in_sum) in [
            (1, 0, vec![], true, 0),
            (0, 0, vec![], false, 1),
            (5, 1, vec![], false, 1),
            (5, 1, vec!["cargo fmt".to_owned()], false, 1),
        ] {
            let sum = Sum { passed, failed };
            let outcome = Outcome::of("unit", sum, failures, Duration::from_millis(1500));
            assert_eq!(outcome.is_success(), success, "{outcome}");
            assert_eq!(outcome.sum.failed, failed_in_sum, "{outcome}");
        }
    }

    #[test]
    fn a_check_that_fails_counts_even_where_its_tests_pass() {
        for (failed, expected) in [(0, 1), (1, 1), (3, 3)] {
            let sum = Sum { passed: 2, failed };
            assert_eq!(sum.of_failed_check().failed, expected);
        }
    }
}
