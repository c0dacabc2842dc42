//! Which objects a failed check is the fault of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Applier, Output};
use crate::apply::bisect::{Next, Outcome, Search, Suspect, Trial};
use crate::apply::check::Verdict;
use crate::apply::quarantine::Proof;
use crate::apply::status::Quarantined;
use crate::edge::{EdgePlan, Listener, Origin};

impl<C> Applier<C> {
    /// Finds the guilty and leaves them out.
    pub(super) async fn blame(&mut self, output: &Output, message: String) -> Result<(), String> {
        let good = self.good.as_ref();
        let known: BTreeSet<Suspect> = good
            .map(|(_, plan)| suspects(plan).into_iter().collect())
            .unwrap_or_default();
        let is_steady = |suspect: &Suspect| {
            let before = good.and_then(|(cluster, _)| (self.sources.version)(cluster, suspect));
            known.contains(suspect) && before.is_some() && before == self.version(suspect)
        };
        let (steady, changed) = suspects(&output.plan).into_iter().partition(is_steady);
        let mut search = Search::new(steady, changed, message, self.settings.max_checks);
        let held = self.quarantine.without();
        let outcome = loop {
            let without = match search.next_try() {
                Next::Done(outcome) => break outcome,
                Next::Try { without } => without,
            };
            let output = self.compile(&without.union(&held).cloned().collect())?;
            let (candidate, verdict) = self.ask(&output).await?;
            self.settings.store.discard(&candidate);
            search.answer(match verdict {
                Verdict::Passed(_) => Trial::Passed,
                Verdict::Failed(message) => Trial::Failed(message),
            });
        };
        let guilty = match outcome {
            Outcome::Guilty(guilty) => guilty,
            Outcome::Blameless(message) => {
                return Err(format!("the check fails without any object: {message}"));
            }
            Outcome::GaveUp(open) => {
                return Err(format!(
                    "the check fails, and after {} checks {} objects are still suspect",
                    self.settings.max_checks,
                    open.len()
                ));
            }
        };
        for (suspect, message) in guilty {
            tracing::warn!(kind = suspect.0.as_str(), key = %suspect.1, %message, "left out");
            let version = self.version(&suspect).unwrap_or_default();
            let since = Instant::now();
            self.quarantine.add(
                suspect,
                Proof {
                    message,
                    version,
                    since,
                },
            );
        }
        self.tell_quarantine();
        Ok(())
    }

    pub(super) fn tell_quarantine(&mut self) {
        let proofs = self.quarantine.proofs().iter();
        self.machine.status_mut().quarantined = proofs
            .map(|((kind, key), proof)| Quarantined {
                kind: kind.as_str(),
                key: key.to_string(),
                proof: proof.message.clone(),
                suspect: (*kind, key.clone()),
            })
            .collect();
    }
}

/// Every object that asked for something, the oldest first.
fn suspects(plan: &EdgePlan) -> Vec<Suspect> {
    let mut found: BTreeMap<Suspect, i64> = BTreeMap::new();
    let mut note = |origin: &Origin| {
        if origin.is_configuration() {
            return;
        }
        let created = origin.created_unix_seconds;
        let suspect = (origin.kind, origin.key.clone());
        let known = found.entry(suspect).or_insert(created);
        *known = created.min(*known);
    };
    for backend in plan.backends.values() {
        note(&backend.origin);
    }
    for certificate in plan.certificates.values() {
        note(&certificate.origin);
    }
    for domain in plan.views.domains.values() {
        note(&domain.origin);
    }
    for listener in plan.listeners.values() {
        let http = match listener {
            Listener::Http(http) => Some(http),
            Listener::Tls(tls) => {
                tls.passthrough
                    .values()
                    .for_each(|route| note(&route.origin));
                Some(&tls.http)
            }
            Listener::Tcp(tcp) => {
                note(&tcp.origin);
                None
            }
        };
        for host in http.into_iter().flat_map(|http| http.hosts.values()) {
            host.rules.iter().for_each(|rule| note(&rule.origin));
            host.tls.iter().for_each(|tls| note(&tls.origin));
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(one, created), (other, later)| (created, one).cmp(&(later, other)));
    found.into_iter().map(|(suspect, _)| suspect).collect()
}
