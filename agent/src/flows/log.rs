//! The one reader of the ring buffer, and the keeper of what was read.
//!
//! Clients ask through a channel. Who follows gets a bounded channel of its own: who is slow misses
//! records and is told how many, and holds up nobody.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_abi::counters::{COUNTERS_MAP, Counter};
use agent_abi::flow::{ASKED_MAP, FLOWS_MAP, FlowV1};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::names::Names;
use super::record::{Line, Lost};
use super::resolve::resolve;
use crate::sys::clock;
use crate::sys::map::{Awaited, List, Ring, TableError, per_cpu_sums};

/// Records that are kept: about 600 bytes each, so 2.5 MB; at ten drops a second of one pod, the last
/// seven minutes.
pub const KEPT: usize = 4096;
/// Records that a client that follows may be behind.
const BEHIND: usize = 1024;
/// Events read before clients are heard again.
const BATCH: usize = 256;
/// Clients that wait for an answer.
pub const QUESTIONS: usize = 16;
/// How often it is looked whether somebody still follows.
const TICK: Duration = Duration::from_secs(1);
/// How long the programs go on telling of what passes after an agent that has died.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// What a client asks for.
#[derive(Debug)]
pub struct Question {
    /// Whether it wants what comes, too.
    pub follow: bool,
    /// Whether connections that pass are among that.
    pub allowed: bool,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// What a client gets.
#[derive(Debug)]
pub struct Answer {
    /// What is kept, the newest last.
    pub kept: Vec<Arc<Line>>,
    /// What comes.
    pub live: Option<broadcast::Receiver<Arc<Line>>>,
    /// While somebody holds this, connections that pass are told of.
    pub asking: Option<Arc<()>>,
}

/// The ring buffer and the element that turns connections that pass on.
#[derive(Debug)]
pub struct Log {
    ring: Ring<FlowV1>,
    asked: List<u64>,
    pins: Box<Path>,
}

impl Log {
    /// Opens the maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        Ok(Self {
            ring: Ring::open(pins, FLOWS_MAP)?,
            asked: List::open(pins, ASKED_MAP)?,
            pins: pins.into(),
        })
    }

    /// Reads and answers until `cancel`. Naming events reads the kernel's tables, so this wants a
    /// thread of its own.
    ///
    /// # Errors
    /// Where the ring buffer cannot be waited for.
    pub async fn run(
        self,
        mut names: Names,
        mut questions: mpsc::Receiver<Question>,
        cancel: CancellationToken,
    ) -> io::Result<()> {
        let Self {
            ring,
            mut asked,
            pins,
        } = self;
        let mut ring = Awaited::new(ring)?;
        let mut kept = Kept::default();
        let (live, _) = broadcast::channel(BEHIND);
        let asking = Arc::new(());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lost = lost_so_far(&pins);
        let mut are_named = false;
        let mut known = Box::pin(names.sources().clone().known());
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = &mut known, if !are_named => are_named = true,
                events = ring.next_events(BATCH), if are_named => kept.take(&events?, &mut names, &live),
                Some(question) = questions.recv() => {
                    let Question { follow, allowed, answer } = question;
                    if follow && allowed {
                        ask(&mut asked, ASKED_FOR);
                    }
                    let answered = answer.send(Answer {
                        kept: kept.lines(),
                        live: follow.then(|| live.subscribe()),
                        asking: (follow && allowed).then(|| Arc::clone(&asking)),
                    });
                    if answered.is_err() {
                        tracing::debug!("a client that asked for flows has gone");
                    }
                }
                _ = ticks.tick() => {
                    if Arc::strong_count(&asking) > 1 {
                        ask(&mut asked, ASKED_FOR);
                    }
                    if live.receiver_count() > 0 {
                        let now = lost_so_far(&pins);
                        if now > lost {
                            kept.push(Line::Lost(Lost { lost: now - lost }), &live);
                        }
                        lost = now;
                    }
                }
            }
        }
        ask(&mut asked, Duration::ZERO);
        Ok(())
    }
}

/// The last records.
#[derive(Debug, Default)]
struct Kept(VecDeque<Arc<Line>>);

impl Kept {
    fn take(&mut self, events: &[FlowV1], names: &mut Names, live: &broadcast::Sender<Arc<Line>>) {
        if events.is_empty() {
            return;
        }
        names.prepare(events);
        let (now, monotonic) = (Timestamp::now(), clock::monotonic_nanoseconds());
        for event in events {
            let time = date(event.time, now, monotonic);
            self.push(Line::Flow(Box::new(resolve(event, time, names))), live);
        }
    }

    fn push(&mut self, line: Line, live: &broadcast::Sender<Arc<Line>>) {
        let line = Arc::new(line);
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Arc::clone(&line));
        if live.send(line).is_err() {
            // Nobody follows.
        }
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        self.0.iter().cloned().collect()
    }
}

/// When something was that the monotonic clock dates.
fn date(then: u64, now: Timestamp, monotonic: u64) -> Timestamp {
    let ago = i64::try_from(monotonic.saturating_sub(then)).unwrap_or(i64::MAX);
    let ago = SignedDuration::from_nanos(ago);
    now.checked_sub(ago).unwrap_or(now)
}

/// Has connections that pass told of for so long from now.
fn ask(asked: &mut List<u64>, duration: Duration) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let until = if duration.is_zero() {
        0
    } else {
        clock::monotonic_nanoseconds().saturating_add(nanoseconds)
    };
    if let Err(error) = asked.set(0, until) {
        tracing::warn!(%error, "connections that pass are not told of; it is tried again");
    }
}

fn lost_so_far(pins: &Path) -> u64 {
    let sums = per_cpu_sums(pins, COUNTERS_MAP).unwrap_or_else(|error| {
        tracing::debug!(%error, "lost flows cannot be counted");
        Vec::new()
    });
    sums.get(Counter::FlowsLost as usize).copied().unwrap_or(0)
}
