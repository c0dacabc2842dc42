//! From what the tasks publish, and what the kernel holds, to reports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use agent_abi::counters::TrafficV1;
use agent_abi::service::{BackendV2, POOL_CLUSTER};
use model::SourceState;
use tokio::sync::{Notify, mpsc, watch};

use super::egress;
use super::kernel;
use super::metrics::Measured;
use super::policy;
use super::report::{
    Apply, BackendRow, DeviceRow, DivergenceRow, EgressReport, FastPathRow, FrontendRow, NoteRow,
    ProblemRow, Routing, ServiceRow, Services, SourceRow, Status, UnenforcedRow,
};
use super::routing;
use crate::applier::Applied;
use crate::cni::install::Installed;
use crate::desired::{Desired, LbService, LbServiceKey, Pool, Pools};
use crate::devices::fast_path::FastPath;
use crate::devices::pods::Unenforced;
use crate::devices::{Device, Role, Xdp};
use crate::explain::lookups::Kernel;
use crate::explain::{Connect, ExplainError, Explanation, Facts, Question, explain};
use crate::flows;
use crate::histogram::Histogram;
use crate::lb::ebpf::attach::Side;
use crate::lb::ebpf::image::{Held, Tables, address, frontend_key};
use crate::lb::ebpf::maps::Maps;
use crate::policy::ebpf::facility::InForce;
use crate::reconcile::ClusterView;
use crate::route::keeper::Kept;
use crate::sys::clock;
use crate::sys::map::TableError;
use crate::whatif::answer::Answer;
use crate::whatif::flows::of_connections;
use crate::whatif::{Change, WhatIfError, judge};

/// Everything reports are made of.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When the agent started.
    pub started: Instant,
    /// Name of the node.
    pub node: Arc<str>,
    /// How TCP of processes is balanced.
    pub connect: Arc<str>,
    /// Whether network policy is on.
    pub policed: bool,
    /// Flags that change nothing.
    pub without_effect: Arc<[String]>,
    /// Directory of the pinned maps.
    pub pins: PathBuf,
    /// The cluster.
    pub view: watch::Receiver<ClusterView>,
    /// What is wanted.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// What has been applied.
    pub applied: watch::Receiver<Applied>,
    /// Interfaces.
    pub devices: watch::Receiver<Option<Vec<Device>>>,
    /// Has them looked at at once.
    pub look: Arc<Notify>,
    /// Pods that network policy does not reach.
    pub unenforced: watch::Receiver<Vec<Unenforced>>,
    /// What skips the host's stack.
    pub fast_path: watch::Receiver<FastPath>,
    /// All that is wrong.
    pub problems: watch::Receiver<Arc<[model::Problem]>>,
    /// From changes of endpoints until they were in force.
    pub latency: watch::Receiver<Histogram>,
    /// Whether metrics have kube-router's names too.
    pub kube_router_metrics: bool,
    /// What is told of the policy tables, where policy is on.
    pub policy: Option<watch::Receiver<InForce>>,
    /// What is kept of pod routes, where they are.
    pub routes: Option<watch::Receiver<Kept>>,
    /// What is installed for container runtimes, where it is.
    pub cni: Option<watch::Receiver<Installed>>,
    /// Who keeps flows.
    pub flows: mpsc::Sender<flows::log::Question>,
}

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

    /// What is measured. Reads the kernel's tables.
    pub fn measured(&self) -> Measured {
        let applied = self.applied.borrow().clone();
        let desired = self.desired.borrow().clone();
        let view = self.view.borrow().clone();
        let traffic = desired
            .as_ref()
            .map(|desired| kernel::traffic(&self.pins, desired));
        let traffic = traffic.unwrap_or(Ok(Vec::new())).unwrap_or_else(|error| {
            tracing::warn!(%error, "the traffic of Services cannot be read; it is left out");
            Vec::new()
        });
        let units = desired.iter().flat_map(|desired| desired.services.values());
        Measured {
            status: self.status(),
            durations: applied.durations,
            latency: self.latency.borrow().clone(),
            succeeded_at: applied.succeeded_at,
            services: view.services,
            endpoint_slices: view.endpoint_slices,
            compiles: view.compiles.clone(),
            service_ports: desired
                .as_ref()
                .map_or(0, |desired| desired.services.size()),
            endpoints: units.map(|unit| unit.backends.len()).sum(),
            traffic,
            policy: self.policy.as_ref().map(|told| {
                let told = told.borrow().clone();
                policy::measure(&self.pins, told, desired.as_deref(), &view.cluster)
            }),
            egress: egress::traffic(&self.pins).unwrap_or_else(|error| {
                tracing::warn!(%error, "the traffic that leaves the cluster cannot be read; it is left out");
                TrafficV1::default()
            }),
            kube_router: self.kube_router_metrics,
        }
    }

    /// The answer to `services`: all, or those of a name or `namespace/name`. Reads the kernel's
    /// tables.
    ///
    /// # Errors
    /// Where the kernel's tables cannot be read.
    pub fn services(&self, name: Option<&str>) -> Result<Services, TableError> {
        let tables = Maps::open(&self.pins)?.read()?;
        let desired = self.desired.borrow().clone();
        let units = desired.iter().flat_map(|desired| &desired.services);
        let wanted = |key: &LbServiceKey| {
            let object = key.owner.key();
            name.is_none_or(|name| *object.name == *name || object.to_string() == name)
        };
        let rows = units
            .filter(|(key, _)| wanted(key))
            .map(|(key, unit)| service(key, unit, &tables));
        Ok(Services {
            services: rows.collect(),
        })
    }

    /// The answer to `explain`.
    ///
    /// # Errors
    /// Where the question names what is not there, or the kernel's tables cannot be read.
    pub fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        let view = self.view.borrow().clone();
        let applied = self.applied.borrow().clone();
        let desired = self.desired.borrow().clone();
        let desired = desired.ok_or(ExplainError::NotSynced)?;
        let (attached, detail) = self
            .connect
            .split_once(": ")
            .unwrap_or(("no", &self.connect));
        let fast_path = self.fast_path.borrow().clone();
        let facts = Facts {
            fast_path: &fast_path,
            lookups: &Kernel::open(&self.pins)?,
            cluster: &view.cluster,
            desired: &desired,
            connect: match attached {
                "yes" => Connect::Attached(detail),
                _ => Connect::Absent(detail),
            },
            policed: self.policed,
            failures: &applied.outcome.failures,
            problems: &view.problems,
        };
        explain(question, &facts)
    }

    /// The answer to `policy what-if`. Reads the kernel's table of connections.
    ///
    /// # Errors
    /// Where the change makes no sense, or the table cannot be read.
    pub fn what_if(&self, change: &Change) -> Result<Answer, WhatIfError> {
        if !self.policed {
            return Err(WhatIfError::NotPoliced);
        }
        let desired = self.desired.borrow().clone();
        let node = desired.ok_or(WhatIfError::NotSynced)?.node.clone();
        let cluster = self.view.borrow().cluster.clone();
        let (connections, settings) = kernel::policy_connections(&self.pins)
            .map_err(|error| WhatIfError::Table(crate::applier::with_causes(&error)))?;
        let now = clock::monotonic_nanoseconds();
        // What was dropped lately belongs here too, once it is recorded.
        let flows = of_connections(&connections, &settings, now);
        judge(&cluster, &node, change, &flows)
    }

    fn apply(&self, applied: &Applied) -> Apply {
        let ago = applied
            .at
            .and_then(|at| SystemTime::now().duration_since(at).ok());
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
            repaired_total: applied.repaired_total,
            divergences: applied
                .divergences
                .iter()
                .map(|((map, divergence), count)| DivergenceRow {
                    map: (*map).to_owned(),
                    kind: divergence.as_str().to_owned(),
                    count: *count,
                })
                .collect(),
            applies_total: applied.applies_total,
            failed_total: applied.failed_total,
            error: applied.outcome.error.clone(),
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

fn service(key: &LbServiceKey, unit: &LbService, tables: &Tables) -> ServiceRow {
    let id = tables.id_of(unit);
    let held = id.and_then(|id| tables.services().get(&id));
    let frontends: Vec<FrontendRow> = unit
        .frontends
        .iter()
        .map(|frontend| FrontendRow {
            address: SocketAddr::new(frontend.address, frontend.port.get()).to_string(),
            scope: frontend.scope.as_str().to_owned(),
            in_kernel: tables
                .frontends()
                .get(&frontend_key(frontend))
                .is_some_and(|found| Some(found.service) == id),
        })
        .collect();
    let backends = backends(unit, held);
    let slots = held.and_then(|held| held.value);
    let slots = slots.map(|value| value.pools[POOL_CLUSTER].slots);
    let missing = frontends
        .iter()
        .filter(|frontend| !frontend.in_kernel)
        .count();
    let differing = backends
        .iter()
        .filter(|backend| backend.desired != backend.id.is_some())
        .count();
    let state = match (missing, differing) {
        (0, 0) if unit.pool(Pool::Cluster).next().is_none() => "rejecting: no endpoint".to_owned(),
        (0, 0) => "ok".to_owned(),
        _ => format!("differs: {missing} frontends missing, {differing} backends"),
    };
    ServiceRow {
        service: key.owner.key().to_string(),
        owner: key.owner.kind().to_string(),
        port: key.port.to_string(),
        protocol: key.protocol.to_string(),
        frontends,
        backends,
        id,
        slots,
        state,
    }
}

fn backends(unit: &LbService, held: Option<&Held>) -> Vec<BackendRow> {
    let mut in_kernel: BTreeMap<_, (u32, &BackendV2)> = held
        .into_iter()
        .flat_map(|held| &held.backends)
        .map(|(id, value)| ((value.address, value.port), (*id, value)))
        .collect();
    let mut rows: Vec<BackendRow> = unit
        .backends
        .iter()
        .map(|backend| BackendRow {
            address: backend.to_string(),
            local: backend.local,
            draining: backend.pools == Pools::default(),
            desired: true,
            id: in_kernel
                .remove(&(address(backend.address), backend.port.get().to_be_bytes()))
                .map(|(id, _)| id),
        })
        .collect();
    rows.extend(in_kernel.into_values().map(|(id, value)| {
        BackendRow {
            address: SocketAddr::new(
                Ipv6Addr::from(value.address).to_canonical(),
                u16::from_be_bytes(value.port),
            )
            .to_string(),
            local: value.flags & agent_abi::service::BACKEND_LOCAL != 0,
            draining: false,
            desired: false,
            id: Some(id),
        }
    }));
    rows
}
