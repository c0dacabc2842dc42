//! `discovery.k8s.io/v1/EndpointSlice`.

use std::net::IpAddr;

use serde_json::Value;

use super::read::{Field, Reader};
use crate::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, IpFamily, ObjectKey, PortName,
};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

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
            .label(SERVICE_NAME_LABEL)
            .map(|name| ObjectKey::new(&reader.key.namespace, name)),
        family,
        ports: root
            .list("ports")
            .iter()
            .filter_map(|entry| port(reader, entry))
            .collect(),
        endpoints: root
            .list("endpoints")
            .iter()
            .flat_map(|entry| endpoints(reader, entry, family))
            .collect(),
    })
}

fn port(reader: &Reader<'_>, entry: &Field<'_>) -> Option<EndpointPort> {
    let effect = "the slice's endpoints do not serve this port";
    let name = match entry.get("name") {
        None => PortName::default(),
        Some(field) => PortName::new(Some(reader.text(&field, effect)?)),
    };
    let protocol = reader.protocol(entry, effect)?;
    let port = match entry.get("port") {
        None => None,
        Some(field) => Some(reader.port(&field, effect)?),
    };
    Some(EndpointPort {
        name,
        protocol,
        port,
    })
}

fn endpoints(reader: &Reader<'_>, entry: &Field<'_>, family: IpFamily) -> Vec<Endpoint> {
    let flag = |name: &str| {
        let field = entry.get("conditions")?.get(name)?;
        reader.parse(&field, "true or false", "its default holds", Value::as_bool)
    };
    let ready = flag("ready").unwrap_or(true);
    let conditions = EndpointConditions {
        ready,
        serving: flag("serving").unwrap_or(ready),
        terminating: flag("terminating").unwrap_or(false),
    };
    let node_name = entry
        .get("nodeName")
        .and_then(|field| reader.text(&field, "the endpoint counts as remote"));
    let addresses = entry.list("addresses").into_iter().filter_map(|field| {
        let effect = "this endpoint gets no traffic";
        let address = reader.address(&field, effect)?;
        if !is_usable(address, family) {
            reader.problem(
                &field.path,
                format!("is {address}, which is no endpoint's in this slice"),
                effect,
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
