//! What a client saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a client saw, of all its workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Exchanges begun.
    pub attempts: u64,
    /// Exchanges answered.
    pub answered: u64,
    /// Exchanges that failed, by what went wrong: `refused`, `reset`, `timeout`, …
    pub errors: BTreeMap<String, u64>,
    /// Answers by the name of the backend.
    pub backends: BTreeMap<String, u64>,
    /// Addresses (without ports) as which the backends saw the client.
    pub seen_as: BTreeSet<String>,
    /// Established connections that were lost (`hold` only).
    pub lost_connections: u64,
    /// Times from the start of an exchange to its answer, or to the error.
    pub latency: Latency,
}

/// Times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half were faster.
    pub median_microseconds: u64,
    /// 99 of 100 were faster.
    pub p99_microseconds: u64,
    /// The slowest.
    pub slowest_microseconds: u64,
    #[serde(skip)]
    samples: Vec<u64>,
}

impl Report {
    /// Whether everything was answered.
    pub fn is_clean(&self) -> bool {
        self.answered == self.attempts && self.errors.is_empty() && self.lost_connections == 0
    }

    /// Exchanges that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// `web-1 24, web-2 26`
    pub fn spread(&self) -> String {
        let parts: Vec<_> = self
            .backends
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        parts.join(", ")
    }

    pub(super) fn answer(&mut self, backend: &str, seen_as: &str, took: Duration) {
        self.answered += 1;
        *self.backends.entry(backend.to_owned()).or_default() += 1;
        self.seen_as.insert(seen_as.to_owned());
        self.latency.note(took);
    }

    pub(super) fn error(&mut self, what: impl Into<String>, took: Duration) {
        *self.errors.entry(what.into()).or_default() += 1;
        self.latency.note(took);
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self {
            attempts,
            answered,
            errors,
            backends,
            seen_as,
            lost_connections,
            latency,
        } = other;
        self.attempts += attempts;
        self.answered += answered;
        self.lost_connections += lost_connections;
        self.seen_as.extend(seen_as);
        for (what, count) in errors {
            *self.errors.entry(what).or_default() += count;
        }
        for (name, count) in backends {
            *self.backends.entry(name).or_default() += count;
        }
        self.latency.samples.extend(latency.samples);
        self.latency.sum_up();
    }
}

impl Latency {
    fn note(&mut self, took: Duration) {
        self.samples
            .push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn sum_up(&mut self) {
        self.samples.sort_unstable();
        let last = self.samples.len().saturating_sub(1);
        let at = |index: usize| self.samples.get(index.min(last)).copied().unwrap_or(0);
        self.median_microseconds = at(last / 2);
        self.p99_microseconds = at(last * 99 / 100);
        self.slowest_microseconds = at(last);
    }
}

/// The word for an error in [`Report::errors`].
pub(super) fn word(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let kind = error.kind();
    if kind == ErrorKind::ConnectionRefused {
        "refused".to_owned()
    } else if kind == ErrorKind::ConnectionReset || kind == ErrorKind::UnexpectedEof {
        "reset".to_owned()
    } else if kind == ErrorKind::TimedOut || kind == ErrorKind::WouldBlock {
        "timeout".to_owned()
    } else {
        error.to_string()
    }
}
