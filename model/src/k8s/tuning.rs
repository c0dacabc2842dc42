//! Annotations of a Service: fairlead's own, and those of kube-router.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::read::Reader;
use crate::{Scheduler, Tuning, WeightedPeer};

/// Largest weight, so that a table of weighted backends stays small.
const HEAVIEST: u16 = 100;

/// What the annotations ask for; `None` where that is nothing.
pub(super) fn of(reader: &Reader<'_>) -> Option<Tuning> {
    let scheduler_flags = scheduler_flags(reader);
    let tuning = Tuning {
        scheduler: scheduler(reader, &scheduler_flags),
        scheduler_flags,
        direct_return: direct_return(reader),
        weights: weights(reader),
    };
    (tuning != Tuning::default()).then_some(tuning)
}

fn scheduler(reader: &Reader<'_>, flags: &BTreeSet<u8>) -> Option<Scheduler> {
    // IPVS's `mh-port`.
    let with_port = flags.contains(&2);
    let effect = "backends are chosen at random";
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

/// The numbers of IPVS's scheduler flags in a list; what is no flag is reported.
fn scheduler_flags(reader: &Reader<'_>) -> BTreeSet<u8> {
    let effect = "it is ignored";
    let Some(field) = reader.annotation("kube-router.io/service.schedflags", effect) else {
        return BTreeSet::new();
    };
    let given = field.value.as_str().unwrap_or_default().split(',');
    let number = |name: &str| match name {
        "flag-1" => Some(1),
        "flag-2" => Some(2),
        "flag-3" => Some(3),
        _ => {
            let message = format!("has `{name}`, which is not flag-1, flag-2 or flag-3");
            reader.problem(&field.path, message, effect);
            None
        }
    };
    given.map(str::trim).filter_map(number).collect()
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
