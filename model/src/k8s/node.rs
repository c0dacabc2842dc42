//! `v1/Node`.

use super::read::{Field, Reader};
use crate::{Node, NodeAddress, NodeAddressType};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const NOT_SERVED: &str = "node ports are not served at this address";

pub(super) fn reduce(reader: &Reader<'_>) -> Node {
    let (spec, status) = (reader.section("spec"), reader.section("status"));
    let ignored = "it is ignored";
    let mut cidrs = reader.list(&spec, "podCIDRs", ignored);
    if cidrs.is_empty() {
        cidrs.extend(spec.get("podCIDR").filter(|field| field.value != ""));
    }
    let network = |field: Field<'_>| {
        reader.parse(&field, "a network as in 10.0.0.0/24", ignored, |value| {
            value.as_str()?.parse().ok()
        })
    };
    Node {
        key: reader.key.clone(),
        addresses: reader
            .mappings(&status, "addresses", NOT_SERVED)
            .iter()
            .filter_map(|entry| address(reader, entry))
            .collect(),
        pod_cidrs: cidrs.into_iter().filter_map(network).collect(),
        labels: reader.strings(
            &reader.section("metadata"),
            "labels",
            "no selector can find it",
        ),
        created_unix_seconds: reader.created(),
        zone: reader
            .label(ZONE_LABEL, "the node counts as in no zone")
            .map(Into::into),
    }
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
