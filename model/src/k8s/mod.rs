//! From a Kubernetes object, as JSON, to the model.
//!
//! Fields are read one by one, not through typed deserialisation: there one port of 70000 would
//! cost the whole object. What makes no sense is left out alone, and reported with its path.

mod cluster_network_policy;
mod edge;
mod endpoint_slice;
mod gateway;
mod ingress;
mod network_policy;
mod node;
mod read;
mod selector;
mod service;
mod tuning;
mod workload;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::{Kind, Object, ObjectKey, Problem};
use read::Reader;

/// An object reduced to the fields in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// Its name; empty where it has none.
    pub key: ObjectKey,
    /// What remains; `None` where nothing of it makes sense or is of use.
    pub object: Option<Object>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// How much of an object is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What a node's dataplane uses.
    #[default]
    Dataplane,
    /// What edge proxies use as well: annotations, probes, states of pods.
    Edge,
}

/// Reduces `object`, which is of `kind`, to what a node's dataplane uses.
pub fn reduce(kind: Kind, object: &Value) -> Reduced {
    reduce_to(Detail::Dataplane, kind, object)
}

/// Reduces `object`, which is of `kind`.
pub fn reduce_to(detail: Detail, kind: Kind, object: &Value) -> Reduced {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    let key = if kind.is_namespaced() {
        ObjectKey::new(text("/metadata/namespace").unwrap_or_default(), name)
    } else {
        ObjectKey::cluster_scoped(name)
    };
    let reader = Reader::new(kind, key.clone(), object);
    Reduced {
        key,
        object: has_name(&reader)
            .then(|| of_kind(detail, &reader))
            .flatten(),
        problems: reader.into_problems(),
    }
}

fn of_kind(detail: Detail, reader: &Reader<'_>) -> Option<Object> {
    let is_for_edge = detail == Detail::Edge;
    Some(match reader.kind {
        Kind::Service => {
            let mut service = service::reduce(reader)?;
            service.edge = is_for_edge.then(|| edge::service(reader).into());
            Object::Service(service.into())
        }
        Kind::EndpointSlice => Object::EndpointSlice(endpoint_slice::reduce(reader)?.into()),
        Kind::Node => Object::Node(node::reduce(reader, is_for_edge).into()),
        Kind::Pod => {
            let mut pod = workload::pod(reader);
            pod.edge = is_for_edge.then(|| edge::pod(reader).into());
            Object::Pod(pod.into())
        }
        Kind::Namespace => {
            let mut namespace = workload::namespace(reader);
            namespace.annotations = is_for_edge.then(|| edge::annotations(reader).into());
            Object::Namespace(namespace.into())
        }
        Kind::NetworkPolicy => Object::NetworkPolicy(network_policy::reduce(reader)?.into()),
        Kind::ClusterNetworkPolicy => {
            Object::ClusterNetworkPolicy(cluster_network_policy::reduce(reader)?.into())
        }
        Kind::Secret => Object::Secret(workload::secret(reader).into()),
        Kind::Endpoints => Object::Endpoints(workload::endpoints(reader).into()),
        Kind::Ingress => Object::Ingress(ingress::ingress(reader).into()),
        Kind::IngressClass => Object::IngressClass(ingress::class(reader).into()),
        Kind::GatewayClass => Object::GatewayClass(gateway::class(reader).into()),
        Kind::Gateway => Object::Gateway(gateway::gateway(reader)?.into()),
        Kind::HttpRoute => Object::HttpRoute(gateway::route::http(reader)?.into()),
        Kind::TlsRoute => Object::TlsRoute(gateway::route::stream(reader)?.into()),
        Kind::TcpRoute => Object::TcpRoute(gateway::route::stream(reader)?.into()),
        Kind::ReferenceGrant => Object::ReferenceGrant(gateway::grant(reader).into()),
        Kind::BackendTlsPolicy => Object::BackendTlsPolicy(gateway::backend_tls(reader).into()),
        Kind::ConfigMap => Object::ConfigMap(gateway::config_map(reader)?.into()),
    })
}

/// Whether the object can be told from others.
fn has_name(reader: &Reader<'_>) -> bool {
    let effect = "the object is left out";
    let Some(metadata) = reader.section_of(&reader.root(), "metadata", effect) else {
        reader.problem("metadata.name", "is missing", effect);
        return false;
    };
    match metadata.get("name") {
        None => reader.problem("metadata.name", "is missing", effect),
        Some(field) if field.value == "" => {
            reader.problem(&field.path, "is empty", effect);
        }
        Some(field) => {
            let namespace = metadata.get("namespace");
            let namespace = namespace.filter(|_| reader.kind.is_namespaced());
            return reader.text(&field, effect).is_some()
                && namespace.is_none_or(|field| reader.text(&field, effect).is_some());
        }
    }
    false
}
