//! All tables of the node as one [`Facility`]: what a generation says of Services and of policy is in
//! force together, or is tried again together.

use std::path::Path;

use crate::applier::{Facility, Outcome, Pass, with_causes};
use crate::desired::Desired;
use crate::divergence::Divergences;
use crate::egress::image::entries;
use crate::egress::maps::EgressMap;
use crate::lb::ebpf::facility::ServiceMaps;
use crate::policy::ebpf::facility::PolicyMaps;
use crate::policy::ebpf::maps::Maps;
use crate::sys::map::TableError;

/// The tables of this node.
#[derive(Debug)]
pub struct NodeTables {
    /// Those of Services.
    pub services: ServiceMaps,
    /// Those of network policy, where it is on.
    pub policy: Option<PolicyMaps>,
    /// That of what leaves the cluster.
    pub egress: EgressMap,
}

/// The policy tables pinned in `pins`, where network policy is on. Where it is not, they are emptied,
/// so that what they say now is not in force for a moment when it is on again.
///
/// # Errors
/// Where the programs have not been loaded, or the kernel refuses.
pub fn policy_maps(pins: &Path, wanted: bool) -> Result<Option<PolicyMaps>, TableError> {
    if wanted {
        return PolicyMaps::open(pins).map(Some);
    }
    Maps::open(pins)?.clear()?;
    Ok(None)
}

/// Why an apply ended early, of two parts.
fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    let errors: Vec<String> = one.into_iter().chain(other).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

impl Facility for NodeTables {
    fn apply(&mut self, desired: &Desired, pass: Pass) -> Outcome {
        let mut outcome = self.services.apply(desired, pass);
        if pass == Pass::Everything {
            self.egress.forget();
        }
        match self.egress.follow(entries(desired.egress.as_deref())) {
            Ok(writes) => outcome.operations += writes,
            Err(error) => outcome.error = joined(outcome.error, Some(with_causes(&error))),
        }
        if desired.egress.is_some() {
            outcome.usage.extend(self.egress.usage());
        }
        if let Some(policy) = &mut self.policy {
            let Outcome {
                operations,
                failures,
                error,
                no_room,
                usage,
                policy: revision,
                problems,
            } = policy.apply(desired, pass);
            outcome.operations += operations;
            outcome.failures.extend(failures);
            outcome.usage.extend(usage);
            outcome.policy = revision;
            outcome.problems.extend(problems);
            outcome.no_room = no_room;
            outcome.error = joined(outcome.error, error);
        }
        outcome
    }

    fn audit(&mut self, strangers: bool) -> Result<Divergences, String> {
        let mut found = self.services.audit(strangers)?;
        if strangers {
            let egress = self.egress.audit(&mut found);
            egress.map_err(|error| with_causes(&error))?;
        }
        if let Some(policy) = self.policy.as_mut().filter(|_| strangers) {
            policy.audit()?;
        }
        Ok(found)
    }
}
