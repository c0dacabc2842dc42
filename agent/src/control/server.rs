//! The Unix socket: HTTP with JSON, for this node's root alone.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::collect::Watched;
use super::flows::flows;
use super::network::Network;
use super::pod_interface;
use super::report::{Services, Status};
use crate::config::arguments::Transport;
use crate::explain::{ExplainError, Explanation, Question};
use crate::reconcile::Announcement;
use crate::sandbox::{Refusal, Request};
use crate::whatif::answer::Answer;
use crate::whatif::{Change, WhatIfError};

/// Longest question. A cluster's policies as JSON: ten thousand of a kilobyte each, and some.
const QUESTION_BYTES: usize = 32 << 20;

/// Why the socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{}: another agent answers there; stop it, or give this one a --socket of its own", .0.display())]
    InUse(PathBuf),
    /// Anything else.
    #[error("{}: cannot be served, so `status` and `services` could not be answered; check --socket", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Listens on `path`. A socket left by an agent that was killed is replaced.
///
/// # Errors
/// [`SocketError`] where it cannot.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io {
        path: path.into(),
        source,
    };
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.into()));
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves until `cancel`.
///
/// # Errors
/// Where accepting fails.
pub async fn serve(
    listener: UnixListener,
    watched: Watched,
    announcements: mpsc::Sender<Announcement>,
    cancel: CancellationToken,
) -> io::Result<()> {
    let of_pods = watched.clone();
    let interface = move |Json(request): Json<Request>| {
        let (watched, announcements) = (of_pods.clone(), announcements.clone());
        async move {
            let answer = pod_interface::answer(watched, announcements, request).await;
            answer.map(Json).map_err(refused)
        }
    };
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/network", get(network))
        .route("/v1/explain", get(explain))
        .route("/v1/flows", get(flows))
        .route("/v1/policy/what-if", post(what_if))
        .route("/v1/pod-interface", post(interface))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES))
        .with_state(watched);
    axum::serve(listener, router)
        .with_graceful_shutdown(cancel.cancelled_owned())
        .await
}

fn refused(refusal: Refusal) -> (StatusCode, Json<Refusal>) {
    let code = if refusal.retry {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::BAD_REQUEST
    };
    (code, Json(refusal))
}

async fn status(State(watched): State<Watched>) -> Result<Json<Status>, (StatusCode, String)> {
    let answer = tokio::task::spawn_blocking(move || watched.status()).await;
    answer
        .map(Json)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn network(State(watched): State<Watched>) -> Json<Network> {
    Json(watched.network())
}

#[derive(Debug, Deserialize)]
struct Which {
    name: Option<String>,
}

async fn services(
    State(watched): State<Watched>,
    Query(which): Query<Which>,
) -> Result<Json<Services>, (StatusCode, String)> {
    // Reading the tables is thousands of system calls; they must not stop the other tasks.
    let answer = tokio::task::spawn_blocking(move || watched.services(which.name.as_deref())).await;
    let failed =
        |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    answer
        .map_err(|error| failed(&error))?
        .map(Json)
        .map_err(|error| failed(&error))
}

#[derive(Debug, Deserialize)]
struct Asked {
    from: String,
    to: String,
    proto: Option<Transport>,
}

async fn explain(
    State(watched): State<Watched>,
    Query(asked): Query<Asked>,
) -> Result<Json<Explanation>, (StatusCode, String)> {
    let failed = |code, error: &dyn std::fmt::Display| (code, error.to_string());
    let unreadable = |error: &dyn std::fmt::Display| failed(StatusCode::BAD_REQUEST, error);
    let question = Question {
        from: asked.from.parse().map_err(|error| unreadable(&error))?,
        to: asked.to.parse().map_err(|error| unreadable(&error))?,
        protocol: asked.proto.map(Transport::protocol),
    };
    // A large pool is a system call an endpoint.
    let answer = tokio::task::spawn_blocking(move || watched.explain(&question)).await;
    let answer = answer.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, &error))?;
    answer.map(Json).map_err(|error| match &error {
        ExplainError::Table(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
        ExplainError::NotSynced => failed(StatusCode::SERVICE_UNAVAILABLE, &error),
        ExplainError::UnknownPod(_)
        | ExplainError::PodElsewhere { .. }
        | ExplainError::PodWithoutAddress(_)
        | ExplainError::UnknownService(_)
        | ExplainError::WhichPort { .. }
        | ExplainError::Families { .. } => failed(StatusCode::NOT_FOUND, &error),
    })
}

async fn what_if(
    State(watched): State<Watched>,
    Json(change): Json<Change>,
) -> Result<Json<Answer>, (StatusCode, String)> {
    // Compiles the whole cluster, and reads the table of connections.
    let answer = tokio::task::spawn_blocking(move || watched.what_if(&change)).await;
    let failed = |code, error: &dyn std::fmt::Display| (code, error.to_string());
    let answer = answer.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, &error))?;
    answer.map(Json).map_err(|error| match &error {
        WhatIfError::Table(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
        WhatIfError::NotSynced => failed(StatusCode::SERVICE_UNAVAILABLE, &error),
        WhatIfError::NotPoliced => failed(StatusCode::CONFLICT, &error),
        WhatIfError::NoSuchPolicy(_) => failed(StatusCode::NOT_FOUND, &error),
        WhatIfError::NoPolicy(_) => failed(StatusCode::BAD_REQUEST, &error),
    })
}
