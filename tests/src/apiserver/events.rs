//! Events: made and patched over HTTP, as the agent does it, and judged as Kubernetes judges them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use model::ObjectKey;
use serde_json::Value;

use super::Shared;
use super::behaviour::{EventRequest, EventVerb};
use super::http::Failure;

/// `POST /api/v1/namespaces/NAMESPACE/events`
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Response {
    answer(&shared, EventVerb::Create, || {
        let event = parse(&body)?;
        let key = judge(&event, &namespace)?;
        let state = &mut *shared.state();
        if state.events.contains_key(&key) {
            let message = format!("events \"{}\" already exists", key.name);
            return Err(Failure::new(409, "AlreadyExists", message));
        }
        state.events.insert(key, event.clone());
        Ok((StatusCode::CREATED, event))
    })
    .await
}

/// `PATCH /api/v1/namespaces/NAMESPACE/events/NAME`, a merge patch (RFC 7396) of flat fields.
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&shared, EventVerb::Patch, || {
        let kind = headers.get("content-type").map(|value| value.as_bytes());
        if kind != Some(b"application/merge-patch+json") {
            return Err(Failure::new(
                415,
                "UnsupportedMediaType",
                "not a merge patch",
            ));
        }
        let fields = parse(&body)?;
        let key = ObjectKey::new(&namespace, &name);
        let state = &mut *shared.state();
        let Some(event) = state.events.get_mut(&key) else {
            let message = format!("events \"{name}\" not found");
            return Err(Failure::new(404, "NotFound", message));
        };
        for (field, value) in fields.as_object().into_iter().flatten() {
            event[field] = value.clone();
        }
        Ok((StatusCode::OK, event.clone()))
    })
    .await
}

async fn answer(
    shared: &Shared,
    verb: EventVerb,
    act: impl FnOnce() -> Result<(StatusCode, Value), Failure>,
) -> Response {
    let delay = shared.state().behaviour.delay;
    tokio::time::sleep(delay).await;
    let status = {
        let behaviour = &shared.state().behaviour;
        behaviour.events_status.or(behaviour.status)
    };
    let done = match status {
        Some(403) => Err(forbidden(verb)),
        Some(status) => Err(Failure::new(
            status,
            "InternalError",
            "the server is made to fail",
        )),
        None => act(),
    };
    let response = match done {
        Ok((code, event)) => (code, Json(event)).into_response(),
        Err(failure) => failure.into_response(),
    };
    shared.state().event_requests.push(EventRequest {
        verb,
        status: response.status().as_u16(),
    });
    response
}

fn forbidden(verb: EventVerb) -> Failure {
    let verb = match verb {
        EventVerb::Create => "create",
        EventVerb::Patch => "patch",
    };
    let message = format!(
        "events is forbidden: User \"test\" cannot {verb} resource \"events\" in API group \"\""
    );
    Failure::new(403, "Forbidden", message)
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::new(400, "BadRequest", error.to_string()))
}

/// What <https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/validation/events.go>
/// asks of core/v1 Events, and the names of all objects.
fn judge(event: &Value, namespace: &str) -> Result<ObjectKey, Failure> {
    let invalid = |what: &str| Err(Failure::new(422, "Invalid", what));
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    let label = |label: &str| {
        let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        outer(label.as_bytes().first())
            && outer(label.as_bytes().last())
            && label.bytes().all(inner)
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return invalid("metadata.name: not a DNS subdomain");
    }
    if text("/metadata/namespace") != Some(namespace) {
        return invalid("metadata.namespace: not the one of the path");
    }
    if text("/involvedObject/namespace").unwrap_or("default") != namespace {
        return invalid("involvedObject.namespace: does not match event.namespace");
    }
    for field in ["/involvedObject/kind", "/involvedObject/name", "/reason"] {
        if text(field).unwrap_or_default().is_empty() {
            return invalid(&format!("{field}: missing"));
        }
    }
    Ok(ObjectKey::new(namespace, name))
}
