//! `networking.k8s.io/v1/NetworkPolicy`.
//!
//! What makes no sense must not open anything: a rule, peer or port that cannot be read selects
//! nothing, and a direction that cannot be read is isolated. A field that is not known here may be
//! one that narrows what stands beside it, so it counts as one that cannot be read.

use std::num::NonZeroU16;

use ipnet::IpNet;

use super::read::{Field, Reader};
use super::selector::selector;
use crate::{
    LabelSelector, NetworkPolicy, PeerSelection, PolicyMode, PolicyPeer, PolicyPort, PolicyRule,
    PortName, PortSelection,
};

/// The annotation that says what becomes of what a policy denies.
pub(super) const POLICY_MODE: &str = "fairlead.io/policy-mode";

const CLOSED: &str = "it allows nothing";
const ISOLATED: &str = "the policy isolates both directions";
const ISOLATED_BY_DEFAULT: &str = "the policy isolates both directions where it has no policyTypes";

pub(super) fn reduce(reader: &Reader<'_>) -> Option<NetworkPolicy> {
    let spec = reader.section("spec");
    let rules = |name: &str, peers: &str| -> Vec<PolicyRule> {
        let entries = reader.try_list(&spec, name, "the policy isolates and allows nothing");
        let entries = entries.iter().flatten();
        entries
            .map(|entry| {
                rule(reader, entry, peers).unwrap_or(PolicyRule {
                    peers: PeerSelection::Only(Vec::new()),
                    ports: PortSelection::Only(Vec::new()),
                })
            })
            .collect()
    };
    let (isolates_ingress, isolates_egress) = isolates(reader, &spec);
    Some(NetworkPolicy {
        key: reader.key.clone(),
        mode: mode(reader),
        pods: spec
            .get("podSelector")
            .and_then(|field| selector(reader, &field, "the policy applies to every pod"))
            .unwrap_or_default(),
        ingress: isolates_ingress.then(|| rules("ingress", "from")),
        egress: isolates_egress.then(|| rules("egress", "to")),
    })
}

/// Whether it only says what it would deny. What cannot be read is enforced.
fn mode(reader: &Reader<'_>) -> PolicyMode {
    let effect = "the policy is enforced";
    let field = reader.annotation(POLICY_MODE, effect);
    let mode = field.and_then(|field| {
        reader.parse(&field, "audit or enforce", effect, |value| {
            match value.as_str()? {
                "audit" => Some(PolicyMode::Audit),
                "enforce" => Some(PolicyMode::Enforce),
                _ => None,
            }
        })
    });
    mode.unwrap_or_default()
}

/// Whether ingress and egress are isolated. Without `policyTypes` ingress is, and egress where the
/// policy has a word about it.
fn isolates(reader: &Reader<'_>, spec: &Field<'_>) -> (bool, bool) {
    let egress = spec.get("egress");
    let by_default =
        egress.is_some_and(|field| field.value.as_array().is_none_or(|l| !l.is_empty()));
    let known = ["podSelector", "policyTypes", "ingress", "egress"];
    let is_known = reader.only_known(spec, &known, ISOLATED_BY_DEFAULT);
    let Some(types) = reader.try_list(spec, "policyTypes", ISOLATED) else {
        return (true, true);
    };
    if types.is_empty() {
        return (true, by_default || is_known.is_none());
    }
    let mut isolates = (false, false);
    for field in &types {
        match field.value.as_str() {
            Some("Ingress") => isolates.0 = true,
            Some("Egress") => isolates.1 = true,
            _ => {
                let expected = "Ingress or Egress";
                reader.parse(field, expected, ISOLATED, |_| None::<()>);
                isolates = (true, true);
            }
        }
    }
    isolates
}

fn rule(reader: &Reader<'_>, entry: &Field<'_>, peers: &str) -> Option<PolicyRule> {
    reader.mapping(entry, CLOSED)?;
    reader.only_known(entry, &[peers, "ports"], CLOSED)?;
    let peers = reader.try_list(entry, peers, CLOSED)?;
    let ports = reader.try_list(entry, "ports", CLOSED)?;
    Some(PolicyRule {
        peers: if peers.is_empty() {
            PeerSelection::All
        } else {
            let peers = peers.iter().filter_map(|entry| peer(reader, entry));
            PeerSelection::Only(peers.collect())
        },
        ports: if ports.is_empty() {
            PortSelection::All
        } else {
            let ports = ports.iter().filter_map(|entry| port(reader, entry));
            PortSelection::Only(ports.collect())
        },
    })
}

fn peer(reader: &Reader<'_>, entry: &Field<'_>) -> Option<PolicyPeer> {
    reader.mapping(entry, CLOSED)?;
    let known = ["podSelector", "namespaceSelector", "ipBlock"];
    reader.only_known(entry, &known, CLOSED)?;
    let (pods, namespaces) = (entry.get("podSelector"), entry.get("namespaceSelector"));
    if let Some(block) = entry.get("ipBlock") {
        if pods.is_some() || namespaces.is_some() {
            reader.problem(&block.path, "stands beside a selector", CLOSED);
            return None;
        }
        reader.only_known(&block, &["cidr", "except"], CLOSED)?;
        let cidr = network(reader, &reader.required(&block, "cidr", CLOSED)?, CLOSED)?;
        // An exception that cannot be read must not be allowed with the rest of the block.
        let except = reader.try_list(&block, "except", CLOSED)?;
        let except = except.iter().map(|field| network(reader, field, CLOSED));
        let except = except.collect::<Option<_>>()?;
        return Some(PolicyPeer::IpBlock { cidr, except });
    }
    if pods.is_none() && namespaces.is_none() {
        reader.problem(
            &entry.path,
            "names neither pods nor namespaces nor addresses",
            CLOSED,
        );
        return None;
    }
    Some(PolicyPeer::Pods {
        pods: match pods {
            Some(field) => selector(reader, &field, CLOSED)?,
            None => LabelSelector::default(),
        },
        namespaces: match namespaces {
            Some(field) => Some(selector(reader, &field, CLOSED)?),
            None => None,
        },
    })
}

/// A network; of an address with host bits, the network it is in, as API servers take it.
pub(super) fn network(reader: &Reader<'_>, field: &Field<'_>, effect: &str) -> Option<IpNet> {
    reader.parse(field, "a network as in 10.0.0.0/24", effect, |value| {
        Some(value.as_str()?.parse::<IpNet>().ok()?.trunc())
    })
}

fn port(reader: &Reader<'_>, entry: &Field<'_>) -> Option<PolicyPort> {
    reader.mapping(entry, CLOSED)?;
    reader.only_known(entry, &["protocol", "port", "endPort"], CLOSED)?;
    let protocol = reader.protocol(entry, CLOSED)?;
    let (field, end) = (entry.get("port"), entry.get("endPort"));
    let named = field.as_ref().and_then(|field| field.value.as_str());
    if let Some(end) = &end
        && (field.is_none() || named.is_some())
    {
        reader.problem(&end.path, "needs a `port` that is a number", CLOSED);
        return None;
    }
    let Some(field) = field else {
        return Some(PolicyPort::Protocol(protocol));
    };
    if let Some(name) = named {
        let name = PortName::new(Some(name));
        return Some(PolicyPort::Named { protocol, name });
    }
    let first = reader.port(&field, CLOSED)?;
    let last = match end {
        None => first,
        Some(end) => reader
            .port(&end, CLOSED)
            .filter(|last| is_not_before(reader, &end, first, *last))?,
    };
    Some(PolicyPort::Range {
        protocol,
        first,
        last,
    })
}

pub(super) fn is_not_before(
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
