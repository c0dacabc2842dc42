//! Objects that are left out, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bisect::Suspect;

/// Why an object is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What the check said with it and every good object.
    pub message: String,
    /// The object as it was, so that a change of it is noticed: its `resourceVersion`, or a hash.
    pub version: Arc<str>,
    /// Since when.
    pub since: Instant,
}

/// Objects that are left out.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    proofs: BTreeMap<Suspect, Proof>,
}

impl Quarantine {
    /// A guilty object may only have been so beside another one that is gone since.
    const RETRY: Duration = Duration::from_secs(600);

    /// Leaves an object out.
    pub fn add(&mut self, suspect: Suspect, proof: Proof) {
        self.proofs.insert(suspect, proof);
    }

    /// Lets in again what changed, is gone, or was left out for long; true where there was any.
    pub fn release(
        &mut self,
        version: impl Fn(&Suspect) -> Option<Arc<str>>,
        now: Instant,
    ) -> bool {
        let before = self.proofs.len();
        self.proofs.retain(|suspect, proof| {
            version(suspect).is_some_and(|version| version == proof.version)
                && now.saturating_duration_since(proof.since) < Self::RETRY
        });
        self.proofs.len() < before
    }

    /// What to leave out.
    pub fn without(&self) -> BTreeSet<Suspect> {
        self.proofs.keys().cloned().collect()
    }

    /// With their proofs.
    pub fn proofs(&self) -> &BTreeMap<Suspect, Proof> {
        &self.proofs
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::{Proof, Quarantine};
    use crate::apply::fixture::key;
    use model::Kind;

    #[test]
    fn an_object_is_tried_again_when_it_changed_or_long_after() {
        let start = Instant::now();
        let suspect = (Kind::Service, key(1));
        let quarantine = || {
            let mut quarantine = Quarantine::default();
            let proof = Proof {
                message: "bad".to_owned(),
                version: "7".into(),
                since: start,
            };
            quarantine.add(suspect.clone(), proof);
            quarantine
        };
        for (version, now, is_released) in [
            (Some("7"), start, false),
            (Some("8"), start, true),
            (None, start, true),
            (Some("7"), start + Quarantine::RETRY, true),
        ] {
            let mut quarantine = quarantine();
            let released = quarantine.release(|_| version.map(Arc::from), now);
            assert_eq!(released, is_released, "{version:?}");
            assert_eq!(quarantine.without().is_empty(), is_released);
        }
    }
}
