//! The answer to `services`: what is wanted beside what the kernel has.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use agent_abi::service::{BackendV2, POOL_CLUSTER};

use super::collect::Watched;
use super::report::{BackendRow, FrontendRow, ServiceRow, Services};
use crate::desired::{LbService, LbServiceKey, Pool, Pools};
use crate::lb::ebpf::entries::{address, frontend_key};
use crate::lb::ebpf::image::{Held, Tables};
use crate::lb::ebpf::maps::Maps;
use crate::sys::map::TableError;

impl Watched {
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
