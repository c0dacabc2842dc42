//! The answer to `status`, of what the tasks publish and what the kernel's tables say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use model::SourceState;

use super::collect::Watched;
use super::report::{
    Apply, DeviceRow, DivergenceRow, EgressReport, FastPathRow, NoteRow, ProblemRow, Routing,
    SourceRow, Status, UnenforcedRow,
};
use super::{egress, kernel, routing};
use crate::applier::Applied;
use crate::devices::fast_path::FastPath;
use crate::devices::pods::Unenforced;
use crate::devices::{Device, Role, Xdp};
use crate::lb::ebpf::attach::Side;

impl Watched {
    /// The answer to `status`. Reads the kernel's tables.
    pub fn status(&self) -> Status {
        let applied = self.applied.borrow().clone();
        Status {
            maps: kernel::usage(&self.pins, &applied.outcome.usage),
            counters: kernel::counters(&self.pins),
            ..self.told()
        }
    }

    /// The answer to `status` without what is in the kernel's tables, which takes long to count.
    pub fn told(&self) -> Status {
        Status {
            notes: self.notes(),
            egress: self.egress(),
            ..self.known()
        }
    }

    /// What readiness is decided by. A probe asks every few seconds, so nothing here looks at every
    /// Service.
    pub fn known(&self) -> Status {
        let view = self.view.borrow().clone();
        let applied = self.applied.borrow().clone();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            node: self.node.to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            dataplane: "ebpf".to_owned(),
            connect: self.connect.to_string(),
            synced: view.synced,
            sources: view
                .states
                .iter()
                .map(|(kind, state)| source(kind.as_str(), state))
                .collect(),
            apply: self.apply(&applied),
            maps: Vec::new(),
            devices: self.devices.borrow().iter().flatten().map(device).collect(),
            counters: Vec::new(),
            problems: self.problems.borrow().iter().map(problem).collect(),
            unenforced: self.unenforced.borrow().iter().map(unenforced).collect(),
            routing: self.routing(),
            egress: None,
            fast_path: Some(fast_path(&self.fast_path.borrow())),
            notes: Vec::new(),
            flags_without_effect: self.without_effect.to_vec(),
        }
    }

    fn apply(&self, applied: &Applied) -> Apply {
        let ago = applied
            .at
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let of_interfaces = self.divergences.borrow().clone();
        let failure =
            |failure: &crate::applier::Failure| format!("{}: {}", failure.key, failure.reason);
        Apply {
            desired_generation: self
                .desired
                .borrow()
                .as_ref()
                .map(|desired| desired.generation),
            applied_generation: applied.generation,
            seconds_ago: ago.map(|ago| ago.as_secs_f64()),
            took_milliseconds: applied.took.as_secs_f64() * 1e3,
            operations: applied.outcome.operations,
            operations_total: applied.operations_total,
            repaired_total: applied.repaired_total + of_interfaces.values().sum::<u64>(),
            divergences: applied
                .divergences
                .iter()
                .chain(&of_interfaces)
                .map(|((map, divergence), count)| DivergenceRow {
                    map: (*map).to_owned(),
                    kind: divergence.as_str().to_owned(),
                    count: *count,
                })
                .collect(),
            applies_total: applied.applies_total,
            failed_total: applied.failed_total,
            error: applied.outcome.error.clone(),
            no_room: applied.outcome.no_room.clone(),
            failures: applied.outcome.failures.iter().map(failure).collect(),
        }
    }

    fn egress(&self) -> Option<EgressReport> {
        let desired = self.desired.borrow().clone()?;
        let egress = desired.egress.as_ref()?;
        let devices = self.devices.borrow().clone().unwrap_or_default();
        Some(egress::report(&self.pins, egress, &devices))
    }

    fn routing(&self) -> Option<Routing> {
        let kept = self.routes.as_ref()?.borrow().clone();
        let cni = self.cni.as_ref().map(|cni| cni.borrow().clone());
        let desired = self.desired.borrow().clone();
        let routes = desired.and_then(|desired| {
            let options = desired.node.router?;
            Some((Arc::clone(desired.routes.as_ref()?), options))
        });
        Some(routing::report(routes, &kept, cni))
    }

    fn notes(&self) -> Vec<NoteRow> {
        let desired = self.desired.borrow().clone();
        let notes = desired.iter().flat_map(|desired| desired.notes());
        notes
            .map(|(owner, note)| NoteRow {
                object: owner.to_string(),
                note: note.to_owned(),
            })
            .collect()
    }
}

fn source(kind: &str, state: &SourceState) -> SourceRow {
    let (state, reason) = match state {
        SourceState::Listing => ("listing", None),
        SourceState::Watching => ("watching", None),
        SourceState::Degraded { reason } => ("degraded", Some(reason.clone())),
    };
    SourceRow {
        kind: kind.to_owned(),
        state: state.to_owned(),
        reason,
    }
}

fn device(device: &Device) -> DeviceRow {
    let role = match device.role {
        Role::Attach(Side::Uplink) => "uplink",
        Role::Attach(Side::Workload) => "workload",
        Role::Attach(Side::Loopback) => "loopback",
        Role::Attach(Side::Tunnel) => "tunnel",
        Role::Ignore(why) => why,
    };
    DeviceRow {
        name: device.name.clone(),
        role: match &device.xdp {
            Xdp::NotWanted => role.to_owned(),
            Xdp::Attached => format!("{role}, xdp"),
            Xdp::Refused(reason) => format!("{role} (xdp refused: {reason})"),
        },
        error: device.error.clone(),
    }
}

fn fast_path(found: &FastPath) -> FastPathRow {
    match found {
        FastPath::Off(why) => FastPathRow {
            off: Some(why.clone()),
            ..FastPathRow::default()
        },
        FastPath::On(reach) => FastPathRow {
            off: None,
            pods: reach.pods.values().collect::<BTreeSet<_>>().len(),
            networks: reach.networks.len(),
            left_out: reach
                .left_out
                .iter()
                .map(|(name, why)| format!("{name}: {why}"))
                .collect(),
        },
    }
}

fn problem(problem: &model::Problem) -> ProblemRow {
    ProblemRow {
        kind: problem.kind.to_string(),
        object: problem.key.to_string(),
        field: problem.field.clone(),
        message: problem.message.clone(),
        effect: problem.effect.clone(),
    }
}

fn unenforced(found: &Unenforced) -> UnenforcedRow {
    UnenforcedRow {
        pod: found.pod.to_string(),
        address: found.address.to_string(),
        has_rules: found.has_rules,
        reason: found.why.clone(),
    }
}
