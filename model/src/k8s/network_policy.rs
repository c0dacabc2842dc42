//! `networking.k8s.io/v1/NetworkPolicy`.
//!
//! What makes no sense must not open anything: a rule, peer or port that cannot be read selects
//! nothing.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::read::{Field, Reader};
use crate::{
    LabelSelector, NetworkPolicy, PeerSelection, PolicyPeer, PolicyPort, PolicyRule, PortName,
    PortSelection, Requirement,
};

const CLOSED: &str = "it allows nothing";

pub(super) fn reduce(reader: &Reader<'_>) -> NetworkPolicy {
    let spec = reader.section("spec");
    let types: Vec<&str> = spec
        .list("policyTypes")
        .iter()
        .filter_map(|field| field.value.as_str())
        .collect();
    // Without `policyTypes`, a policy is about ingress, and about egress where it has such rules.
    let isolates = |direction: &str, by_default| {
        if types.is_empty() {
            by_default
        } else {
            types.contains(&direction)
        }
    };
    let ingress = isolates("Ingress", true);
    let egress = isolates("Egress", !spec.list("egress").is_empty());
    let rules = |name: &str, peers: &str| {
        spec.list(name)
            .iter()
            .map(|entry| rule(reader, entry, peers))
            .collect()
    };
    NetworkPolicy {
        key: reader.key.clone(),
        pods: spec
            .get("podSelector")
            .and_then(|field| selector(reader, &field))
            .unwrap_or_default(),
        ingress: ingress.then(|| rules("ingress", "from")),
        egress: egress.then(|| rules("egress", "to")),
    }
}

fn rule(reader: &Reader<'_>, entry: &Field<'_>, peers: &str) -> PolicyRule {
    let (peers, ports) = (entry.list(peers), entry.list("ports"));
    PolicyRule {
        peers: if peers.is_empty() {
            PeerSelection::All
        } else {
            PeerSelection::Only(
                peers
                    .iter()
                    .filter_map(|entry| peer(reader, entry))
                    .collect(),
            )
        },
        ports: if ports.is_empty() {
            PortSelection::All
        } else {
            PortSelection::Only(
                ports
                    .iter()
                    .filter_map(|entry| port(reader, entry))
                    .collect(),
            )
        },
    }
}

fn peer(reader: &Reader<'_>, entry: &Field<'_>) -> Option<PolicyPeer> {
    let network = |field: &Field<'_>| {
        reader.parse(field, "a network as in 10.0.0.0/24", CLOSED, |value| {
            value.as_str()?.parse().ok()
        })
    };
    if let Some(block) = entry.get("ipBlock") {
        let cidr = network(&block.get("cidr")?)?;
        let except = block
            .list("except")
            .iter()
            .map(network)
            .collect::<Option<_>>()?;
        return Some(PolicyPeer::IpBlock { cidr, except });
    }
    let (pods, namespaces) = (entry.get("podSelector"), entry.get("namespaceSelector"));
    if pods.is_none() && namespaces.is_none() {
        reader.problem(
            &entry.path,
            "names neither pods nor namespaces nor addresses",
            CLOSED,
        );
        return None;
    }
    Some(PolicyPeer::Pods {
        pods: pods.map_or(Some(LabelSelector::default()), |field| {
            selector(reader, &field)
        })?,
        namespaces: match namespaces {
            Some(field) => Some(selector(reader, &field)?),
            None => None,
        },
    })
}

fn port(reader: &Reader<'_>, entry: &Field<'_>) -> Option<PolicyPort> {
    let protocol = reader.protocol(entry, CLOSED)?;
    let Some(field) = entry.get("port") else {
        return Some(PolicyPort::Protocol(protocol));
    };
    if let Some(name) = field.value.as_str() {
        return Some(PolicyPort::Named {
            protocol,
            name: PortName::new(Some(name)),
        });
    }
    let first = reader.port(&field, CLOSED)?;
    let last = match entry.get("endPort") {
        None => first,
        Some(field) => reader
            .port(&field, CLOSED)
            .filter(|last| is_not_before(reader, &field, first, *last))?,
    };
    Some(PolicyPort::Range {
        protocol,
        first,
        last,
    })
}

fn is_not_before(
    reader: &Reader<'_>,
    field: &Field<'_>,
    first: NonZeroU16,
    last: NonZeroU16,
) -> bool {
    if last < first {
        reader.problem(
            &field.path,
            format!("is {last}, which is before port {first}"),
            CLOSED,
        );
    }
    last >= first
}

fn selector(reader: &Reader<'_>, field: &Field<'_>) -> Option<LabelSelector> {
    let labels = reader.strings(field, "matchLabels").into_iter();
    let mut requirements: Vec<Requirement> = labels
        .map(|(key, value)| Requirement::In(key, vec![value]))
        .collect();
    for entry in field.list("matchExpressions") {
        let key: Arc<str> = reader.text(&entry.get("key")?, CLOSED)?.into();
        let values = entry
            .list("values")
            .iter()
            .filter_map(|v| v.value.as_str().map(Into::into))
            .collect();
        let operator = entry.get("operator")?;
        requirements.push(match operator.value.as_str() {
            Some("In") => Requirement::In(key, values),
            Some("NotIn") => Requirement::NotIn(key, values),
            Some("Exists") => Requirement::Exists(key),
            Some("DoesNotExist") => Requirement::DoesNotExist(key),
            _ => {
                reader.problem(
                    &operator.path,
                    "is not In, NotIn, Exists or DoesNotExist",
                    CLOSED,
                );
                return None;
            }
        });
    }
    Some(LabelSelector { requirements })
}
