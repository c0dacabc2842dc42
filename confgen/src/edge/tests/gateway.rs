//! Gateway API: what is attached, granted and in conflict.

mod attachment;
mod conformance;
mod references;
mod status;

use crate::edge::{EdgeConfig, GatewayConvention};

use super::config;

pub(super) fn convention() -> EdgeConfig {
    EdgeConfig {
        gateway: Some(GatewayConvention {
            controller: "fairlead.io/edge".into(),
            addresses: vec!["0.0.0.0".parse().unwrap()],
        }),
        ..config()
    }
}

pub(super) const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge, generation: 2}
spec: {controllerName: fairlead.io/edge}
---
";

/// A Service with one endpoint, whose last byte is `last`.
fn service(namespace: &str, name: &str, last: u8) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: {namespace}, name: {name}}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: {namespace}, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 3000}}]
endpoints: [{{addresses: [10.0.0.{last}]}}]
---
"
    )
}

pub(super) fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{namespace: infra, name: {name}, generation: 3, creationTimestamp: '2026-01-01T00:00:00Z'}}
spec:
  gatewayClassName: edge
  listeners: [{listeners}]
---
"
    )
}

/// A route of `kind` to Gateway `gw`; `spec` is the rest.
pub(super) fn route(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "TCPRoute" => "v1alpha2",
        _ => "v1",
    };
    let spec = if spec.contains("parentRefs:") {
        spec.to_owned()
    } else {
        format!("parentRefs: [{{name: gw}}], {spec}")
    };
    format!(
        "
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{namespace: infra, name: {name}, generation: 4, creationTimestamp: '2026-02-01T00:00:00Z'}}
spec: {{{spec}}}
---
"
    )
}
