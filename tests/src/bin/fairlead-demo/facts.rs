//! One line per fact, and the sum.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Width of the column that says what was tried.
const TRIED_WIDTH: usize = 64;

#[derive(Debug)]
pub(crate) struct Facts {
    passed: u32,
    failed: u32,
    started: Instant,
}

impl Facts {
    pub(crate) fn new() -> Self {
        Self {
            passed: 0,
            failed: 0,
            started: Instant::now(),
        }
    }

    /// Starts a group of facts.
    pub(crate) fn section(&self, title: &str) {
        anstream::println!("\n\x1b[1m{title}\x1b[0m");
    }

    /// Tries something and prints what was seen; answers whether the fact holds.
    pub(crate) fn check(&mut self, tried: &str, look: impl FnOnce() -> Result<String>) -> bool {
        let progress = progress(tried);
        let result = look();
        progress.finish_and_clear();
        match result {
            Ok(seen) => {
                self.passed += 1;
                anstream::println!("\x1b[32mPASS\x1b[0m  {tried:<TRIED_WIDTH$}  {seen}");
                true
            }
            Err(error) => {
                self.failed += 1;
                anstream::println!("\x1b[31mFAIL\x1b[0m  {tried:<TRIED_WIDTH$}  {error:#}");
                false
            }
        }
    }

    /// Prints the sum; answers whether every fact held.
    pub(crate) fn conclude(&self) -> bool {
        let Self {
            passed,
            failed,
            started,
        } = self;
        anstream::println!("\n{:.0} s", started.elapsed().as_secs_f64());
        anstream::println!("{passed} passed, {failed} failed");
        *failed == 0 && *passed > 0
    }
}

/// A spinner on a terminal; elsewhere the lines themselves are progress enough.
fn progress(tried: &str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner().with_message(tried.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner}     {msg}  {elapsed}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}
