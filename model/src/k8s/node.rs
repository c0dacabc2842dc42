//! `v1/Node`.

use super::read::{Field, Reader};
use crate::{Node, NodeAddress, NodeAddressType, ObjectKey};

pub(super) fn reduce(reader: &Reader<'_>) -> Node {
    let (spec, status) = (reader.section("spec"), reader.section("status"));
    let mut cidrs = spec.list("podCIDRs");
    if cidrs.is_empty() {
        cidrs.extend(spec.get("podCIDR").filter(|field| field.value != ""));
    }
    let network = |field: Field<'_>| {
        reader.parse(
            &field,
            "a network as in 10.0.0.0/24",
            "it is ignored",
            |value| value.as_str()?.parse().ok(),
        )
    };
    Node {
        key: ObjectKey::cluster_scoped(&reader.key.name),
        addresses: status
            .list("addresses")
            .iter()
            .filter_map(|entry| address(reader, entry))
            .collect(),
        pod_cidrs: cidrs.into_iter().filter_map(network).collect(),
    }
}

fn address(reader: &Reader<'_>, entry: &Field<'_>) -> Option<NodeAddress> {
    let address_type = match entry.get("type")?.value.as_str()? {
        "InternalIP" => NodeAddressType::InternalIp,
        "ExternalIP" => NodeAddressType::ExternalIp,
        // Host names and whatever else a cloud provider writes are no addresses.
        _ => return None,
    };
    let address = reader.address(
        &entry.get("address")?,
        "node ports are not served at this address",
    )?;
    Some(NodeAddress {
        address_type,
        address,
    })
}
