//! What `/metrics` answers, as OpenMetrics text.
//!
//! [`Measured`] holds the values of one scrape; nothing here reads the kernel.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use agent_abi::counters::TrafficV1;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::kernel::TrafficRow;
use super::page::{Labels, Page};
use super::policy::Policy;
use super::rates::Rates;
use super::report::{MapRow, Status};
use super::traffic;
use crate::histogram::Histogram;

/// The values of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What `status` shows.
    pub status: Status,
    /// How long applies took.
    pub durations: Histogram,
    /// From changes of endpoints until they were in force.
    pub latency: Histogram,
    /// When the last apply that succeeded in full ended.
    pub succeeded_at: Option<SystemTime>,
    /// Services in the cluster.
    pub services: usize,
    /// EndpointSlices in the cluster.
    pub endpoint_slices: usize,
    /// Units that are wanted.
    pub service_ports: usize,
    /// Their backends.
    pub endpoints: usize,
    /// What passed through units.
    pub traffic: Vec<TrafficRow>,
    /// How long it took to compile Services and policies from changes of the cluster.
    pub compiles: Histogram,
    /// Network policy, where it is on.
    pub policy: Option<Policy>,
    /// What left the cluster.
    pub egress: TrafficV1,
    /// What passes in a second, where traffic is shown under kube-router's names too.
    pub kube_router: Option<Rates>,
}

impl Measured {
    /// The page.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn page(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }

    fn agent(&self, page: &mut Page<'_>) -> fmt::Result {
        let Self {
            status,
            succeeded_at,
            ..
        } = self;
        let version = vec![("version", status.version.clone())];
        page.gauges(
            "fairlead_build_info",
            "Version of the agent",
            [(version, 1_u64)],
        )?;
        let synced = u64::from(status.synced);
        page.gauge(
            "fairlead_synced",
            "Whether every kind has been listed",
            synced,
        )?;
        let sources = status.sources.iter().map(|row| {
            let degraded = u64::from(row.state == "degraded");
            (vec![("kind", row.kind.clone())], degraded)
        });
        page.gauges(
            "fairlead_source_degraded",
            "Whether a kind is not heard of as it should be",
            sources,
        )?;
        let mut problems: BTreeMap<&str, u64> = BTreeMap::new();
        problems.extend(status.sources.iter().map(|row| (row.kind.as_str(), 0)));
        for problem in &status.problems {
            *problems.entry(&problem.kind).or_default() += 1;
        }
        let problems = problems.into_iter();
        page.gauges(
            "fairlead_problems",
            "Findings about objects of the cluster, by their kind",
            problems.map(|(kind, count)| (vec![("kind", kind.to_owned())], count)),
        )?;
        for (name, help, value) in [
            (
                "fairlead_services",
                "Services in the cluster",
                self.services,
            ),
            (
                "fairlead_endpoint_slices",
                "EndpointSlices in the cluster",
                self.endpoint_slices,
            ),
            (
                "fairlead_service_ports",
                "Ports of Services and pods that are balanced, of each family",
                self.service_ports,
            ),
            (
                "fairlead_endpoints",
                "Endpoints of all these ports",
                self.endpoints,
            ),
        ] {
            page.gauge(name, help, value)?;
        }
        let unenforced: BTreeSet<&str> = status
            .unenforced
            .iter()
            .map(|row| row.pod.as_str())
            .collect();
        page.gauge(
            "fairlead_policy_unenforced_pods",
            "Pods of this node that network policy does not reach",
            unenforced.len(),
        )?;
        let since_1970 = succeeded_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        page.gauges(
            "fairlead_last_successful_apply_timestamp_seconds",
            "When the last apply that succeeded in full ended",
            since_1970.map(|since| (Labels::new(), since.as_secs_f64())),
        )
    }

    fn applies(&self, page: &mut Page<'_>) -> fmt::Result {
        let apply = &self.status.apply;
        for (name, help, value) in [
            (
                "fairlead_desired_generation",
                "Generation that is wanted",
                apply.desired_generation,
            ),
            (
                "fairlead_applied_generation",
                "Generation that is in force",
                apply.applied_generation,
            ),
        ] {
            page.gauge(name, help, value.unwrap_or(0))?;
        }
        page.gauge(
            "fairlead_units_not_applied",
            "Service ports that are not as they should be",
            apply.failures.len(),
        )?;
        for (name, help, value) in [
            (
                "fairlead_applies",
                "Applies since the start",
                apply.applies_total,
            ),
            (
                "fairlead_apply_failures",
                "Applies that failed in whole or in part",
                apply.failed_total,
            ),
            (
                "fairlead_map_operations",
                "Writes to the tables since the start",
                apply.operations_total,
            ),
            (
                "fairlead_map_repairs",
                "Writes that mended what somebody else had changed",
                apply.repaired_total,
            ),
        ] {
            page.counters(name, help, [(Labels::new(), value)])?;
        }
        let divergences = apply.divergences.iter().map(|row| {
            let labels = vec![("map", row.map.clone()), ("kind", row.kind.clone())];
            (labels, row.count)
        });
        page.counters(
            "fairlead_divergence",
            "Entries of the tables that were not as the agent had written them, and were mended",
            divergences,
        )?;
        page.histogram(
            "fairlead_apply_duration_seconds",
            "How long applies took",
            &self.durations,
        )?;
        page.histogram(
            "fairlead_compile_duration_seconds",
            "How long it took to compile Services and policies from changes of the cluster",
            &self.compiles,
        )?;
        page.histogram(
            "fairlead_programming_latency_seconds",
            "From the change that an EndpointSlice names as its trigger until it was in force here",
            &self.latency,
        )
    }

    fn maps(&self, page: &mut Page<'_>) -> fmt::Result {
        let maps = &self.status.maps;
        let of = |value: fn(&MapRow) -> u64| {
            let row = move |row: &MapRow| (vec![("map", row.map.clone())], value(row));
            maps.iter().map(row)
        };
        page.gauges("fairlead_map_entries", "Entries in use", of(|row| row.used))?;
        page.gauges(
            "fairlead_map_max_entries",
            "Entries there is room for",
            of(|row| row.max),
        )?;
        page.gauges(
            "fairlead_map_full",
            "Whether a new entry has no room, or drives out another",
            of(|row| u64::from(row.full)),
        )
    }

    fn programs(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.status.counters;
        let drops = counters.iter().filter_map(|row| {
            let reason = row.name.strip_prefix("drop_")?.to_owned();
            Some((vec![("reason", reason)], row.value))
        });
        page.counters("fairlead_drops", "Packets dropped, by reason", drops)?;
        for row in counters.iter().filter(|row| !row.name.starts_with("drop_")) {
            let name = format!("fairlead_{}", row.name);
            page.counters(&name, &counted(&row.name), [(Labels::new(), row.value)])?;
        }
        Ok(())
    }
}

impl Collector for Measured {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.agent(&mut page)?;
        self.applies(&mut page)?;
        self.maps(&mut page)?;
        self.programs(&mut page)?;
        if let Some(routing) = &self.status.routing {
            super::routing::write(routing, &mut page)?;
        }
        if let Some(report) = &self.status.egress {
            super::egress::write(report, &self.egress, &mut page)?;
        }
        if let Some(policy) = &self.policy {
            policy.write(&mut page)?;
        }
        traffic::write(&self.traffic, self.kube_router.as_ref(), &mut page)
    }
}

/// What a counter of the programs counts.
fn counted(name: &str) -> String {
    let known = match name {
        "socket_connections" => "Connections given to an endpoint when a process connected",
        "socket_rejected" => "Connections refused when a process connected: no endpoint",
        "packet_connections" => "Connections begun by a packet",
        "packets_translated" => "Packets translated, both directions",
        "packets_rejected" => "Packets answered with RST or ICMP unreachable: no endpoint",
        "flows_rebalanced" => "UDP flows moved because their endpoint was gone",
        "errors_translated" => "ICMP errors translated",
        "fragments_translated" => "Later fragments translated",
        "tunnel_sent" => "Packets sent to the endpoint's node as they are",
        "tunnel_received" => "Packets received from the node they first came to",
        "connections_established" => "Connections that both sides have sent for",
        "egress_connections" => {
            "Connections of pods that left the cluster under the node's address"
        }
        "policy_audited" => "Connections that an audited policy would drop",
        "flows_lost" => "Events of single connections that came faster than they were read",
        "segments_clamped" => {
            "SYNs and their answers that ask for segments fitting a tunnel instead of longer ones"
        }
        "xdp_sent" => "Packets sent to the endpoint's node before the stack saw them",
        _ => return format!("Counted by the programs: {}", name.replace('_', " ")),
    };
    known.to_owned()
}
