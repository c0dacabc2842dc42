//! Annotations of a Service: fairlead's own, and those of kube-router.

use std::net::IpAddr;

use super::read::{Field, Reader};
use crate::{Scheduler, Tuning, WeightedPeer};

/// Largest weight, so that a table of weighted backends stays small.
const HEAVIEST: u16 = 100;

/// What the annotations ask for; `None` where that is nothing.
pub(super) fn of(reader: &Reader<'_>) -> Option<Tuning> {
    let tuning = Tuning {
        scheduler: scheduler(reader),
        direct_return: direct_return(reader),
        weights: weights(reader),
    };
    (tuning != Tuning::default()).then_some(tuning)
}

fn scheduler(reader: &Reader<'_>) -> Option<Scheduler> {
    let effect = "backends are chosen at random";
    let flags = reader.annotation("kube-router.io/service.schedflags", effect);
    let with_port = flags
        .as_ref()
        .is_some_and(|field| has_flag(reader, field, "flag-2"));
    let own = reader.annotation("fairlead.io/scheduler", effect);
    let field = own.or_else(|| reader.annotation("kube-router.io/service.scheduler", effect))?;
    let expected = "rr, lc, sh, dh, mh or random";
    reader.parse(&field, expected, effect, |value| {
        Some(match value.as_str()?.trim() {
            "rr" => Scheduler::RoundRobin,
            "lc" => Scheduler::LeastConnections,
            "sh" => Scheduler::SourceHash,
            "dh" => Scheduler::DestinationHash,
            "mh" => Scheduler::Maglev { with_port },
            "random" => Scheduler::Random,
            _ => return None,
        })
    })
}

/// Whether a list of IPVS scheduler flags has one; what is no flag is reported.
fn has_flag(reader: &Reader<'_>, field: &Field<'_>, flag: &str) -> bool {
    let given = field.value.as_str().unwrap_or_default().split(',');
    let mut found = false;
    for name in given.map(str::trim) {
        if !["flag-1", "flag-2", "flag-3"].contains(&name) {
            let message = format!("has `{name}`, which is not flag-1, flag-2 or flag-3");
            reader.problem(&field.path, message, "it is ignored");
        }
        found |= name == flag;
    }
    found
}

fn direct_return(reader: &Reader<'_>) -> bool {
    let effect = "replies pass the node that was asked";
    let of_kube_router = reader.annotation("kube-router.io/service.dsr", effect);
    if let Some(field) = of_kube_router {
        let known = |value: &serde_json::Value| (value.as_str()? == "tunnel").then_some(());
        return reader.parse(&field, "`tunnel`", effect, known).is_some();
    }
    let own = reader.annotation("fairlead.io/dsr", effect);
    let parsed = own.and_then(|field| {
        reader.parse(&field, "`true` or `false`", effect, |value| {
            value.as_str()?.parse::<bool>().ok()
        })
    });
    parsed.unwrap_or(false)
}

fn weights(reader: &Reader<'_>) -> Vec<(WeightedPeer, u16)> {
    let effect = "this entry is ignored";
    let Some(field) = reader.annotation("fairlead.io/weights", effect) else {
        return Vec::new();
    };
    let mut weights = Vec::new();
    for entry in field.value.as_str().unwrap_or_default().split(',') {
        match weight(entry.trim()) {
            Some(weight) => weights.push(weight),
            None => reader.problem(
                &field.path,
                format!(
                    "has `{}`, not PEER=WEIGHT with ADDRESS, node/NAME, zone/NAME or * and 0 to {HEAVIEST}",
                    entry.trim()
                ),
                effect,
            ),
        }
    }
    weights
}

fn weight(entry: &str) -> Option<(WeightedPeer, u16)> {
    let (peer, weight) = entry.split_once('=')?;
    let weight: u16 = weight.trim().parse().ok()?;
    let peer = match peer.trim().split_once('/') {
        Some(("node", name)) if !name.is_empty() => WeightedPeer::Node(name.into()),
        Some(("zone", name)) if !name.is_empty() => WeightedPeer::Zone(name.into()),
        Some(_) => return None,
        None if peer.trim() == "*" => WeightedPeer::Rest,
        None => WeightedPeer::Address(peer.trim().parse::<IpAddr>().ok()?),
    };
    (weight <= HEAVIEST).then_some((peer, weight))
}
