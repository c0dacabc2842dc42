//! Traffic of Services as metrics: under this agent's names, and under kube-router's.

use std::fmt;

use agent_abi::counters::TrafficV1;
use model::IpFamily;

use super::kernel::TrafficRow;
use super::page::{Labels, Page};
use super::rates::{Rate, Rates};
use crate::desired::Owner;

type Part = fn(&TrafficV1) -> u64;

/// A counter that has both directions, `in` first.
struct InAndOut {
    name: &'static str,
    help: &'static str,
    parts: [Part; 2],
}

const IN_AND_OUT: [InAndOut; 2] = [
    InAndOut {
        name: "packets",
        help: "Packets from clients (in) and to clients (out), but for connections balanced at connect",
        parts: [|traffic| traffic.packets_in, |traffic| traffic.packets_out],
    },
    InAndOut {
        name: "bytes",
        help: "Bytes of these packets, network header and up",
        parts: [|traffic| traffic.bytes_in, |traffic| traffic.bytes_out],
    },
];

/// As kube-router spells them, with its labels; gauges there, so gauges here.
const KUBE_ROUTER: [(&str, &str, Part); 5] = [
    (
        "kube_router_service_total_connections",
        "Total incoming connections made",
        |traffic| traffic.connections,
    ),
    (
        "kube_router_service_packets_in",
        "Total incoming packets",
        |traffic| traffic.packets_in,
    ),
    (
        "kube_router_service_packets_out",
        "Total outgoing packets",
        |traffic| traffic.packets_out,
    ),
    (
        "kube_router_service_bytes_in",
        "Total incoming bytes",
        |traffic| traffic.bytes_in,
    ),
    (
        "kube_router_service_bytes_out",
        "Total outgoing bytes",
        |traffic| traffic.bytes_out,
    ),
];

type InASecond = fn(&Rate) -> f64;

const KUBE_ROUTER_RATES: [(&str, &str, InASecond); 5] = [
    (
        "kube_router_service_cps",
        "Incoming connections per second",
        |rate| rate.connections,
    ),
    (
        "kube_router_service_pps_in",
        "Incoming packets per second",
        |rate| rate.packets_in,
    ),
    (
        "kube_router_service_pps_out",
        "Outgoing packets per second",
        |rate| rate.packets_out,
    ),
    (
        "kube_router_service_bps_in",
        "Incoming bytes per second",
        |rate| rate.bytes_in,
    ),
    (
        "kube_router_service_bps_out",
        "Outgoing bytes per second",
        |rate| rate.bytes_out,
    ),
];

/// Writes the families of `rows`.
pub(super) fn write(
    rows: &[TrafficRow],
    kube_router: Option<&Rates>,
    page: &mut Page<'_>,
) -> fmt::Result {
    for (prefix, whose) in [
        ("fairlead_service", "service"),
        ("fairlead_host_port", "pod"),
    ] {
        let of_owner = |row: &&TrafficRow| {
            let kind = match row.unit.owner {
                Owner::Service(_) => "service",
                Owner::Pod(_) => "pod",
            };
            kind == whose
        };
        let rows: Vec<&TrafficRow> = rows.iter().filter(of_owner).collect();
        let connections = rows.iter();
        page.counters(
            &format!("{prefix}_connections"),
            "Connections begun, at connect or by a packet",
            connections.map(|row| (labels(row, whose), row.traffic.connections)),
        )?;
        for InAndOut { name, help, parts } in &IN_AND_OUT {
            let samples = rows.iter().flat_map(|row| {
                ["in", "out"]
                    .into_iter()
                    .zip(parts)
                    .map(|(direction, part)| {
                        let mut labels = labels(row, whose);
                        labels.push(("direction", direction.to_owned()));
                        (labels, part(&row.traffic))
                    })
            });
            page.counters(&format!("{prefix}_{name}"), help, samples)?;
        }
    }
    let Some(rates) = kube_router else {
        return Ok(());
    };
    for (name, help, part) in KUBE_ROUTER {
        let samples = rows
            .iter()
            .filter_map(|row| Some((labels_of_kube_router(row)?, part(&row.traffic))));
        page.gauges(name, help, samples)?;
    }
    for (name, help, in_a_second) in KUBE_ROUTER_RATES {
        let samples = rows.iter().filter_map(|row| {
            let rate = rates.get(&row.unit)?;
            Some((labels_of_kube_router(row)?, in_a_second(rate)))
        });
        page.gauges(name, help, samples)?;
    }
    Ok(())
}

fn labels(row: &TrafficRow, whose: &'static str) -> Labels {
    let object = row.unit.owner.key();
    let family = match row.unit.family {
        IpFamily::V4 => "ipv4",
        IpFamily::V6 => "ipv6",
    };
    vec![
        ("namespace", object.namespace.to_string()),
        (whose, object.name.to_string()),
        ("port", row.unit.port.to_string()),
        ("protocol", row.unit.protocol.to_string()),
        ("family", family.to_owned()),
    ]
}

fn labels_of_kube_router(row: &TrafficRow) -> Option<Labels> {
    let object = row.unit.owner.key();
    let cluster_ip = row.cluster_ip?;
    Some(vec![
        ("svc_namespace", object.namespace.to_string()),
        ("service_name", object.name.to_string()),
        ("service_vip", cluster_ip.ip().to_string()),
        ("protocol", row.unit.protocol.to_string()),
        ("port", cluster_ip.port().to_string()),
    ])
}
