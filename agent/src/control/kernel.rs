//! What the kernel's tables say of themselves: how full they are, what the programs counted, and
//! what passed through each unit.
//!
//! Tables that the agent writes are counted by the applier; here are those that the programs fill.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use agent_abi::connection::{
    CONNECTIONS_MAP, ConnectionV3, FRAGMENTS_MAP, FragmentKeyV1, FragmentV2, OPENING_MAP, TupleV1,
};
use agent_abi::counters::{TRAFFIC_MAP, TrafficV1};
use agent_abi::egress::EGRESS_SERVICE;
use agent_abi::policy::{RULES_MAP, RuleKeyV1};
use agent_abi::service::{
    AFFINITY_MAP, AffinityKeyV1, AffinityV1, FRONTENDS_MAP, FrontendKeyV1, FrontendV2,
    SERVICES_MAP, SOURCES_MAP, ServiceV2, SourceKeyV1,
};
use agent_abi::settings::{SETTINGS_MAP, SettingsV2};

use super::report::{CounterRow, MapRow};
use crate::applier::Usage;
use crate::desired::{Desired, LbServiceKey, Scope};
use crate::lb::ebpf::entries::frontend_key;
use crate::lb::ebpf::maps;
use crate::sys::map::{
    List, Table, TableError, Trie, evicts, lru_usage, max_entries, per_cpu_delete,
    per_cpu_sums_by_key,
};

/// Counters of [`TrafficV1`].
const PARTS: usize = 5;

/// What passed through one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficRow {
    /// The unit.
    pub unit: LbServiceKey,
    /// Its cluster IP and port; `None` for host ports.
    pub cluster_ip: Option<SocketAddr>,
    /// What passed.
    pub traffic: TrafficV1,
}

/// Fullness of every table; `written` are those the applier has counted.
pub fn usage(pins: &Path, written: &[Usage]) -> Vec<MapRow> {
    let mut rows: Vec<MapRow> = written
        .iter()
        .map(|usage| MapRow {
            map: usage.map.to_owned(),
            used: usage.used,
            max: usage.max,
            full: usage.used >= usage.max,
        })
        .collect();
    type Count = fn(&Path, &'static str) -> Result<(u32, u32), TableError>;
    type Full = fn(u32, u32) -> bool;
    let without_room: Full = |used, max| used >= max;
    let filled: [(&'static str, Count, Full); 7] = [
        (
            SOURCES_MAP,
            |pins, map| Trie::<SourceKeyV1>::open(pins, map)?.usage(),
            without_room,
        ),
        (CONNECTIONS_MAP, lru_usage::<TupleV1, ConnectionV3>, evicts),
        (OPENING_MAP, lru_usage::<TupleV1, ConnectionV3>, evicts),
        (AFFINITY_MAP, lru_usage::<AffinityKeyV1, AffinityV1>, evicts),
        (
            FRAGMENTS_MAP,
            lru_usage::<FragmentKeyV1, FragmentV2>,
            evicts,
        ),
        (
            RULES_MAP,
            |pins, map| {
                let max = max_entries(pins, map)?;
                let used = per_cpu_sums_by_key::<RuleKeyV1, 3>(pins, map)?.len();
                Ok((u32::try_from(used).unwrap_or(max), max))
            },
            without_room,
        ),
        (
            TRAFFIC_MAP,
            |pins, map| {
                let max = max_entries(pins, map)?;
                let used = per_cpu_sums_by_key::<u32, PARTS>(pins, map)?.len();
                Ok((u32::try_from(used).unwrap_or(max), max))
            },
            without_room,
        ),
    ];
    for (map, count, is_full) in filled {
        if written.iter().any(|usage| usage.map == map) {
            continue;
        }
        match count(pins, map) {
            Ok((used, max)) => rows.push(MapRow {
                map: map.to_owned(),
                used: used.into(),
                max: max.into(),
                full: is_full(used, max),
            }),
            Err(error) => {
                tracing::debug!(map, %error, "the table cannot be counted; it is left out");
            }
        }
    }
    rows
}

/// What the programs counted.
pub fn counters(pins: &Path) -> Vec<CounterRow> {
    let counters = maps::counters(pins).unwrap_or_else(|error| {
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

/// What passed through the units of `desired`, but for those that nothing has passed through.
///
/// # Errors
/// Where the tables cannot be read.
pub fn traffic(pins: &Path, desired: &Desired) -> Result<Vec<TrafficRow>, TableError> {
    let mut by_id: HashMap<u32, TrafficV1> = passed(pins)?.into_iter().collect();
    if by_id.is_empty() {
        return Ok(Vec::new());
    }
    let frontends = Table::<FrontendKeyV1, FrontendV2>::open(pins, FRONTENDS_MAP)?;
    let mut rows = Vec::new();
    for (unit, service) in &desired.services {
        let mut id = None;
        for frontend in service.frontends.iter() {
            id = frontends.get(frontend_key(frontend))?;
            if id.is_some() {
                break;
            }
        }
        let Some(traffic) = id.and_then(|found| by_id.remove(&found.service)) else {
            continue;
        };
        let mut cluster_ips = service.frontends.iter();
        let cluster_ip = cluster_ips.find(|frontend| frontend.scope == Scope::ClusterIp);
        rows.push(TrafficRow {
            unit: unit.clone(),
            cluster_ip: cluster_ip.map(|found| SocketAddr::new(found.address, found.port.get())),
            traffic,
        });
    }
    Ok(rows)
}

pub(super) fn passed(pins: &Path) -> Result<Vec<(u32, TrafficV1)>, TableError> {
    let sums = per_cpu_sums_by_key::<u32, PARTS>(pins, TRAFFIC_MAP)?;
    let named = |(id, sums): (u32, [u64; PARTS])| {
        let [connections, packets_in, bytes_in, packets_out, bytes_out] = sums;
        let traffic = TrafficV1 {
            connections,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
        };
        (id, traffic)
    };
    Ok(sums.into_iter().map(named).collect())
}

/// The connections, and how long they are known.
///
/// # Errors
/// Where the tables cannot be read.
pub fn connections(pins: &Path) -> Result<(Vec<(TupleV1, ConnectionV3)>, SettingsV2), TableError> {
    let mut connections = Table::open_lru(pins, CONNECTIONS_MAP)?.entries()?;
    connections.extend(Table::open_lru(pins, OPENING_MAP)?.entries()?);
    let settings = List::open(pins, SETTINGS_MAP)?.get(0)?;
    Ok((connections, settings))
}

/// Forgets what is counted of units that are gone; the answer says of how many.
pub(super) fn forget_departed(pins: &Path) -> Result<usize, TableError> {
    // In this order: an id is used once, so one that had traffic and has no service now is done
    // with for good.
    let counted = passed(pins)?;
    let services = Table::<u32, ServiceV2>::open(pins, SERVICES_MAP)?;
    let mut departed = Vec::new();
    for (id, _) in counted {
        if id != EGRESS_SERVICE && services.get(id)?.is_none() {
            departed.push(id);
        }
    }
    per_cpu_delete::<u32, PARTS>(pins, TRAFFIC_MAP, &departed)?;
    Ok(departed.len())
}
