//! The HTTP side: paths, parameters, lists, and the Status objects of errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request as HttpRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use model::{Kind, ObjectKey};
use serde_json::{Value, json};

use super::Shared;
use super::behaviour::{Behaviour, GoneForm, Request, Verb};
use super::events;
use super::objects::{self, Named};
use super::rbac::Access;
use super::resource::{Collection, api_version, plural};
use super::store::Store;
use super::stream;

pub(super) type Parameters = BTreeMap<String, String>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/api/v1/namespaces/{namespace}/events",
            axum::routing::post(events::create),
        )
        .route(
            "/api/v1/namespaces/{namespace}/events/{name}",
            axum::routing::patch(events::patch),
        )
        .route(
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
            axum::routing::post(objects::create_lease),
        )
        .route(
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}",
            axum::routing::get(objects::lease).patch(objects::lease),
        )
        .fallback(serve)
        .layer(from_fn_with_state(Arc::clone(&shared), note))
        .with_state(shared)
}

/// Notes what a request asks for, and passes it on.
async fn note(State(shared): State<Arc<Shared>>, request: HttpRequest, next: Next) -> Response {
    if let Some(access) = Access::of(request.method(), request.uri()) {
        shared.state().accesses.insert(access);
    }
    next.run(request).await
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    Query(query): Query<Parameters>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(named) = Named::parse(uri.path()) {
        return objects::serve(&shared, &named, &method, &headers, &body).await;
    }
    let Some(collection) = Collection::parse(uri.path()) else {
        return Failure::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .into_response();
    };
    let delay = shared.state().behaviour.delay;
    tokio::time::sleep(delay).await;
    let watches = matches!(query.get("watch").map(String::as_str), Some("true" | "1"));
    let verb = if watches { Verb::Watch } else { Verb::List };
    let permitted = permitted(&shared.state().behaviour, collection.kind, verb);
    let answer = match permitted {
        Err(failure) => Err(failure),
        Ok(()) if watches => stream::watch(&shared, &collection, &query),
        Ok(()) => list(&shared, &collection, &query),
    };
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    shared.state().requests.push(Request {
        kind: collection.kind,
        verb,
        query,
        status: response.status().as_u16(),
    });
    response
}

fn permitted(behaviour: &Behaviour, kind: Kind, verb: Verb) -> Result<(), Failure> {
    if let Some(status) = behaviour.status {
        return Err(Failure::new(
            status,
            "InternalError",
            "the server is made to fail",
        ));
    }
    if behaviour.missing.contains(&kind) {
        let message = "the server could not find the requested resource";
        return Err(Failure::new(404, "NotFound", message));
    }
    let (forbidden, verb) = match verb {
        Verb::List => (&behaviour.forbid_list, "list"),
        Verb::Watch => (&behaviour.forbid_watch, "watch"),
    };
    if !forbidden.contains(&kind) {
        return Ok(());
    }
    let message = format!(
        "{plural}.{api} is forbidden: User \"test\" cannot {verb} resource \"{plural}\" at the cluster scope",
        plural = plural(kind),
        api = api_version(kind),
    );
    Err(Failure::new(403, "Forbidden", message))
}

fn list(shared: &Shared, collection: &Collection, query: &Parameters) -> Result<Response, Failure> {
    let kind = collection.kind;
    let state = &mut *shared.state();
    let (store, behaviour) = (&mut state.store, &state.behaviour);
    let current = visible(store, behaviour);
    let limit = number(query, "limit")?.unwrap_or(0);
    let (version, after) = match query.get("continue") {
        Some(token) => {
            if behaviour.compact_between_pages {
                store.compact();
            }
            parse_token(token, store)?
        }
        None => (list_version(query, current, store)?, None),
    };
    let mut items = Vec::new();
    let mut token = None;
    if !behaviour.empty.contains(&kind) {
        for (key, object) in store.at(kind, version) {
            let elsewhere = collection
                .namespace
                .as_ref()
                .is_some_and(|namespace| **namespace != *key.namespace);
            if elsewhere || after.as_ref().is_some_and(|after| key <= after) {
                continue;
            }
            if limit > 0 && items.len() as u64 == limit {
                token = Some(items.len());
                break;
            }
            items.push((key, object));
        }
    }
    let token = token
        .and_then(|_| items.last())
        .map(|(key, _)| format!("{version}:{}:{}", key.namespace, key.name));
    let mut items: Vec<Value> = items
        .into_iter()
        .map(|(_, object)| without_type(object))
        .collect();
    items.extend(
        behaviour
            .extra_items
            .get(&kind)
            .into_iter()
            .flatten()
            .cloned(),
    );
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if let Some(token) = token {
        metadata["continue"] = json!(token);
    }
    let body = json!({
        "kind": format!("{kind}List"),
        "apiVersion": api_version(kind),
        "metadata": metadata,
        "items": items,
    });
    Ok(Json(body).into_response())
}

/// The newest version that is served.
pub(super) fn visible(store: &Store, behaviour: &Behaviour) -> u64 {
    behaviour
        .frozen_at
        .map_or(store.version(), |frozen| frozen.min(store.version()))
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>
fn list_version(query: &Parameters, current: u64, store: &Store) -> Result<u64, Failure> {
    let exact = query.get("resourceVersionMatch").map(String::as_str) == Some("Exact");
    match number(query, "resourceVersion")? {
        None | Some(0) => Ok(current),
        Some(version) if version > current => Err(Failure::too_large(version, current)),
        Some(version) if exact && version < store.compacted() => Err(Failure::gone(version)),
        Some(version) if exact => Ok(version),
        Some(_) => Ok(current),
    }
}

fn parse_token(token: &str, store: &Store) -> Result<(u64, Option<ObjectKey>), Failure> {
    let invalid = || Failure::new(400, "BadRequest", "continue key is not valid");
    let mut parts = token.splitn(3, ':');
    let mut part = || parts.next().ok_or_else(invalid);
    let version = part()?.parse().map_err(|_| invalid())?;
    let key = ObjectKey::new(part()?, part()?);
    if version < store.compacted() {
        return Err(Failure::new(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result",
        ));
    }
    Ok((version, Some(key)))
}

/// A parameter that is a number; absent and empty are the same.
pub(super) fn number(query: &Parameters, name: &str) -> Result<Option<u64>, Failure> {
    match query.get(name).map_or("", String::as_str) {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Failure::new(400, "BadRequest", format!("{name}: {text:?} is no number"))),
    }
}

/// Items of a list carry no `kind` and `apiVersion`.
fn without_type(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("kind");
        object.remove("apiVersion");
    }
    object
}

/// A refusal, sent as a `Status`.
pub(super) struct Failure {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn gone(version: u64) -> Self {
        Self::new(
            410,
            "Expired",
            format!("too old resource version: {version}"),
        )
    }

    pub(super) fn too_large(version: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        Self::new(504, "Timeout", message)
    }

    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        })
    }

    /// Whether this is sent within a watch rather than instead of it.
    pub(super) fn is_event(&self, behaviour: &Behaviour) -> bool {
        self.code == 410 && behaviour.gone == GoneForm::Event
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.status())).into_response()
    }
}
