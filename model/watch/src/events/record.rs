//! The Event that tells of a problem. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use model::Problem;

use crate::kube_source::resource::Resource;

/// Longest `message`: the limit of events.k8s.io, whose clients read these too.
const MESSAGE_BYTES: usize = 1024;

/// Longest name of an object in Kubernetes (RFC 1123 subdomain).
const NAME_BYTES: usize = 253;

/// Who tells.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    /// Name of the program.
    pub(super) component: Arc<str>,
    /// Name of its node.
    pub(super) node: Arc<str>,
}

/// Namespace in which the Event of a problem is. That of the object; Kubernetes wants Events of
/// objects without one in `default`.
pub(super) fn namespace(problem: &Problem) -> &str {
    if problem.key.namespace.is_empty() {
        "default"
    } else {
        &problem.key.namespace
    }
}

/// Name of the Event of a problem, the same on every node and after every restart.
pub(super) fn name(problem: &Problem, component: &str) -> String {
    let Problem {
        kind,
        key,
        field,
        message,
        effect,
        reason: _,
        uid,
    } = problem;
    let parts = [
        component,
        kind.as_str(),
        &key.namespace,
        &key.name,
        field,
        message,
        effect,
    ];
    // Another object of the same name has Events of its own.
    let parts: Vec<&str> = parts.into_iter().chain(uid.as_deref()).collect();
    let suffix = format!(".{:016x}", fnv(&parts));
    let room = key.name.floor_char_boundary(NAME_BYTES - suffix.len());
    // No label of a subdomain ends with these, and the suffix begins a new one.
    let object = key.name[..room].trim_end_matches(['.', '-']);
    format!("{object}{suffix}")
}

/// The Event of a problem that is told for the first time.
pub(super) fn event(problem: &Problem, reporter: &Reporter, now: Timestamp) -> Event {
    let Reporter { component, node } = reporter;
    let key = &problem.key;
    Event {
        metadata: ObjectMeta {
            name: Some(name(problem, component)),
            namespace: Some(namespace(problem).to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(Resource::of(problem.kind).api_version()),
            kind: Some(problem.kind.as_str().to_owned()),
            namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: problem.uid.as_deref().map(str::to_owned),
            field_path: (!problem.field.is_empty()).then(|| problem.field.clone()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(problem.reason.as_str().to_owned()),
        message: Some(message(problem)),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource {
            component: Some(component.to_string()),
            host: Some(node.to_string()),
        }),
        reporting_component: Some(component.to_string()),
        reporting_instance: Some(node.to_string()),
        ..Event::default()
    }
}

fn message(problem: &Problem) -> String {
    let Problem {
        field,
        message,
        effect,
        ..
    } = problem;
    let space = if field.is_empty() { "" } else { " " };
    let mut text = format!("{field}{space}{message}; {effect}");
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
    text
}

/// FNV-1a, 64 bits. The hashes of std may differ between versions of Rust, and so between the
/// agents of a cluster while it is upgraded. <http://www.isthe.com/chongo/tech/comp/fnv/>
fn fnv(parts: &[&str]) -> u64 {
    let bytes = parts
        .iter()
        .flat_map(|part| part.bytes().chain(std::iter::once(0)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use model::{Kind, ObjectKey};
    use serde_json::json;

    use super::*;

    fn problem(kind: Kind, key: ObjectKey) -> Problem {
        Problem::new(kind, key, "spec.ports", "is no list", "nothing is served")
    }

    fn reporter() -> Reporter {
        Reporter {
            component: "fairlead-agent".into(),
            node: "node-1".into(),
        }
    }

    #[test]
    fn an_event_says_what_the_problem_says() {
        let problem = problem(Kind::EndpointSlice, ObjectKey::new("shop", "web-abc"));
        let event = event(&problem, &reporter(), Timestamp::UNIX_EPOCH);
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "namespace": "shop",
                "name": name(&problem, "fairlead-agent"),
            },
            "involvedObject": {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "namespace": "shop",
                "name": "web-abc",
                "fieldPath": "spec.ports",
            },
            "type": "Warning",
            "reason": "InvalidObject",
            "message": "spec.ports is no list; nothing is served",
            "count": 1,
            "firstTimestamp": "1970-01-01T00:00:00Z",
            "lastTimestamp": "1970-01-01T00:00:00Z",
            "source": { "component": "fairlead-agent", "host": "node-1" },
            "reportingComponent": "fairlead-agent",
            "reportingInstance": "node-1",
        });
        assert_eq!(serde_json::to_value(event).unwrap(), expected);
    }

    #[test]
    fn the_name_is_one_problem_s_and_never_changes() {
        let web = ObjectKey::new("shop", "web");
        let first = problem(Kind::Service, web.clone());
        // A constant, because agents of two versions have to agree on it.
        assert_eq!(name(&first, "fairlead-agent"), "web.d5f0daffa4467386");
        let mut effect = first.clone();
        effect.effect = "something else".into();
        let others = [
            effect,
            problem(Kind::EndpointSlice, web),
            problem(Kind::Service, ObjectKey::new("other", "web")),
        ];
        for other in others {
            assert_ne!(
                name(&other, "fairlead-agent"),
                name(&first, "fairlead-agent")
            );
        }
    }

    #[test]
    fn a_long_name_is_cut_to_what_kubernetes_takes() {
        let long = format!("{}.{}", "a".repeat(235), "b".repeat(17));
        let problem = problem(Kind::Node, ObjectKey::cluster_scoped(&long));
        let name = name(&problem, "fairlead-agent");
        assert!(name.len() <= NAME_BYTES, "{name}");
        assert!(!name.contains("..") && !name.contains("-."), "{name}");
    }

    #[test]
    fn an_event_of_an_object_without_namespace_is_in_default() {
        let problem = problem(Kind::Node, ObjectKey::cluster_scoped("node-1"));
        let event = event(&problem, &reporter(), Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.involved_object.namespace, None);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut problem = problem(Kind::Service, ObjectKey::new("shop", "web"));
        problem.message = "ü".repeat(2000);
        let message = message(&problem);
        assert!(message.len() <= MESSAGE_BYTES && message.len() > MESSAGE_BYTES - 2);
    }
}
