//! Which problem is posted next, and when.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use model::Problem;
use tokio::time::Instant;

/// Problems that wait. A cluster with more of them at once has one cause, which the first show; at
/// [`EVERY`] the last of these is posted after some seven minutes. Further ones get no Event, and a
/// line in the log.
const MOST: usize = 64;

/// Events posted without a pause, as client-go's spam filter has it.
const BURST: u32 = 25;

/// Pause between Events after a burst. Each node posts, and a broken object is broken for all.
const EVERY: Duration = Duration::from_secs(10);

/// Problems to be posted.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// All there were when last asked, posted or not.
    known: BTreeSet<Problem>,
    pending: VecDeque<Problem>,
}

impl Queue {
    /// Takes in the problems there are now: new ones wait, those that are gone do so no longer.
    /// Gives the number of new ones for which there is no room.
    pub(super) fn follow(&mut self, problems: &[Problem]) -> usize {
        let known: BTreeSet<Problem> = problems.iter().cloned().collect();
        self.pending.retain(|problem| known.contains(problem));
        let mut left_out = 0;
        for problem in known.difference(&self.known) {
            if self.pending.len() < MOST {
                self.pending.push_back(problem.clone());
            } else {
                left_out += 1;
            }
        }
        self.known = known;
        left_out
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The one to post next.
    pub(super) fn first(&self) -> Option<&Problem> {
        self.pending.front()
    }

    /// The first one is dealt with.
    pub(super) fn done(&mut self) {
        self.pending.pop_front();
    }
}

/// [`BURST`] at once, then one [`EVERY`].
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    /// When `left` last grew.
    grew: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            grew: now,
        }
    }

    /// When the next may be posted.
    pub(super) fn next(&self, now: Instant) -> Instant {
        if self.left > 0 {
            now
        } else {
            self.grew + EVERY
        }
    }

    /// One is posted.
    pub(super) fn take(&mut self, now: Instant) {
        while self.left < BURST && self.grew + EVERY <= now {
            self.left += 1;
            self.grew += EVERY;
        }
        if self.left == BURST {
            self.grew = now;
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use model::{Kind, ObjectKey};

    use super::*;

    fn problem(number: usize) -> Problem {
        let key = ObjectKey::new("shop", &format!("service-{number:03}"));
        Problem::new(Kind::Service, key, "spec", "odd", "left out")
    }

    fn drain(queue: &mut Queue) -> Vec<Problem> {
        let mut all = Vec::new();
        while let Some(problem) = queue.first().cloned() {
            all.push(problem);
            queue.done();
        }
        all
    }

    #[test]
    fn a_problem_waits_once_until_it_is_gone_and_comes_back() {
        let mut queue = Queue::default();
        let (a, b) = (problem(1), problem(2));
        let steps: [(&[Problem], &[Problem]); 5] = [
            (&[a.clone(), a.clone()], std::slice::from_ref(&a)),
            (&[a.clone(), b.clone()], std::slice::from_ref(&b)),
            (&[b.clone(), a.clone()], &[]),
            (std::slice::from_ref(&a), &[]),
            (&[a.clone(), b.clone()], std::slice::from_ref(&b)),
        ];
        for (problems, expected) in steps {
            assert_eq!(queue.follow(problems), 0);
            assert_eq!(drain(&mut queue), expected, "{problems:?}");
        }
    }

    #[test]
    fn a_problem_that_is_gone_before_its_turn_is_not_posted() {
        let mut queue = Queue::default();
        queue.follow(&[problem(1), problem(2)]);
        queue.follow(&[problem(2)]);
        assert_eq!(drain(&mut queue), [problem(2)]);
    }

    #[test]
    fn what_has_no_room_is_counted_once() {
        let mut queue = Queue::default();
        let many: Vec<_> = (0..MOST + 10).map(problem).collect();
        assert_eq!(queue.follow(&many), 10);
        assert_eq!(queue.follow(&many), 0);
        assert_eq!(drain(&mut queue), many[..MOST]);
    }

    #[test]
    fn a_burst_passes_and_then_one_each_period() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST {
            assert_eq!(pace.next(start), start);
            pace.take(start);
        }
        for number in 1..=3 {
            let due = pace.next(start);
            assert_eq!(due, start + EVERY * number);
            pace.take(due);
        }
        let later = start + EVERY * 1000;
        for _ in 0..BURST {
            pace.take(later);
        }
        assert_eq!(pace.next(later), later + EVERY, "it saves up one burst");
    }
}
