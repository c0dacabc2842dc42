//! `discovery.k8s.io/v1/EndpointSlice`.

use std::net::IpAddr;

use super::read::{Field, Reader};
use crate::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, IpFamily, ObjectKey, PortName,
};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const NO_PORT: &str = "the slice's endpoints do not serve this port";
const NO_TRAFFIC: &str = "this endpoint gets no traffic";

/// `None` for slices of names (FQDN), which are nothing to a proxy.
pub(super) fn reduce(reader: &Reader<'_>) -> Option<EndpointSlice> {
    let root = reader.root();
    let left_out = "the slice is left out";
    let Some(field) = root.get("addressType") else {
        reader.problem("addressType", "is missing", left_out);
        return None;
    };
    let family = match reader.text(&field, left_out)? {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        "FQDN" => return None,
        other => {
            reader.problem(
                &field.path,
                format!("is `{other}`, not IPv4, IPv6 or FQDN"),
                left_out,
            );
            return None;
        }
    };
    Some(EndpointSlice {
        key: reader.key.clone(),
        service: reader
            .label(SERVICE_NAME_LABEL, "the slice belongs to no Service")
            .map(|name| ObjectKey::new(&reader.key.namespace, name)),
        family,
        ports: reader
            .mappings(&root, "ports", NO_PORT)
            .iter()
            .filter_map(|entry| port(reader, entry))
            .collect(),
        endpoints: reader
            .mappings(&root, "endpoints", NO_TRAFFIC)
            .iter()
            .flat_map(|entry| endpoints(reader, entry, family))
            .collect(),
    })
}

fn port(reader: &Reader<'_>, entry: &Field<'_>) -> Option<EndpointPort> {
    let name = match entry.get("name") {
        None => PortName::default(),
        Some(field) => PortName::new(Some(reader.text(&field, NO_PORT)?)),
    };
    let protocol = reader.protocol(entry, NO_PORT)?;
    let port = match entry.get("port") {
        None => None,
        Some(field) => Some(reader.port(&field, NO_PORT)?),
    };
    Some(EndpointPort {
        name,
        protocol,
        port,
    })
}

fn endpoints(reader: &Reader<'_>, entry: &Field<'_>, family: IpFamily) -> Vec<Endpoint> {
    let given = reader.section_of(entry, "conditions", "the defaults hold");
    let flag = |name: &str| reader.flag(given.as_ref()?, name, "its default holds");
    let ready = flag("ready").unwrap_or(true);
    let conditions = EndpointConditions {
        ready,
        serving: flag("serving").unwrap_or(ready),
        terminating: flag("terminating").unwrap_or(false),
    };
    let node_name = entry
        .get("nodeName")
        .and_then(|field| reader.text(&field, "the endpoint counts as remote"));
    let addresses = reader.list(entry, "addresses", NO_TRAFFIC);
    let addresses = addresses.into_iter().filter_map(|field| {
        let address = reader.address(&field, NO_TRAFFIC)?;
        if !is_usable(address, family) {
            reader.problem(
                &field.path,
                format!("is {address}, which is no endpoint's in this slice"),
                NO_TRAFFIC,
            );
            return None;
        }
        Some(Endpoint {
            address,
            conditions,
            node_name: node_name.map(Into::into),
        })
    });
    addresses.collect()
}

fn is_usable(address: IpAddr, family: IpFamily) -> bool {
    let reachable = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    reachable && IpFamily::of(address) == family
}
