//! Waiting: always for a condition, always with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a condition of a lab may take to come true: on two busy cores, agents and kernel have
/// been seen to need a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Gives another number of seconds: an emulated processor needs ten times as long.
const PATIENCE_VARIABLE: &str = "FAIRLEAD_TEST_PATIENCE";
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a condition may take to come true on this machine.
pub(super) fn patience() -> Duration {
    let asked = std::env::var(PATIENCE_VARIABLE).ok();
    let asked = asked.and_then(|seconds| seconds.parse().ok());
    asked.map_or(PATIENCE, Duration::from_secs)
}

/// Looks until `look` answers with a value, or says what was missing last.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let mut seen = "the condition did not hold".to_owned();
    let patience = patience();
    poll(patience, || match look() {
        Ok(found) => found,
        Err(error) => {
            seen = format!("{error:#}");
            None
        }
    })
    .map_or_else(
        || bail!("{what}: not within {} s; last: {seen}", patience.as_secs()),
        Ok,
    )
}

/// Looks until `look` answers with a value or the time is over.
pub fn poll<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
