//! `v1/Service`.

use serde_json::Value;

use super::read::{Field, Reader};
use crate::{ClusterIps, PortName, Service, ServicePort, ServiceType};

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const NOT_SERVED: &str = "this port is not served, the others are";

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
    let mut ports: Vec<ServicePort> = Vec::new();
    for entry in reader.mappings(&spec, "ports", NOT_SERVED) {
        ports.extend(port(reader, &entry, &ports));
    }
    let publish = reader.flag(
        &spec,
        "publishNotReadyAddresses",
        "endpoints that are not ready get no traffic",
    );
    Some(Service {
        key: reader.key.clone(),
        created_unix_seconds: created(reader),
        service_type,
        cluster_ips: cluster_ips(reader, &spec),
        ports,
        publish_not_ready_addresses: publish.unwrap_or(false),
        proxy_name: reader
            .label(PROXY_NAME_LABEL, "the Service counts as nobody else's")
            .map(Into::into),
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
    let effect = "this address is not served";
    let mut fields = reader.list(spec, "clusterIPs", effect);
    if fields.is_empty() {
        fields.extend(spec.get("clusterIP").filter(|field| field.value != ""));
    }
    let headless = reader
        .label(HEADLESS_LABEL, "the Service counts as not headless")
        .is_some();
    if headless || fields.first().is_some_and(|field| field.value == "None") {
        return ClusterIps::Headless;
    }
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

/// One port, unless it makes no sense beside the `earlier` ones.
fn port(reader: &Reader<'_>, entry: &Field<'_>, earlier: &[ServicePort]) -> Option<ServicePort> {
    let name = match entry.get("name") {
        None => PortName::default(),
        Some(field) => PortName::new(Some(reader.text(&field, NOT_SERVED)?)),
    };
    let protocol = reader.protocol(entry, NOT_SERVED)?;
    let reject = |member: &str, message: String, effect: &str| {
        reader.problem(&format!("{}.{member}", entry.path), message, effect);
    };
    let port = reader.required(entry, "port", NOT_SERVED)?;
    let port = reader.port(&port, NOT_SERVED)?;
    if earlier.iter().any(|other| other.name == name) {
        let message = format!("`{name}` is the name of an earlier port");
        reject("name", message, NOT_SERVED);
        return None;
    }
    let mut same_protocol = earlier.iter().filter(|other| other.protocol == protocol);
    if let Some(other) = same_protocol.clone().find(|other| other.port == port) {
        let message = format!("{port}/{protocol} is that of port `{}`", other.name);
        reject("port", message, NOT_SERVED);
        return None;
    }
    let effect = "the port is served on cluster IPs only";
    // 0 stands for "none" in objects that went through a Go client.
    let node_port = entry.get("nodePort").filter(|field| field.value != 0);
    let mut node_port = node_port.and_then(|field| reader.port(&field, effect));
    if let Some(number) = node_port
        && let Some(other) = same_protocol.find(|other| other.node_port == node_port)
    {
        let message = format!("{number}/{protocol} is that of port `{}`", other.name);
        reject("nodePort", message, effect);
        node_port = None;
    }
    Some(ServicePort {
        name,
        protocol,
        port,
        node_port,
    })
}
