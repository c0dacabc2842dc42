//! Finds the objects for which a check fails, by leaving others out.
//!
//! Objects are let in group by group, those that were good before first. A group that does not pass
//! is halved; a single object that does not pass on top of all that did is guilty, and what the
//! check said about it is the proof. About `2 k log2 n` checks find `k` guilty ones of `n`.
//!
//! Pure: [`Search`] says what to try and is told how it went.

use std::collections::{BTreeMap, BTreeSet};

use model::{Kind, ObjectKey};

/// An object that may be left out.
pub type Suspect = (Kind, ObjectKey);

/// How a try went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The check passed.
    Passed,
    /// It failed, and what it said.
    Failed(String),
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Without these the check passes; each with what was said about it.
    Guilty(BTreeMap<Suspect, String>),
    /// It fails without any object too: a template or the program is to blame.
    Blameless(String),
    /// The number of checks is used up; the guilty are among these.
    GaveUp(BTreeSet<Suspect>),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Check without these.
    Try {
        /// Objects to leave out.
        without: BTreeSet<Suspect>,
    },
    /// It is over.
    Done(Outcome),
}

/// A group, and what is known about it.
#[derive(Debug)]
struct Group {
    suspects: Vec<Suspect>,
    /// On top of all that passed so far it was seen to fail: it need not be tried again.
    fails: Option<String>,
}

/// A search in progress.
#[derive(Debug)]
pub struct Search {
    all: BTreeSet<Suspect>,
    /// Passed, together.
    good: BTreeSet<Suspect>,
    guilty: BTreeMap<Suspect, String>,
    /// To be let in, the next at the end.
    groups: Vec<Group>,
    remaining_checks: usize,
    is_begun: bool,
    done: Option<Outcome>,
}

impl Search {
    /// Searches among `steady` objects, which passed before, and `changed` ones; those that come
    /// last within each are blamed where two do not go together, so the oldest should come first.
    /// That all of them together fail, for the reason `message`, is known.
    pub fn new(
        steady: Vec<Suspect>,
        changed: Vec<Suspect>,
        message: String,
        max_checks: usize,
    ) -> Self {
        let all = steady.iter().chain(&changed).cloned().collect();
        // The last group is known to fail once every other one has passed.
        let mut groups: Vec<Group> = [steady, changed]
            .into_iter()
            .filter(|group| !group.is_empty())
            .map(|suspects| Group {
                suspects,
                fails: None,
            })
            .collect();
        if let Some(last) = groups.last_mut() {
            last.fails = Some(message);
        }
        groups.reverse();
        Self {
            all,
            good: BTreeSet::new(),
            guilty: BTreeMap::new(),
            groups,
            remaining_checks: max_checks,
            is_begun: false,
            done: None,
        }
    }

    /// What to do next; the same until it is answered.
    pub fn next_try(&mut self) -> Next {
        if let Some(outcome) = &self.done {
            return Next::Done(outcome.clone());
        }
        if !self.is_begun {
            return self.attempt(self.all.clone());
        }
        while let Some(group) = self.groups.pop() {
            let Some(message) = group.fails.clone() else {
                let without = self.all.iter().filter(|suspect| {
                    !self.good.contains(*suspect) && !group.suspects.contains(suspect)
                });
                let without = without.cloned().collect();
                self.groups.push(group);
                return self.attempt(without);
            };
            self.narrow(group.suspects, message);
        }
        Next::Done(Outcome::Guilty(self.guilty.clone()))
    }

    /// How what [`Self::next_try`] said went.
    pub fn answer(&mut self, trial: Trial) {
        self.remaining_checks = self.remaining_checks.saturating_sub(1);
        match trial {
            Trial::Failed(message) if !self.is_begun => {
                self.done = Some(Outcome::Blameless(message));
            }
            Trial::Passed if !self.is_begun => self.is_begun = true,
            Trial::Failed(message) => {
                if let Some(group) = self.groups.last_mut() {
                    group.fails = Some(message);
                }
            }
            Trial::Passed => {
                let passed = self.groups.pop().map(|group| group.suspects);
                self.good.extend(passed.into_iter().flatten());
            }
        }
    }

    fn attempt(&self, without: BTreeSet<Suspect>) -> Next {
        if self.remaining_checks > 0 {
            return Next::Try { without };
        }
        let groups = self.groups.iter().flat_map(|group| &group.suspects);
        let open = groups.chain(self.guilty.keys()).cloned().collect();
        Next::Done(Outcome::GaveUp(open))
    }

    /// A group that fails: one suspect is guilty, more are halved.
    fn narrow(&mut self, mut suspects: Vec<Suspect>, message: String) {
        if suspects.len() <= 1 {
            let proven = suspects
                .into_iter()
                .map(|suspect| (suspect, message.clone()));
            self.guilty.extend(proven);
            // What was expected to fail after this one is not known any more.
            for group in &mut self.groups {
                group.fails = None;
            }
            return;
        }
        let second = suspects.split_off(suspects.len() / 2);
        // If the first half passes, the second must fail; if not, nothing is known about it, and
        // a guilty one that is found in the first clears this.
        self.groups.push(Group {
            suspects: second,
            fails: Some(message),
        });
        self.groups.push(Group {
            suspects,
            fails: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Next, Outcome, Search, Suspect, Trial};
    use crate::apply::fixture::key;
    use model::Kind;

    fn suspects(numbers: impl IntoIterator<Item = usize>) -> Vec<Suspect> {
        numbers
            .into_iter()
            .map(|n| (Kind::Service, key(n)))
            .collect()
    }

    /// Runs a search over `0..count`, of which those from `steady` on are changed.
    fn search(
        count: usize,
        steady: usize,
        limit: usize,
        fails: impl Fn(&BTreeSet<Suspect>) -> Option<String>,
    ) -> (Outcome, usize) {
        let (old, new) = (suspects(0..steady), suspects(steady..count));
        let all: BTreeSet<Suspect> = suspects(0..count).into_iter().collect();
        let mut search = Search::new(old, new, fails(&all).unwrap(), limit);
        for checks in 0.. {
            match search.next_try() {
                Next::Done(outcome) => return (outcome, checks),
                Next::Try { without } => {
                    let within = all.difference(&without).cloned().collect();
                    search.answer(fails(&within).map_or(Trial::Passed, Trial::Failed));
                }
            }
        }
        unreachable!("the loop only ends by returning")
    }

    #[track_caller]
    fn check(count: usize, steady: usize, bad: &[usize], max_checks: usize) {
        let bad_ones = suspects(bad.iter().copied());
        let fails = |within: &BTreeSet<Suspect>| {
            let first = bad_ones.iter().find(|bad| within.contains(*bad))?;
            Some(format!("{} is bad", first.1))
        };
        let (outcome, checks) = search(count, steady, 1000, fails);
        let expected = bad_ones
            .iter()
            .map(|bad| (bad.clone(), format!("{} is bad", bad.1)));
        assert_eq!(
            outcome,
            Outcome::Guilty(expected.collect()),
            "{bad:?} of {count}"
        );
        assert!(
            checks <= max_checks,
            "{checks} checks for {bad:?} of {count}"
        );
    }

    #[test]
    fn the_guilty_are_found_alone_and_with_few_checks() {
        // 2 k log2 n, and the two that begin.
        check(1, 0, &[0], 1);
        check(2, 0, &[1], 2);
        for bad in [0, 1, 511, 777, 1023] {
            check(1024, 0, &[bad], 22);
        }
        check(1024, 0, &[3, 700], 42);
        check(1000, 0, &[0, 1, 2, 500, 999], 102);
        check(16, 0, &(0..16).collect::<Vec<_>>(), 40);
        // What changed is looked at alone.
        check(10_000, 9_999, &[9_999], 2);
        check(10_000, 9_992, &[9_995], 8);
        // But what did not is not trusted.
        check(1024, 1023, &[5], 24);
    }

    #[test]
    fn of_two_that_do_not_go_together_the_later_is_left_out() {
        let pair = suspects([3, 9]);
        let fails = |within: &BTreeSet<Suspect>| {
            let both = pair.iter().all(|suspect| within.contains(suspect));
            both.then(|| "twice".to_owned())
        };
        let (outcome, _) = search(16, 0, 100, fails);
        let expected = [(pair[1].clone(), "twice".to_owned())].into();
        assert_eq!(outcome, Outcome::Guilty(expected));
    }

    #[test]
    fn a_template_that_fails_blames_nobody() {
        let (outcome, checks) = search(100, 0, 100, |_| Some("line 1".to_owned()));
        assert_eq!(outcome, Outcome::Blameless("line 1".to_owned()));
        assert_eq!(checks, 1);
    }

    #[test]
    fn the_number_of_checks_is_bounded() {
        let fails = |within: &BTreeSet<Suspect>| (!within.is_empty()).then(|| "bad".to_owned());
        let (outcome, checks) = search(100, 0, 12, fails);
        assert_eq!(checks, 12);
        match &outcome {
            Outcome::GaveUp(open) => assert_eq!(open.len(), 100),
            Outcome::Guilty(_) | Outcome::Blameless(_) => panic!("{outcome:?}"),
        }
    }
}
