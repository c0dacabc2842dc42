//! When a client's next exchange is due, and when it stops.

use std::io::{self, Read, Write, stdin, stdout};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Client, FLOWING, Report, report};

/// Shared by the workers of one client.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    count: Option<u64>,
    deadline: Option<Instant>,
    closed: Arc<Closed>,
    not_flowing: AtomicUsize,
}

/// Whether standard input is closed.
#[derive(Debug, Default)]
struct Closed {
    flag: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Pace {
    pub(super) fn new(options: &Client) -> Self {
        let closed = Arc::new(Closed::default());
        let watched = Arc::clone(&closed);
        if options.count.is_none() {
            std::thread::spawn(move || {
                // An error means that nobody can tell us to go on, so it ends the run as well.
                let _end = stdin().lock().read_to_end(&mut Vec::new());
                watched.flag.store(true, Ordering::SeqCst);
                let _guard = watched.lock.lock().unwrap_or_else(PoisonError::into_inner);
                watched.changed.notify_all();
            });
        }
        Self {
            interval: Duration::from_millis(options.interval_milliseconds),
            count: options.count,
            deadline: options
                .seconds
                .map(|seconds| Instant::now() + Duration::from_secs_f64(seconds)),
            closed,
            not_flowing: AtomicUsize::new(options.workers),
        }
    }

    /// Waits until the exchange after `done` others is due; `false` when there is none.
    pub(super) fn next(&self, begun: Instant, done: u64) -> bool {
        if self.count.is_some_and(|count| done >= count) {
            return false;
        }
        if done > 0 && !self.interval.is_zero() {
            self.wait_until(begun + self.interval);
        }
        !self.closed.flag.load(Ordering::SeqCst)
            && self
                .deadline
                .is_none_or(|deadline| Instant::now() < deadline)
    }

    /// One exchange after the other, each told how many were tried before and when it begins; a good
    /// one answers with the backend and the address it was seen as.
    pub(super) fn one_by_one(
        &self,
        options: &Client,
        mut exchange: impl FnMut(u64, Instant) -> io::Result<(String, String)>,
    ) -> Report {
        let mut report = Report::default();
        let mut flows = false;
        let mut begun = Instant::now();
        while self.next(begun, report.attempts) {
            begun = Instant::now();
            let before = report.attempts;
            report.attempts += 1;
            match exchange(before, begun) {
                Ok((backend, seen_as)) => {
                    report.answer(&backend, &seen_as, begun.elapsed());
                    if !flows {
                        flows = true;
                        self.flows();
                    }
                }
                Err(error) => {
                    report.error(report::word(&error), begun.elapsed());
                    if options.stop_on_error {
                        break;
                    }
                }
            }
        }
        report
    }

    /// Notes that a worker's first exchange has worked.
    pub(super) fn flows(&self) {
        if self.not_flowing.fetch_sub(1, Ordering::SeqCst) == 1 {
            say(FLOWING);
        }
    }

    fn wait_until(&self, due: Instant) {
        let mut guard = self
            .closed
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !self.closed.flag.load(Ordering::SeqCst) {
            let rest = due.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            guard = self
                .closed
                .changed
                .wait_timeout(guard, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Prints one line at once.
pub(super) fn say(line: &str) {
    let mut out = stdout().lock();
    // Nobody reads any more: the process is about to be ended.
    let _written = writeln!(out, "{line}").and_then(|()| out.flush());
}
