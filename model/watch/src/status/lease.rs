//! Who of several processes writes: the holder of a Lease, as client-go's leader election has it.
//!
//! Clocks of machines differ, so what counts is for how long the Lease was seen to stay the same,
//! never the times in it. Pure; the requests are [`super::client`]'s.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// Who holds it, and for how long others believe so.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    /// Nobody else takes the Lease within this time of its last renewal.
    pub duration: Duration,
    /// Between renewals, and between looks at another's Lease.
    pub period: Duration,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        // Those of kube-controller-manager.
        Self {
            duration: Duration::from_secs(15),
            period: Duration::from_secs(5),
        }
    }
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make it, ours.
    Create(Value),
    /// Renew or take it, if it is still at the version seen.
    Patch(Value),
    /// Another one holds it.
    Wait,
}

/// What one process knows of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    holder: String,
    timing: LeaseTiming,
    /// The version last seen, and since when.
    seen: Option<(String, Instant)>,
    /// Until when others leave the Lease to us.
    held_until: Option<Instant>,
}

impl Election {
    pub(super) fn new(holder: &str, timing: LeaseTiming) -> Self {
        Self {
            holder: holder.to_owned(),
            timing,
            seen: None,
            held_until: None,
        }
    }

    /// Whether to write. It ends before others begin: a renewal that hangs must not overlap.
    pub(super) fn is_leader(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// What to do about the Lease as it is now.
    pub(super) fn step(&mut self, lease: Option<&Value>, now: Instant, wall: &str) -> Step {
        let Some(lease) = lease else {
            return Step::Create(json!({"spec": self.spec(wall, 0, true)}));
        };
        let version = lease["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != version) {
            self.seen = Some((version.to_owned(), now));
        }
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let is_ours = holder == self.holder;
        let unchanged_since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let stated = lease["spec"]["leaseDurationSeconds"].as_u64();
        let duration = stated.map_or(self.timing.duration, Duration::from_secs);
        if !is_ours && !holder.is_empty() && now < unchanged_since + duration {
            return Step::Wait;
        }
        let transitions = lease["spec"]["leaseTransitions"]
            .as_u64()
            .unwrap_or_default();
        let transitions = transitions + u64::from(!is_ours);
        Step::Patch(json!({
            "metadata": {"resourceVersion": version},
            "spec": self.spec(wall, transitions, !is_ours),
        }))
    }

    /// The Lease is ours, by a request that began at `asked`.
    pub(super) fn won(&mut self, asked: Instant) {
        // A third is spared for writes that are under way when it ends.
        self.held_until = Some(asked + self.timing.duration * 2 / 3);
    }

    /// The Lease is another's.
    pub(super) fn lost(&mut self) {
        self.held_until = None;
    }

    fn spec(&self, wall: &str, transitions: u64, is_new: bool) -> Value {
        let mut spec = json!({
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.timing.duration.as_secs().max(1),
            "renewTime": wall,
            "leaseTransitions": transitions,
        });
        if is_new {
            spec["acquireTime"] = json!(wall);
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Value {
        json!({
            "metadata": {"resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3},
        })
    }

    #[test]
    fn a_lease_is_taken_when_it_was_seen_unchanged_for_its_time() {
        let mut election = Election::new("me", LeaseTiming::default());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            election.step(Some(&lease("you", "1")), at(0), "t"),
            Step::Wait
        );
        assert_eq!(
            election.step(Some(&lease("you", "1")), at(14), "t"),
            Step::Wait
        );
        // Renewed: the time begins anew, whatever the clock of the other says.
        assert_eq!(
            election.step(Some(&lease("you", "2")), at(16), "t"),
            Step::Wait
        );
        assert_eq!(
            election.step(Some(&lease("you", "2")), at(30), "t"),
            Step::Wait
        );
        let Step::Patch(taken) = election.step(Some(&lease("you", "2")), at(31), "t") else {
            panic!("not taken");
        };
        assert_eq!(taken["metadata"]["resourceVersion"], "2");
        assert_eq!(taken["spec"]["leaseTransitions"], 4);
        // Given up by its holder, it is taken at once.
        let mut election = Election::new("me", LeaseTiming::default());
        let step = election.step(Some(&lease("", "5")), at(0), "t");
        assert!(matches!(step, Step::Patch(_)));
    }

    #[test]
    fn a_leader_stops_before_another_begins() {
        let mut election = Election::new("me", LeaseTiming::default());
        let start = Instant::now();
        assert!(!election.is_leader(start));
        assert!(matches!(election.step(None, start, "t"), Step::Create(_)));
        election.won(start);
        assert!(election.is_leader(start + Duration::from_secs(9)));
        assert!(!election.is_leader(start + Duration::from_secs(10)));
        let step = election.step(Some(&lease("me", "7")), start, "t");
        let Step::Patch(renewed) = step else {
            panic!("not renewed");
        };
        assert_eq!(renewed["spec"]["leaseTransitions"], 3);
        assert_eq!(renewed["spec"].get("acquireTime"), None);
        election.lost();
        assert!(!election.is_leader(start));
    }
}
