//! Single objects: read, their status patched, and Leases, as a writer of status needs them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use model::{Kind, ObjectKey};
use serde_json::{Value, json};

use super::behaviour::{ObjectRequest, ObjectVerb};
use super::http::Failure;
use super::resource::Collection;
use super::{Shared, resource};

/// An object that a request names, and whether its status alone is meant.
pub(super) struct Named {
    kind: Kind,
    key: ObjectKey,
    is_status: bool,
}

impl Named {
    /// `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME`, with or without `/status`.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (path, is_status) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let (collection, name) = path.rsplit_once('/')?;
        let Collection { kind, namespace } = Collection::parse(collection)?;
        let key = match namespace {
            Some(namespace) => ObjectKey::new(&namespace, name),
            None if resource::is_namespaced(kind) => return None,
            None => ObjectKey::cluster_scoped(name),
        };
        Some(Self {
            kind,
            key,
            is_status,
        })
    }
}

/// Answers a request for one object.
pub(super) async fn serve(
    shared: &Shared,
    named: &Named,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let delay = shared.state().behaviour.delay;
    tokio::time::sleep(delay).await;
    let Named {
        kind,
        key,
        is_status,
    } = named;
    let verb = match (method, is_status) {
        (&Method::GET, false) => ObjectVerb::Get,
        (&Method::PATCH, true) => ObjectVerb::PatchStatus,
        _ => {
            let message = "the server does not allow this method on the requested resource";
            return Failure::new(405, "MethodNotAllowed", message).into_response();
        }
    };
    let done = act(shared, named, verb, headers, body);
    let response = match done {
        Ok(object) => Json(object).into_response(),
        Err(failure) => failure.into_response(),
    };
    shared.state().object_requests.push(ObjectRequest {
        kind: *kind,
        key: key.clone(),
        verb,
        status: response.status().as_u16(),
    });
    response
}

fn act(
    shared: &Shared,
    named: &Named,
    verb: ObjectVerb,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Value, Failure> {
    let Named { kind, key, .. } = named;
    let state = &mut *shared.state();
    if let Some(status) = state.behaviour.status {
        return Err(Failure::new(status, "InternalError", "made to fail"));
    }
    if verb == ObjectVerb::PatchStatus && state.behaviour.forbid_status.contains(kind) {
        let plural = resource::plural(*kind);
        let message = format!(
            "{plural} \"{}\" is forbidden: cannot patch {plural}/status",
            key.name
        );
        return Err(Failure::new(403, "Forbidden", message));
    }
    let Some(object) = state.store.get(*kind, key) else {
        let message = format!("{} \"{}\" not found", resource::plural(*kind), key.name);
        return Err(Failure::new(404, "NotFound", message));
    };
    if verb == ObjectVerb::Get {
        return Ok(object);
    }
    let patch = merge_patch(headers, body)?;
    check_version(&patch, &object, &key.name)?;
    let mut changed = object;
    // Of the subresource nothing else is taken.
    merge(&mut changed["status"], &patch["status"]);
    let written = state.store.apply(changed.clone());
    written.map_err(|error| Failure::new(422, "Invalid", error.to_string()))?;
    let version = state.store.version();
    shared.changed.send_replace(version);
    Ok(state.store.get(*kind, key).unwrap_or(changed))
}

fn merge_patch(headers: &HeaderMap, body: &Bytes) -> Result<Value, Failure> {
    let kind = headers.get("content-type").map(|value| value.as_bytes());
    if kind != Some(b"application/merge-patch+json") {
        return Err(Failure::new(
            415,
            "UnsupportedMediaType",
            "not a merge patch",
        ));
    }
    serde_json::from_slice(body).map_err(|error| Failure::new(400, "BadRequest", error.to_string()))
}

fn check_version(patch: &Value, object: &Value, name: &str) -> Result<(), Failure> {
    let wanted = &patch["metadata"]["resourceVersion"];
    if wanted.is_null() || *wanted == object["metadata"]["resourceVersion"] {
        return Ok(());
    }
    let message = format!(
        "the object \"{name}\" has been modified; apply your changes to the latest version"
    );
    Err(Failure::new(409, "Conflict", message))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// `POST /apis/coordination.k8s.io/v1/namespaces/NAMESPACE/leases`
pub(super) async fn create_lease(
    State(shared): State<Arc<Shared>>,
    Path(namespace): Path<String>,
    body: Bytes,
) -> Response {
    let made = || {
        let mut lease: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::new(400, "BadRequest", error.to_string()))?;
        judge_lease(&lease)?;
        let name = lease["metadata"]["name"].as_str().unwrap_or_default();
        let key = ObjectKey::new(&namespace, name);
        let state = &mut *shared.state();
        permit_leases(state)?;
        if state.leases.contains_key(&key) {
            return Err(Failure::new(409, "AlreadyExists", "leases: already exists"));
        }
        lease["metadata"]["resourceVersion"] = json!("1");
        state.leases.insert(key, lease.clone());
        Ok((StatusCode::CREATED, Json(lease)))
    };
    made().map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

/// `GET` and `PATCH /apis/coordination.k8s.io/v1/namespaces/NAMESPACE/leases/NAME`
pub(super) async fn lease(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let done = || {
        let state = &mut *shared.state();
        permit_leases(state)?;
        let key = ObjectKey::new(&namespace, &name);
        let Some(lease) = state.leases.get_mut(&key) else {
            return Err(Failure::new(404, "NotFound", "leases: not found"));
        };
        if method == Method::GET {
            return Ok(Json(lease.clone()));
        }
        let patch = merge_patch(&headers, &body)?;
        check_version(&patch, lease, &name)?;
        let mut changed = lease.clone();
        merge(&mut changed, &patch);
        judge_lease(&changed)?;
        let version = lease["metadata"]["resourceVersion"].as_str();
        let version: u64 = version.and_then(|text| text.parse().ok()).unwrap_or(0);
        changed["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        *lease = changed.clone();
        Ok(Json(changed))
    };
    done().map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

fn permit_leases(state: &super::State) -> Result<(), Failure> {
    match state.behaviour.leases_status.or(state.behaviour.status) {
        Some(403) => Err(Failure::new(403, "Forbidden", "leases is forbidden")),
        Some(status) => Err(Failure::new(status, "InternalError", "made to fail")),
        None => Ok(()),
    }
}

/// What `ValidateLeaseSpec` asks (pkg/apis/coordination/validation of Kubernetes).
fn judge_lease(lease: &Value) -> Result<(), Failure> {
    let invalid = |what: &str| Err(Failure::new(422, "Invalid", what));
    let spec = &lease["spec"];
    if spec["leaseDurationSeconds"].as_u64().unwrap_or(0) == 0 {
        return invalid("spec.leaseDurationSeconds: must be greater than 0");
    }
    // MicroTime is written with six digits behind the second.
    for field in ["renewTime", "acquireTime"] {
        let time = &spec[field];
        let is_micro = time.as_str().is_some_and(|time| {
            time.len() == "2006-01-02T15:04:05.000000Z".len() && time.ends_with('Z')
        });
        if !time.is_null() && !is_micro {
            return invalid(&format!("spec.{field}: {time} is no MicroTime"));
        }
    }
    Ok(())
}
