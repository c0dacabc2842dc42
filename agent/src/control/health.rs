//! `/healthz`, `/readyz` and `/metrics`.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::collect::Watched;
use super::report::{Apply, Status};

/// https://prometheus.io/docs/specs/om/open_metrics_spec/
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `--health-addr` cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address}: health and metrics cannot be served here; check --health-addr (empty for nowhere)"
)]
pub struct HealthError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listens.
///
/// # Errors
/// Where the address is in use or not of this node.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, HealthError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| HealthError { address, source })
}

/// Serves until `cancel`.
///
/// # Errors
/// Where accepting fails.
pub async fn serve(
    listener: TcpListener,
    watched: Watched,
    cancel: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(watched);
    axum::serve(listener, router)
        .with_graceful_shutdown(cancel.cancelled_owned())
        .await
}

async fn ready(State(watched): State<Watched>) -> (StatusCode, String) {
    match unready(&watched.known()).as_slice() {
        [] => (StatusCode::OK, "ready\n".to_owned()),
        reasons => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", reasons.join("\n")),
        ),
    }
}

/// Neither in whole nor in part; what it could not do it says itself.
fn has_applied_nothing(apply: &Apply) -> bool {
    apply.applied_generation.is_none() && apply.error.is_none()
}

/// What is missing for this node to count on; nothing when it is ready. What was last applied keeps
/// working either way. That a table is too small for all that tenants ask for is told elsewhere: were it to count,
/// one of them could hold up every rollout of the agent.
pub fn unready(status: &Status) -> Vec<String> {
    let mut reasons = Vec::new();
    if !status.synced {
        let waiting = status
            .sources
            .iter()
            .filter(|source| source.state != "watching");
        let waiting: Vec<_> = waiting
            .map(|source| format!("{} {}", source.kind, source.state))
            .collect();
        reasons.push(format!(
            "not every kind has been listed yet: {}",
            waiting.join(", ")
        ));
    } else if has_applied_nothing(&status.apply) {
        reasons.push("nothing has been applied yet".to_owned());
    } else if status.devices.is_empty() {
        reasons.push("no interface has been looked at yet".to_owned());
    }
    let routing = status.routing.as_ref();
    // Whoever kept the routes before may take its own away once this node is ready.
    if routing.is_some_and(|routing| !routing.routes.is_empty() && routing.applies_total == 0) {
        reasons.push("no route to pods of other nodes has been made yet".to_owned());
    }
    reasons.extend(
        status
            .apply
            .error
            .iter()
            .map(|error| format!("the last apply failed: {error}")),
    );
    let failed = status
        .devices
        .iter()
        .filter_map(|device| Some(format!("{}: {}", device.name, device.error.as_ref()?)));
    reasons.extend(failed);
    reasons
}

async fn metrics(State(watched): State<Watched>) -> Response {
    // Reading the tables is thousands of system calls; they must not stop the other tasks.
    let page = tokio::task::spawn_blocking(move || watched.measured().page()).await;
    match page {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        other => {
            tracing::error!(result = ?other, "metrics cannot be written; the scrape is refused");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{DeviceRow, RouteRow, Routing, SourceRow};
    use super::*;

    fn good() -> Status {
        let device = DeviceRow {
            name: "eth0".into(),
            role: "uplink".into(),
            error: None,
        };
        let source = SourceRow {
            kind: "Service".into(),
            state: "watching".into(),
            reason: None,
        };
        let route = RouteRow {
            network: "10.244.2.0/24".into(),
            node: "node2".into(),
            way: "direct, via 172.31.0.12".into(),
            why: "172.31.0.12 is in 172.31.0.0/24".into(),
            error: None,
        };
        Status {
            synced: true,
            sources: vec![source],
            apply: Apply {
                applied_generation: Some(1),
                ..Apply::default()
            },
            devices: vec![device],
            routing: Some(Routing {
                routes: vec![route],
                applies_total: 1,
                ..Routing::default()
            }),
            ..Status::default()
        }
    }

    #[test]
    fn readiness_says_what_is_missing() {
        assert_eq!(unready(&good()), Vec::<String>::new());
        let mut closed = good();
        closed.apply.no_room = Some("network policy: 1 sets of rules do not fit".into());
        closed.apply.failures = vec!["SERVICES_V2 full".into()];
        let tenants = "a tenant's policy and Service";
        assert_eq!(unready(&closed), Vec::<String>::new(), "{tenants}");
        type Change = fn(&mut Status);
        let cases: [(Change, &str); 6] = [
            (
                |s| (s.synced, s.sources[0].state) = (false, "listing".into()),
                "Service listing",
            ),
            (
                |s| s.apply.applied_generation = None,
                "nothing has been applied",
            ),
            (|s| s.apply.error = Some("EPERM".into()), "EPERM"),
            (
                |s| s.devices[0].error = Some("refused".into()),
                "eth0: refused",
            ),
            (|s| s.devices.clear(), "no interface"),
            (
                |s| s.routing.as_mut().unwrap().applies_total = 0,
                "no route to pods",
            ),
        ];
        for (change, expected) in cases {
            let mut status = good();
            change(&mut status);
            let reasons = unready(&status);
            assert!(
                reasons.len() == 1 && reasons[0].contains(expected),
                "{reasons:?}"
            );
        }
    }
}
