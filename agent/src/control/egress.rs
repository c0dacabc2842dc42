//! What leaves the cluster, for status and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;

use agent_abi::Address;
use agent_abi::counters::TrafficV1;
use agent_abi::egress::{EGRESS_SERVICE, EGRESS_SOURCES_MAP, EgressSourceV1};

use super::kernel::passed;
use super::page::{Labels, Page};
use super::report::{EgressReport, EgressRow};
use crate::desired::egress::{Egress, Why};
use crate::devices::Device;
use crate::sys::map::{Table, TableError};

/// Most networks that are shown. A cluster of some hundred nodes is shown whole; of a larger one,
/// what the operator has given comes first.
const SHOWN: usize = 1000;

/// The list in force, and what packets leave as. Reads the kernel's table of uplinks, which is small.
pub(super) fn report(pins: &Path, egress: &Egress, devices: &[Device]) -> EgressReport {
    let mut kept: Vec<(&Why, String)> = egress
        .kept
        .iter()
        .map(|(network, why)| (why, network.to_string()))
        .collect();
    // Those of nodes come last, whatever their addresses.
    kept.sort_by_key(|(why, _)| *why);
    let rows = kept.iter().take(SHOWN).map(|(why, network)| EgressRow {
        network: network.clone(),
        why: why.to_string(),
    });
    let sources = sources(pins, devices).unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses that pods' connections leave under cannot be read; they are left out");
        BTreeMap::new()
    });
    EgressReport {
        pod_networks: egress.pods.iter().map(ToString::to_string).collect(),
        sources,
        kept: rows.collect(),
        kept_total: egress.kept.len(),
        left_out: egress.left_out,
    }
}

fn sources(pins: &Path, devices: &[Device]) -> Result<BTreeMap<String, Vec<String>>, TableError> {
    let known = Table::<u32, EgressSourceV1>::open(pins, EGRESS_SOURCES_MAP)?.entries()?;
    let name = |index| {
        let found = devices.iter().find(|device| device.index == index);
        found.map_or_else(
            || format!("interface {index}"),
            |device| device.name.clone(),
        )
    };
    let addresses = |source: EgressSourceV1| {
        let is_there = |address: &Address| *address != [0; 16];
        let addresses = [source.v4, source.v6].into_iter().filter(is_there);
        addresses
            .map(|address| Ipv6Addr::from(address).to_canonical().to_string())
            .collect()
    };
    let rows = known.into_iter();
    Ok(rows
        .map(|(index, source)| (name(index), addresses(source)))
        .collect())
}

/// What passed, both ways.
pub(super) fn traffic(pins: &Path) -> Result<TrafficV1, TableError> {
    let mut rows = passed(pins)?.into_iter();
    let found = rows.find(|(service, _)| *service == EGRESS_SERVICE);
    Ok(found.map(|(_, traffic)| traffic).unwrap_or_default())
}

/// As metrics.
pub(super) fn write(
    report: &EgressReport,
    traffic: &TrafficV1,
    page: &mut Page<'_>,
) -> fmt::Result {
    page.gauge(
        "fairlead_egress_networks",
        "Networks that know pods by their own addresses: what pods send there is not masqueraded",
        report.kept_total,
    )?;
    page.gauge(
        "fairlead_egress_networks_left_out",
        "The same that there is no room for: what pods send there is masqueraded",
        report.left_out,
    )?;
    for (name, help, out, back) in [
        (
            "fairlead_egress_packets",
            "Packets of connections that left the cluster under the node's address",
            traffic.packets_in,
            traffic.packets_out,
        ),
        (
            "fairlead_egress_bytes",
            "Their bytes, from the network header on",
            traffic.bytes_in,
            traffic.bytes_out,
        ),
    ] {
        let of = |direction: &str| -> Labels { vec![("direction", direction.to_owned())] };
        page.counters(name, help, [(of("out"), out), (of("in"), back)])?;
    }
    Ok(())
}
