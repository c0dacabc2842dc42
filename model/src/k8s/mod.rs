//! From a Kubernetes object, as JSON, to the model.
//!
//! Fields are read one by one, not through typed deserialisation: there one port of 70000 would
//! cost the whole object. What makes no sense is left out alone, and reported with its path.

mod endpoint_slice;
mod network_policy;
mod node;
mod read;
mod service;
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

/// Reduces `object`, which is of `kind`.
pub fn reduce(kind: Kind, object: &Value) -> Reduced {
    let text = |pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
    let reader = Reader::new(kind, key.clone(), object);
    let reduced = if key.name.is_empty() {
        reader.problem("metadata.name", "is missing", "the object is left out");
        None
    } else {
        match kind {
            Kind::Service => service::reduce(&reader).map(|o| Object::Service(o.into())),
            Kind::EndpointSlice => {
                endpoint_slice::reduce(&reader).map(|o| Object::EndpointSlice(o.into()))
            }
            Kind::Node => Some(Object::Node(node::reduce(&reader).into())),
            Kind::Pod => Some(Object::Pod(workload::pod(&reader).into())),
            Kind::Namespace => Some(Object::Namespace(workload::namespace(&reader).into())),
            Kind::NetworkPolicy => Some(Object::NetworkPolicy(
                network_policy::reduce(&reader).into(),
            )),
            Kind::Secret => Some(Object::Secret(workload::secret(&reader).into())),
            Kind::Endpoints => Some(Object::Endpoints(workload::endpoints(&reader).into())),
        }
    };
    Reduced {
        key,
        object: reduced,
        problems: reader.into_problems(),
    }
}
