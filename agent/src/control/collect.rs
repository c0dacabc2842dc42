//! From what the tasks publish, and what the kernel holds, to reports.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use agent_abi::service::BackendV1;
use model::SourceState;
use tokio::sync::watch;

use super::report::{
    Apply, BackendRow, CounterRow, DeviceRow, FrontendRow, MapRow, ProblemRow, ServiceRow,
    Services, SourceRow, Status,
};
use crate::applier::Applied;
use crate::desired::{Desired, LbService, LbServiceKey, Scope};
use crate::devices::{Device, Role};
use crate::lb::ebpf::attach::Side;
use crate::lb::ebpf::facility::observe;
use crate::lb::ebpf::image::{Held, Tables, address, frontend_key};
use crate::lb::ebpf::maps::{self, Maps};
use crate::reconcile::ClusterView;
use crate::sys::map::TableError;

/// Everything reports are made of.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When the agent started.
    pub started: Instant,
    /// Name of the node.
    pub node: Arc<str>,
    /// How TCP of processes is balanced.
    pub connect: Arc<str>,
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
}

impl Watched {
    /// The answer to `status`.
    pub fn status(&self) -> Status {
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
            maps: self.maps(&applied),
            devices: self.devices.borrow().iter().flatten().map(device).collect(),
            counters: self.counters(),
            problems: view.problems.iter().map(problem).collect(),
            flags_without_effect: self.without_effect.to_vec(),
        }
    }

    /// The answer to `services`: all, or those of a name or `namespace/name`. Reads the kernel's
    /// tables.
    ///
    /// # Errors
    /// Where the kernel's tables cannot be read.
    pub fn services(&self, name: Option<&str>) -> Result<Services, TableError> {
        let tables = observe(&Maps::open(&self.pins)?)?;
        let desired = self.desired.borrow().clone();
        let units = desired.iter().flat_map(|desired| &desired.services);
        let wanted = |key: &LbServiceKey| {
            name.is_none_or(|name| *key.service.name == *name || key.service.to_string() == name)
        };
        let rows = units
            .filter(|(key, _)| wanted(key))
            .map(|(key, unit)| service(key, unit, &tables));
        Ok(Services {
            services: rows.collect(),
        })
    }

    fn apply(&self, applied: &Applied) -> Apply {
        let ago = applied
            .at
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let failure = |failure: &crate::applier::Failure| {
            let LbServiceKey {
                service,
                port,
                protocol,
                ..
            } = &failure.key;
            format!(
                "Service {service} port `{port}`/{protocol}: {}",
                failure.reason
            )
        };
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
            applies_total: applied.applies_total,
            failed_total: applied.failed_total,
            error: applied.outcome.error.clone(),
            failures: applied.outcome.failures.iter().map(failure).collect(),
        }
    }

    fn maps(&self, applied: &Applied) -> Vec<MapRow> {
        let row = |usage: &crate::applier::Usage| MapRow {
            map: usage.map.to_owned(),
            used: usage.used,
            max: usage.max,
        };
        let mut rows: Vec<MapRow> = applied.outcome.usage.iter().map(row).collect();
        if let Ok((used, max)) = maps::connections(&self.pins) {
            let map = agent_abi::connection::CONNECTIONS_MAP.to_owned();
            rows.push(MapRow {
                map,
                used: used.into(),
                max: max.into(),
            });
        }
        rows
    }

    fn counters(&self) -> Vec<CounterRow> {
        let counters = maps::counters(&self.pins).unwrap_or_else(|error| {
            tracing::warn!(%error, "the programs' counters cannot be read; they are left out");
            Vec::new()
        });
        counters
            .into_iter()
            .map(|(_, name, value)| CounterRow {
                name: name.to_owned(),
                value,
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
        role: role.to_owned(),
        error: device.error.clone(),
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

fn service(key: &LbServiceKey, unit: &LbService, tables: &Tables) -> ServiceRow {
    let id = tables.id_of(unit);
    let held = id.and_then(|id| tables.services().get(&id));
    let frontends: Vec<FrontendRow> = unit
        .frontends
        .iter()
        .map(|frontend| FrontendRow {
            address: SocketAddr::new(frontend.address, frontend.port.get()).to_string(),
            scope: if frontend.scope == Scope::ClusterIp {
                "ClusterIP"
            } else {
                "NodePort"
            }
            .to_owned(),
            in_kernel: tables
                .frontends()
                .get(&frontend_key(frontend))
                .is_some_and(|found| Some(found.service) == id),
        })
        .collect();
    let backends = backends(unit, held);
    let slots = held.and_then(|held| held.slots_in_use);
    let missing = frontends
        .iter()
        .filter(|frontend| !frontend.in_kernel)
        .count();
    let differing = backends
        .iter()
        .filter(|backend| backend.desired != backend.id.is_some())
        .count();
    let state = match (missing, differing) {
        (0, 0) if unit.backends.is_empty() => "rejecting: no endpoint".to_owned(),
        (0, 0) => "ok".to_owned(),
        _ => format!("differs: {missing} frontends missing, {differing} backends"),
    };
    ServiceRow {
        service: key.service.to_string(),
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
    let mut in_kernel: BTreeMap<_, (u32, &BackendV1)> = held
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
            desired: false,
            id: Some(id),
        }
    }));
    rows
}
