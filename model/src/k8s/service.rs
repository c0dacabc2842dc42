//! `v1/Service`.

use serde_json::Value;

use super::read::{Field, Reader, is_service_address};
use super::tuning;
use crate::{
    ClusterIps, PortName, Service, ServicePort, ServiceType, SessionAffinity, SourceRanges,
    TrafficDistribution, TrafficPolicy,
};

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
    ports.shrink_to_fit();
    let publish = reader.flag(
        &spec,
        "publishNotReadyAddresses",
        "endpoints that are not ready get no traffic",
    );
    Some(Service {
        key: reader.key.clone(),
        created_unix_seconds: reader.created(),
        service_type,
        cluster_ips: cluster_ips(reader, &spec),
        ports,
        external_ips: reader.addresses(&spec, "externalIPs", "this address is not served"),
        load_balancer_ips: load_balancer_ips(reader, service_type),
        source_ranges: source_ranges(reader, &spec),
        session_affinity: session_affinity(reader, &spec),
        internal_policy: policy(reader, &spec, "internalTrafficPolicy"),
        external_policy: external_policy(reader, &spec),
        health_check_node_port: health_check_node_port(reader, &spec),
        distribution: distribution(reader, &spec),
        tuning: tuning::of(reader).map(Box::new),
        publish_not_ready_addresses: publish.unwrap_or(false),
        proxy_name: reader
            .label(PROXY_NAME_LABEL, "the Service counts as nobody else's")
            .map(Into::into),
        edge: None,
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
        if !is_service_address(address) {
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
        addresses.shrink_to_fit();
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

/// Addresses that a load balancer wants nodes to serve.
fn load_balancer_ips(reader: &Reader<'_>, service_type: ServiceType) -> Vec<std::net::IpAddr> {
    const EFFECT: &str = "this address is not served";
    const SKIP: &str = "kube-router.io/service.skiplbips";
    let status = reader.section("status");
    if service_type != ServiceType::LoadBalancer || reader.annotation(SKIP, EFFECT).is_some() {
        return Vec::new();
    }
    let Some(balancer) = reader.section_of(&status, "loadBalancer", EFFECT) else {
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for entry in reader.mappings(&balancer, "ingress", EFFECT) {
        // A host name is served by whoever has its addresses.
        let Some(field) = entry.get("ip").filter(|field| field.value != "") else {
            continue;
        };
        // Traffic for a proxying balancer has to pass it.
        if entry
            .get("ipMode")
            .is_some_and(|mode| mode.value == "Proxy")
        {
            continue;
        }
        match reader.address(&field, EFFECT) {
            Some(address) if !is_service_address(address) => {
                let message = format!("is {address}, which cannot be a Service's");
                reader.problem(&field.path, message, EFFECT);
            }
            Some(address) if !addresses.contains(&address) => addresses.push(address),
            _ => {}
        }
    }
    addresses
}

fn source_ranges(reader: &Reader<'_>, spec: &Field<'_>) -> SourceRanges {
    let effect = "this range may not use the load balancer's addresses";
    match reader.try_list(spec, "loadBalancerSourceRanges", effect) {
        Some(fields) if fields.is_empty() => SourceRanges::Everybody,
        fields => SourceRanges::Only(
            fields
                .unwrap_or_default()
                .iter()
                .filter_map(|field| {
                    reader.parse(field, "a network as in 10.0.0.0/24", effect, |value| {
                        value.as_str()?.trim().parse().ok()
                    })
                })
                .collect(),
        ),
    }
}

fn session_affinity(reader: &Reader<'_>, spec: &Field<'_>) -> SessionAffinity {
    /// The API's default and bounds of `timeoutSeconds`.
    const DEFAULT: u64 = 10_800;
    const LONGEST: u64 = 86_400;
    let effect = "connections are chosen for one by one";
    let is_client_ip = spec.get("sessionAffinity").and_then(|field| {
        reader.parse(&field, "None or ClientIP", effect, |value| {
            match value.as_str()? {
                "ClientIP" => Some(true),
                "None" | "" => Some(false),
                _ => None,
            }
        })
    });
    if is_client_ip != Some(true) {
        return SessionAffinity::None;
    }
    let seconds = (|| {
        let effect = "the timeout is 3 hours";
        let config = reader.section_of(spec, "sessionAffinityConfig", effect)?;
        let client_ip = reader.section_of(&config, "clientIP", effect)?;
        let field = client_ip.get("timeoutSeconds")?;
        reader.parse(&field, "seconds from 1 to 86400", effect, |value| {
            value
                .as_u64()
                .filter(|seconds| (1..=LONGEST).contains(seconds))
        })
    })();
    SessionAffinity::ClientIp {
        timeout: std::time::Duration::from_secs(seconds.unwrap_or(DEFAULT)),
    }
}

fn policy(reader: &Reader<'_>, spec: &Field<'_>, name: &str) -> TrafficPolicy {
    let effect = "every endpoint is used";
    let policy = spec.get(name).and_then(|field| {
        reader.parse(&field, "Cluster or Local", effect, |value| {
            match value.as_str()? {
                "Cluster" | "" => Some(TrafficPolicy::Cluster),
                "Local" => Some(TrafficPolicy::Local),
                _ => None,
            }
        })
    });
    policy.unwrap_or(TrafficPolicy::Cluster)
}

/// kube-router's annotation makes the external policy local.
fn external_policy(reader: &Reader<'_>, spec: &Field<'_>) -> TrafficPolicy {
    const LOCAL: &str = "kube-router.io/service.local";
    match reader.annotation(LOCAL, "the policy of the spec holds") {
        Some(field) if field.value == "true" => TrafficPolicy::Local,
        _ => policy(reader, spec, "externalTrafficPolicy"),
    }
}

fn health_check_node_port(reader: &Reader<'_>, spec: &Field<'_>) -> Option<std::num::NonZeroU16> {
    let field = spec.get("healthCheckNodePort");
    let field = field.filter(|field| field.value != 0)?;
    reader.port(&field, "load balancers cannot ask for the Service's health")
}

fn distribution(reader: &Reader<'_>, spec: &Field<'_>) -> TrafficDistribution {
    let effect = "only the hints of EndpointSlices count";
    let expected = "PreferSameZone, PreferClose or PreferSameNode";
    let given = spec.get("trafficDistribution").and_then(|field| {
        reader.parse(&field, expected, effect, |value| match value.as_str()? {
            "PreferClose" | "PreferSameZone" => Some(TrafficDistribution::PreferSameZone),
            "PreferSameNode" => Some(TrafficDistribution::PreferSameNode),
            "" => Some(TrafficDistribution::Hints),
            _ => None,
        })
    });
    given.unwrap_or(TrafficDistribution::Hints)
}
