//! The model as text.

use std::fmt::Write as _;

use model::{Cluster, ClusterIps, Kind, KindSet, SourceState};

/// Counts, Services, Endpoints annotations and problems.
pub(crate) fn model(cluster: &Cluster, kinds: &KindSet) -> String {
    let mut lines: Vec<String> = kinds
        .iter()
        .map(|kind| format!("{kind:<16}{}", count(cluster, *kind)))
        .collect();
    lines.push(String::new());
    for (key, service) in cluster.services() {
        let addresses = match &service.cluster_ips {
            ClusterIps::Headless => "headless".to_owned(),
            ClusterIps::Pending => "no address yet".to_owned(),
            ClusterIps::Assigned(addresses) => addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        };
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|port| format!("{}/{}", port.port, port.protocol))
            .collect();
        let endpoints: usize = cluster
            .slices_of(key)
            .map(|slice| slice.endpoints.len())
            .sum();
        lines.push(format!(
            "Service {key}: {addresses}; ports {}; {endpoints} endpoints",
            ports.join(" ")
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

/// Kinds that are not heard of as they should be.
pub(crate) fn states(cluster: &Cluster) -> String {
    let mut text = String::new();
    for (kind, state) in cluster.source_states() {
        if let SourceState::Degraded { reason } = state {
            writeln!(text, "! {kind}: {reason}").expect("writing to a string cannot fail");
        }
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
        Kind::Secret => cluster.secrets().count(),
        Kind::Endpoints => cluster.endpoints().count(),
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
                r#"{"metadata": {"namespace": "a", "name": "key"}, "data": {"k": "c2VjcmV0"}}"#,
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
        let text = model(&cluster, &KindSet::from([Kind::Endpoints, Kind::Secret]));
        assert!(text.contains("Endpoints a/web: domain=x.example"), "{text}");
        assert!(!text.contains("c2VjcmV0"), "{text}");
    }
}
