//! `v1/Service`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read::{Field, Reader};
use crate::{ClusterIps, PortName, Service, ServicePort, ServiceType};

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

pub(super) fn reduce(reader: &Reader<'_>) -> Option<Service> {
    let spec = reader.section("spec");
    let service_type = match spec.get("type") {
        None => ServiceType::ClusterIp,
        Some(field) => reader.parse(
            &field,
            "a type of Service",
            "the Service is left out",
            service_type,
        )?,
    };
    let mut names = BTreeSet::new();
    let ports = spec
        .list("ports")
        .into_iter()
        .filter_map(|entry| port(reader, &entry, &mut names))
        .collect();
    let publish = spec
        .get("publishNotReadyAddresses")
        .is_some_and(|field| field.value == &Value::Bool(true));
    Some(Service {
        key: reader.key.clone(),
        created_unix_seconds: created(reader),
        service_type,
        cluster_ips: cluster_ips(reader, &spec),
        ports,
        publish_not_ready_addresses: publish,
        proxy_name: reader.label(PROXY_NAME_LABEL).map(Into::into),
    })
}

fn service_type(value: &Value) -> Option<ServiceType> {
    match value.as_str()? {
        "ClusterIP" => Some(ServiceType::ClusterIp),
        "NodePort" => Some(ServiceType::NodePort),
        "LoadBalancer" => Some(ServiceType::LoadBalancer),
        "ExternalName" => Some(ServiceType::ExternalName),
        _ => None,
    }
}

fn created(reader: &Reader<'_>) -> i64 {
    let Some(field) = reader.section("metadata").get("creationTimestamp") else {
        return 0;
    };
    let parse = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok();
    let parsed = reader.parse(
        &field,
        "a time as in 2006-01-02T15:04:05Z",
        "the object counts as the oldest",
        parse,
    );
    parsed.map_or(0, jiff::Timestamp::as_second)
}

fn cluster_ips(reader: &Reader<'_>, spec: &Field<'_>) -> ClusterIps {
    let mut fields = spec.list("clusterIPs");
    if fields.is_empty() {
        fields.extend(spec.get("clusterIP").filter(|field| field.value != ""));
    }
    let headless = reader.label(HEADLESS_LABEL).is_some();
    if headless || fields.first().is_some_and(|field| field.value == "None") {
        return ClusterIps::Headless;
    }
    let effect = "this address is not served";
    let mut addresses = Vec::new();
    for field in &fields {
        let Some(address) = reader.address(field, effect) else {
            continue;
        };
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            reader.problem(
                &field.path,
                format!("is {address}, which cannot be a Service's"),
                effect,
            );
        } else if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        ClusterIps::Pending
    } else {
        ClusterIps::Assigned(addresses)
    }
}

fn port(
    reader: &Reader<'_>,
    entry: &Field<'_>,
    names: &mut BTreeSet<PortName>,
) -> Option<ServicePort> {
    let effect = "this port is not served, the others are";
    let name = match entry.get("name") {
        None => PortName::default(),
        Some(field) => PortName::new(Some(reader.text(&field, effect)?)),
    };
    let protocol = reader.protocol(entry, effect)?;
    let Some(field) = entry.get("port") else {
        reader.problem(&format!("{}.port", entry.path), "is missing", effect);
        return None;
    };
    let port = reader.port(&field, effect)?;
    if !names.insert(name.clone()) {
        reader.problem(
            &format!("{}.name", entry.path),
            format!("`{name}` is the name of an earlier port"),
            effect,
        );
        return None;
    }
    // 0 stands for "none" in objects that went through a Go client.
    let node_port = entry.get("nodePort").filter(|field| field.value != 0);
    let node_port =
        node_port.and_then(|field| reader.port(&field, "the port is served on cluster IPs only"));
    Some(ServicePort {
        name,
        protocol,
        port,
        node_port,
    })
}
