//! `v1/Node`.

use ipnet::IpNet;

use super::read::{Field, Reader};
use crate::{Node, NodeAddress, NodeAddressType};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// kube-router's, with commas between networks; in place of what the object has. The first of them
/// that is there counts alone.
const POD_CIDRS: [&str; 2] = ["kube-router.io/pod-cidrs", "kube-router.io/pod-cidr"];
const NOT_SERVED: &str = "node ports are not served at this address";

pub(super) fn reduce(reader: &Reader<'_>, is_for_edge: bool) -> Node {
    let (spec, status) = (reader.section("spec"), reader.section("status"));
    Node {
        key: reader.key.clone(),
        addresses: reader
            .mappings(&status, "addresses", NOT_SERVED)
            .iter()
            .filter_map(|entry| address(reader, entry))
            .collect(),
        pod_cidrs: pod_cidrs(reader, &spec),
        labels: reader.strings(
            &reader.section("metadata"),
            "labels",
            "no selector can find it",
        ),
        created_unix_seconds: reader.created(),
        zone: reader
            .label(ZONE_LABEL, "the node counts as in no zone")
            .map(Into::into),
        is_ready: !is_for_edge || is_ready(reader, &status),
    }
}

fn is_ready(reader: &Reader<'_>, status: &Field<'_>) -> bool {
    let conditions = reader.mappings(status, "conditions", "the node counts as ready");
    let is = |condition: &Field<'_>, name, value| {
        let field = condition.get(name);
        field.is_some_and(|field| field.value == value)
    };
    let mut ready = conditions.iter().filter(|it| is(it, "type", "Ready"));
    ready.all(|condition| is(condition, "status", "True"))
}

/// Where the node's pods get their addresses from.
fn pod_cidrs(reader: &Reader<'_>, spec: &Field<'_>) -> Vec<IpNet> {
    const EXPECTED: &str = "a network as in 10.0.0.0/24";
    let given = POD_CIDRS
        .iter()
        .find_map(|name| reader.annotation(name, "spec.podCIDRs counts"));
    if let Some(field) = given {
        let mut networks = Vec::new();
        for text in field.value.as_str().unwrap_or_default().split(',') {
            match text.trim().parse() {
                Ok(network) => networks.push(network),
                Err(_) => reader.problem(
                    &field.path,
                    format!("has `{text}`, which is not {EXPECTED}"),
                    "it is ignored; where none is left, spec.podCIDRs counts",
                ),
            }
        }
        if !networks.is_empty() {
            return networks;
        }
    }
    let ignored = "it is ignored";
    let mut cidrs = reader.list(spec, "podCIDRs", ignored);
    if cidrs.is_empty() {
        cidrs.extend(spec.get("podCIDR").filter(|field| field.value != ""));
    }
    let network = |field: Field<'_>| {
        reader.parse(&field, EXPECTED, ignored, |value| {
            value.as_str()?.parse().ok()
        })
    };
    cidrs.into_iter().filter_map(network).collect()
}

fn address(reader: &Reader<'_>, entry: &Field<'_>) -> Option<NodeAddress> {
    let address_type = match reader.text(&entry.get("type")?, NOT_SERVED)? {
        "InternalIP" => NodeAddressType::InternalIp,
        "ExternalIP" => NodeAddressType::ExternalIp,
        // Host names and whatever else a cloud provider writes are no addresses.
        _ => return None,
    };
    let address = reader.address(&entry.get("address")?, NOT_SERVED)?;
    Some(NodeAddress {
        address_type,
        address,
    })
}
