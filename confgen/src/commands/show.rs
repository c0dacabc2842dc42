//! The model as text and as JSON. Of a Secret, only that it is there is shown.

use std::fmt::Write as _;

use model::{Cluster, ClusterIps, Kind, KindSet, Service, SourceState};
use serde_json::{Value, json};

/// Counts, Services, Endpoints annotations and problems, for people.
pub(crate) fn table(cluster: &Cluster, kinds: &KindSet) -> String {
    let mut lines: Vec<String> = kinds
        .iter()
        .map(|kind| format!("{kind:<16}{}", count(cluster, *kind)))
        .collect();
    lines.push(String::new());
    for (key, service) in cluster.services() {
        let addresses = match &service.cluster_ips {
            ClusterIps::Headless => "headless".to_owned(),
            ClusterIps::Pending => "no address yet".to_owned(),
            ClusterIps::Assigned(_) => addresses(service).join(" "),
        };
        lines.push(format!(
            "Service {key}: {addresses}; ports {}; {} endpoints",
            ports(service).join(" "),
            cluster
                .slices_of(key)
                .map(|slice| slice.endpoints.len())
                .sum::<usize>()
        ));
    }
    for (key, endpoints) in cluster.endpoints() {
        let annotations = endpoints
            .annotations
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        lines.push(format!(
            "Endpoints {key}: {}",
            annotations.collect::<Vec<_>>().join(" ")
        ));
    }
    lines.extend(cluster.problems().map(|problem| format!("! {problem}")));
    lines.join("\n") + "\n" + &states(cluster)
}

/// The same for programs.
pub(crate) fn json(cluster: &Cluster, kinds: &KindSet) -> Value {
    let counts: serde_json::Map<String, Value> = kinds
        .iter()
        .map(|kind| (kind.to_string(), count(cluster, *kind).into()))
        .collect();
    let services: Vec<Value> = cluster
        .services()
        .map(|(key, service)| {
            let endpoints: usize = cluster
                .slices_of(key)
                .map(|slice| slice.endpoints.len())
                .sum();
            json!({
                "namespace": key.namespace,
                "name": key.name,
                "headless": matches!(service.cluster_ips, ClusterIps::Headless),
                "addresses": addresses(service),
                "ports": ports(service),
                "endpoints": endpoints,
            })
        })
        .collect();
    let endpoints: Vec<Value> = cluster
        .endpoints()
        .map(|(key, endpoints)| {
            json!({
                "namespace": key.namespace,
                "name": key.name,
                "annotations": endpoints.annotations,
            })
        })
        .collect();
    let problems: Vec<Value> = cluster
        .problems()
        .map(|problem| {
            json!({
                "kind": problem.kind.as_str(),
                "namespace": problem.key.namespace,
                "name": problem.key.name,
                "field": problem.field,
                "message": problem.message,
                "effect": problem.effect,
            })
        })
        .collect();
    let degraded: Vec<Value> = degraded(cluster)
        .map(|(kind, reason)| json!({"kind": kind.as_str(), "reason": reason}))
        .collect();
    json!({
        "counts": counts,
        "services": services,
        "endpoints": endpoints,
        "problems": problems,
        "degraded": degraded,
    })
}

fn addresses(service: &Service) -> Vec<String> {
    match &service.cluster_ips {
        ClusterIps::Headless | ClusterIps::Pending => Vec::new(),
        ClusterIps::Assigned(addresses) => addresses.iter().map(ToString::to_string).collect(),
    }
}

fn ports(service: &Service) -> Vec<String> {
    let ports = service.ports.iter();
    ports
        .map(|port| format!("{}/{}", port.port, port.protocol))
        .collect()
}

fn degraded(cluster: &Cluster) -> impl Iterator<Item = (Kind, &str)> {
    cluster
        .source_states()
        .iter()
        .filter_map(|(kind, state)| match state {
            SourceState::Degraded { reason } => Some((*kind, reason.as_str())),
            SourceState::Listing | SourceState::Watching => None,
        })
}

/// Kinds that are not heard of as they should be.
pub(crate) fn states(cluster: &Cluster) -> String {
    let mut text = String::new();
    for (kind, reason) in degraded(cluster) {
        writeln!(text, "! {kind}: {reason}").expect("writing to a string cannot fail");
    }
    text
}

fn count(cluster: &Cluster, kind: Kind) -> usize {
    match kind {
        Kind::Service => cluster.services().count(),
        Kind::EndpointSlice => cluster.endpoint_slices().count(),
        Kind::Node => cluster.nodes().count(),
        Kind::Pod => cluster.pods().count(),
        Kind::Namespace => cluster.namespaces().count(),
        Kind::NetworkPolicy => cluster.network_policies().count(),
        Kind::ClusterNetworkPolicy => cluster.cluster_network_policies().count(),
        Kind::Secret => cluster.secrets().count(),
        Kind::Endpoints => cluster.endpoints().count(),
        Kind::Ingress => cluster.ingresses().count(),
        Kind::IngressClass => cluster.ingress_classes().count(),
        Kind::GatewayClass => cluster.gateway_classes().count(),
        Kind::Gateway => cluster.gateways().count(),
        Kind::HttpRoute => cluster.http_routes().count(),
        Kind::TlsRoute => cluster.tls_routes().count(),
        Kind::TcpRoute => cluster.tcp_routes().count(),
        Kind::ReferenceGrant => cluster.reference_grants().count(),
        Kind::BackendTlsPolicy => cluster.backend_tls_policies().count(),
        Kind::ConfigMap => cluster.config_maps().count(),
    }
}

#[cfg(test)]
mod tests {
    use model::{Event, k8s::reduce};

    use super::*;

    #[test]
    fn endpoints_annotations_are_shown_and_secrets_are_not() {
        let mut cluster = Cluster::default();
        for (kind, json) in [
            (
                Kind::Endpoints,
                r#"{"metadata": {"namespace": "a", "name": "web", "annotations": {"domain": "x.example"}}}"#,
            ),
            (
                Kind::Secret,
                r#"{"metadata": {"namespace": "a", "name": "key"}, "data": {"k": "c2VjcmV0LXZhbHVl"}}"#,
            ),
        ] {
            let reduced = reduce(kind, &serde_json::from_str(json).unwrap());
            let objects = reduced.object.into_iter().collect();
            cluster.apply(Event::Replaced {
                kind,
                objects,
                problems: reduced.problems,
            });
        }
        let kinds = KindSet::from([Kind::Endpoints, Kind::Secret]);
        let (table, json) = (table(&cluster, &kinds), json(&cluster, &kinds));
        assert!(
            table.contains("Endpoints a/web: domain=x.example"),
            "{table}"
        );
        assert_eq!(json["endpoints"][0]["annotations"]["domain"], "x.example");
        assert_eq!(json["counts"]["Secret"], 1);
        for text in [table, json.to_string()] {
            assert!(!text.contains("c2VjcmV0LXZhbHVl"), "{text}");
            assert!(!text.contains("secret-value"), "{text}");
        }
    }
}
