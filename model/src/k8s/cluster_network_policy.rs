//! `policy.networking.k8s.io/v1alpha2/ClusterNetworkPolicy`.
//!
//! The API says what follows where a part is of a later version: an Accept rule matches nothing, a
//! Deny or Pass rule denies everything. Here that goes for every part that cannot be read, and what
//! holds a field that is not known here is such a part. Where it is unknown whom the policy concerns or when it is asked, its Deny rules alone are kept,
//! before all others.

use serde_json::Value;

use super::network_policy::{POLICY_MODE, is_not_before, network};
use super::read::{Field, Reader};
use super::selector::selector;
use crate::{
    ClusterNetworkPolicy, ClusterPolicyRule, LabelSelector, PeerSelection, PolicyPeer, PolicyPort,
    PortName, PortSelection, Protocol, RuleAction, Subject, Tier,
};

const GROUP: &str = "policy.networking.k8s.io/";
const DENY_ONLY: &str = "its Deny rules come first, its others are left out";
const CLOSED: &str = "an Accept rule matches nothing, any other denies everything";

/// `None` for another project's kind of the same name.
pub(super) fn reduce(reader: &Reader<'_>) -> Option<ClusterNetworkPolicy> {
    let version = reader.root().get("apiVersion");
    if version.is_some_and(|field| field.value.as_str().is_some_and(|v| !v.starts_with(GROUP))) {
        return None;
    }
    let spec = reader.section("spec");
    let tier = required(
        reader,
        &spec,
        "tier",
        "Admin or Baseline",
        |value| match value.as_str()? {
            "Admin" => Some(Tier::Admin),
            "Baseline" => Some(Tier::Baseline),
            _ => None,
        },
    );
    let priority = required(
        reader,
        &spec,
        "priority",
        "a number from 0 to 1000",
        |value| {
            u16::try_from(value.as_u64()?)
                .ok()
                .filter(|priority| *priority <= 1000)
        },
    );
    let subject = subject(reader, &spec);
    let known = ["tier", "priority", "subject", "ingress", "egress"];
    let is_known = reader.only_known(&spec, &known, DENY_ONLY).is_some();
    let is_whole = is_known && tier.is_some() && priority.is_some() && subject.is_some();
    audits_nothing(reader);
    let rules = |name: &str, peers: &str| -> Vec<ClusterPolicyRule> {
        let entries = reader.try_list(&spec, name, "everything is denied in this direction");
        let Some(entries) = entries else {
            return vec![deny_all()];
        };
        let rules = entries.iter().map(|entry| rule(reader, entry, peers));
        rules
            .map(|rule| match rule.action {
                RuleAction::Accept | RuleAction::Pass if !is_whole => nothing(),
                RuleAction::Accept | RuleAction::Deny | RuleAction::Pass => rule,
            })
            .collect()
    };
    Some(ClusterNetworkPolicy {
        key: reader.key.clone(),
        tier: tier.filter(|_| is_whole).unwrap_or(Tier::Admin),
        priority: priority.filter(|_| is_whole).unwrap_or(0),
        ingress: rules("ingress", "from"),
        egress: rules("egress", "to"),
        subject: subject.unwrap_or_else(|| Subject {
            namespaces: LabelSelector::default(),
            pods: LabelSelector::default(),
        }),
    })
}

/// Says that the mode of NetworkPolicies is none of these, where it is asked for.
fn audits_nothing(reader: &Reader<'_>) {
    let effect = "the policy is enforced";
    if let Some(field) = reader.annotation(POLICY_MODE, effect)
        && field.value != "enforce"
    {
        reader.problem(&field.path, "is for NetworkPolicies alone", effect);
    }
}

fn required<T>(
    reader: &Reader<'_>,
    parent: &Field<'_>,
    name: &str,
    expected: &str,
    parse: impl FnOnce(&Value) -> Option<T>,
) -> Option<T> {
    let field = reader.required(parent, name, DENY_ONLY)?;
    reader.parse(&field, expected, DENY_ONLY, parse)
}

fn deny_all() -> ClusterPolicyRule {
    ClusterPolicyRule {
        action: RuleAction::Deny,
        peers: PeerSelection::All,
        ports: PortSelection::All,
    }
}

/// A rule that keeps the index of one that is left out.
fn nothing() -> ClusterPolicyRule {
    ClusterPolicyRule {
        action: RuleAction::Accept,
        peers: PeerSelection::Only(Vec::new()),
        ports: PortSelection::Only(Vec::new()),
    }
}

/// The one member of a mapping that says which kind of thing it is.
fn only<'a>(
    reader: &Reader<'_>,
    field: &Field<'a>,
    names: &[&'static str],
    effect: &str,
) -> Option<(&'static str, Field<'a>)> {
    let members = field.value.as_object();
    let count = members.map_or(0, |all| {
        all.values().filter(|value| !value.is_null()).count()
    });
    let known = names
        .iter()
        .find_map(|name| Some((*name, field.get(name)?)));
    if count == 1 && known.is_some() {
        return known;
    }
    let message = format!("has not exactly one of {}", names.join(", "));
    reader.problem(&field.path, message, effect);
    None
}

fn subject(reader: &Reader<'_>, spec: &Field<'_>) -> Option<Subject> {
    let field = reader.required(spec, "subject", DENY_ONLY)?;
    reader.mapping(&field, DENY_ONLY)?;
    let (name, field) = only(reader, &field, &["namespaces", "pods"], DENY_ONLY)?;
    in_namespaces(reader, name, &field, DENY_ONLY)
}

/// `namespaces` (all their pods) or `pods`.
fn in_namespaces(
    reader: &Reader<'_>,
    name: &str,
    field: &Field<'_>,
    effect: &str,
) -> Option<Subject> {
    if name == "namespaces" {
        return Some(Subject {
            namespaces: selector(reader, field, effect)?,
            pods: LabelSelector::default(),
        });
    }
    reader.mapping(field, effect)?;
    reader.only_known(field, &["namespaceSelector", "podSelector"], effect)?;
    let part = |name| {
        let field = reader.required(field, name, effect)?;
        selector(reader, &field, effect)
    };
    Some(Subject {
        namespaces: part("namespaceSelector")?,
        pods: part("podSelector")?,
    })
}

fn rule(reader: &Reader<'_>, entry: &Field<'_>, peers_name: &str) -> ClusterPolicyRule {
    if reader.mapping(entry, "it denies everything").is_none() {
        return deny_all();
    }
    let effect = "the rule denies";
    let action = reader.required(entry, "action", effect).and_then(|field| {
        reader.parse(
            &field,
            "Accept, Deny or Pass",
            effect,
            |value| match value.as_str()? {
                "Accept" => Some(RuleAction::Accept),
                "Deny" => Some(RuleAction::Deny),
                "Pass" => Some(RuleAction::Pass),
                _ => None,
            },
        )
    });
    let action = action.unwrap_or(RuleAction::Deny);
    let (peers, ports) = (peers(reader, entry, peers_name), protocols(reader, entry));
    let known = ["name", "action", peers_name, "protocols"];
    let unknown = reader.only_known(entry, &known, CLOSED).is_none();
    match (action, unknown || peers.unreadable || ports.unreadable) {
        (RuleAction::Deny | RuleAction::Pass, true) => deny_all(),
        (RuleAction::Accept, true) => nothing(),
        (_, false) => ClusterPolicyRule {
            action,
            peers: PeerSelection::Only(peers.readable),
            ports: match ports.readable {
                _ if entry.get("protocols").is_none() => PortSelection::All,
                ports => PortSelection::Only(ports),
            },
        },
    }
}

/// Elements of a list, and whether there were others.
struct Elements<T> {
    readable: Vec<T>,
    unreadable: bool,
}

impl<T> Elements<T> {
    fn of(found: impl Iterator<Item = Option<Vec<T>>>) -> Self {
        let (mut readable, mut unreadable) = (Vec::new(), false);
        for elements in found {
            unreadable |= elements.is_none();
            readable.extend(elements.into_iter().flatten());
        }
        Self {
            readable,
            unreadable,
        }
    }

    fn none() -> Self {
        Self::of(std::iter::once(None))
    }
}

fn peers(reader: &Reader<'_>, entry: &Field<'_>, name: &str) -> Elements<PolicyPeer> {
    let entries = reader.required(entry, name, CLOSED);
    let entries = entries.and_then(|_| reader.try_list(entry, name, CLOSED));
    let Some(entries) = entries else {
        return Elements::none();
    };
    if entries.is_empty() {
        reader.problem(&format!("{}.{name}", entry.path), "is empty", CLOSED);
        return Elements::none();
    }
    // Nodes and networks are no peers of ingress in this version.
    let names: &[&str] = match name {
        "from" => &["namespaces", "pods"],
        _ => &["namespaces", "pods", "nodes", "networks"],
    };
    Elements::of(entries.iter().map(|entry| peer(reader, entry, names)))
}

fn peer(reader: &Reader<'_>, entry: &Field<'_>, names: &[&'static str]) -> Option<Vec<PolicyPeer>> {
    reader.mapping(entry, CLOSED)?;
    let (name, field) = only(reader, entry, names, CLOSED)?;
    match name {
        "nodes" => Some(vec![PolicyPeer::Nodes(selector(reader, &field, CLOSED)?)]),
        "networks" => {
            let networks = reader.try_list(entry, "networks", CLOSED)?;
            let block = |field| {
                let cidr = network(reader, field, CLOSED)?;
                let except = Vec::new();
                Some(PolicyPeer::IpBlock { cidr, except })
            };
            networks.iter().map(block).collect()
        }
        _ => {
            let Subject { namespaces, pods } = in_namespaces(reader, name, &field, CLOSED)?;
            let namespaces = Some(namespaces);
            Some(vec![PolicyPeer::Pods { pods, namespaces }])
        }
    }
}

fn protocols(reader: &Reader<'_>, entry: &Field<'_>) -> Elements<PolicyPort> {
    let Some(entries) = reader.try_list(entry, "protocols", CLOSED) else {
        return Elements::none();
    };
    Elements::of(entries.iter().map(|entry| protocol(reader, entry)))
}

fn protocol(reader: &Reader<'_>, entry: &Field<'_>) -> Option<Vec<PolicyPort>> {
    reader.mapping(entry, CLOSED)?;
    let names = ["tcp", "udp", "sctp", "destinationNamedPort"];
    let (name, field) = only(reader, entry, &names, CLOSED)?;
    let protocol = match name {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => {
            let name = PortName::new(Some(reader.text(&field, CLOSED)?));
            let named = |protocol| PolicyPort::Named {
                protocol,
                name: name.clone(),
            };
            return Some(
                [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                    .map(named)
                    .into(),
            );
        }
    };
    reader.mapping(&field, CLOSED)?;
    reader.only_known(&field, &["destinationPort"], CLOSED)?;
    let Some(port) = field.get("destinationPort") else {
        return Some(vec![PolicyPort::Protocol(protocol)]);
    };
    reader.mapping(&port, CLOSED)?;
    let (name, field) = only(reader, &port, &["number", "range"], CLOSED)?;
    let (first, last) = if name == "number" {
        let port = reader.port(&field, CLOSED)?;
        (port, port)
    } else {
        reader.mapping(&field, CLOSED)?;
        reader.only_known(&field, &["start", "end"], CLOSED)?;
        let (start, end) = (
            reader.required(&field, "start", CLOSED)?,
            reader.required(&field, "end", CLOSED)?,
        );
        let (first, last) = (reader.port(&start, CLOSED)?, reader.port(&end, CLOSED)?);
        is_not_before(reader, &end, first, last).then_some((first, last))?
    };
    Some(vec![PolicyPort::Range {
        protocol,
        first,
        last,
    }])
}
