//! What a Service says of how its endpoints are spoken to, whichever convention leads to it.

use std::sync::Arc;

use model::{Cluster, Kind, PortName, Problem, Service};

use crate::edge::claim::{BackendSpec, Members};
use crate::edge::plan::BackendProtocol;

/// `v2`: endpoints are told the client's address before anything else (PROXY protocol, version 2).
const PROXY_PROTOCOL: &str = "fairlead.io/send-proxy-protocol";

/// Puts it into a backend of a Service's endpoints.
pub(super) fn put(spec: &mut BackendSpec, cluster: &Cluster, problems: &mut Vec<Problem>) {
    let Members::Endpoints { service, port } = spec.members.clone() else {
        return;
    };
    if let Some(service) = cluster.service(&service) {
        put_of(spec, service, port.as_ref(), problems);
    }
}

/// Puts it into a backend of a Service's port. What the convention says itself stays.
pub(super) fn put_of(
    spec: &mut BackendSpec,
    service: &Service,
    port: Option<&PortName>,
    problems: &mut Vec<Problem>,
) {
    let Some(edge) = &service.edge else {
        return;
    };
    let told = port.and_then(|port| edge.app_protocols.get(port));
    // WebSocket is HTTP/1.1; other words are hints that may be left alone (KEP-3726).
    let is_h2c = told.map(Arc::as_ref) == Some("kubernetes.io/h2c");
    if is_h2c && spec.backend.protocol == BackendProtocol::Http {
        spec.backend.protocol = BackendProtocol::H2c;
    }
    match edge.annotations.get(PROXY_PROTOCOL).map(AsRef::as_ref) {
        None => {}
        Some("v2") => spec.backend.sends_proxy_protocol = true,
        Some(other) => {
            let problem = Problem::new(
                Kind::Service,
                service.key.clone(),
                format!("metadata.annotations.{PROXY_PROTOCOL}"),
                format!("is {other:?}, not \"v2\""),
                "its endpoints are spoken to without the PROXY protocol",
            );
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}
