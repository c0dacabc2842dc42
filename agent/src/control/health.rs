//! `/healthz`, `/readyz` and `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::collect::Watched;
use super::report::Status;

type Labels = Vec<(&'static str, String)>;

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
    match unready(&watched.status()).as_slice() {
        [] => (StatusCode::OK, "ready\n".to_owned()),
        reasons => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", reasons.join("\n")),
        ),
    }
}

/// What is missing for this node to count on; nothing when it is ready. What was last applied keeps
/// working either way.
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
    } else if status.apply.applied_generation.is_none() {
        reasons.push("nothing has been applied yet".to_owned());
    } else if status.devices.is_empty() {
        reasons.push("no interface has been looked at yet".to_owned());
    }
    reasons.extend(
        status
            .apply
            .error
            .iter()
            .map(|error| format!("the last apply failed: {error}")),
    );
    reasons.extend(
        status
            .apply
            .failures
            .iter()
            .map(|failure| format!("not applied: {failure}")),
    );
    let failed = status
        .devices
        .iter()
        .filter_map(|device| Some(format!("{}: {}", device.name, device.error.as_ref()?)));
    reasons.extend(failed);
    reasons
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    let form = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    let status = watched.status();
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &registry(&status)) {
        tracing::warn!(%error, "metrics cannot be written; the scrape is answered with what there is");
    }
    (form, text)
}

fn registry(status: &Status) -> Registry {
    let mut registry = Registry::with_prefix("fairlead");
    let apply = &status.apply;
    let mut put = |name: &str, help: &str, values: Vec<(Labels, f64)>| {
        if let [(labels, value)] = values.as_slice()
            && labels.is_empty()
        {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(*value);
            return registry.register(name, help, gauge);
        }
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        registry.register(name, help, family);
    };
    let one = |value: f64| vec![(Labels::new(), value)];
    let number = |value: u64| one(value as f64);
    put(
        "build_info",
        "Version of the agent",
        vec![(vec![("version", status.version.clone())], 1.0)],
    );
    put(
        "synced",
        "Whether every kind has been listed",
        one(f64::from(status.synced)),
    );
    put(
        "desired_generation",
        "Generation that is wanted",
        number(apply.desired_generation.unwrap_or(0)),
    );
    put(
        "applied_generation",
        "Generation that is in force",
        number(apply.applied_generation.unwrap_or(0)),
    );
    put(
        "apply_duration_seconds",
        "Duration of the last apply",
        one(apply.took_milliseconds / 1e3),
    );
    put(
        "last_apply_age_seconds",
        "Time since the last apply",
        one(apply.seconds_ago.unwrap_or(f64::NAN)),
    );
    put(
        "applies_total",
        "Applies since the start",
        number(apply.applies_total),
    );
    put(
        "apply_failures_total",
        "Applies that failed in whole or in part",
        number(apply.failed_total),
    );
    put(
        "units_not_applied",
        "Service ports that are not as they should be",
        number(apply.failures.len() as u64),
    );
    put(
        "map_operations_total",
        "Writes to the tables since the start",
        number(apply.operations_total),
    );
    put(
        "map_repairs_total",
        "Writes that mended what somebody else had changed",
        number(apply.repaired_total),
    );
    put(
        "problems",
        "Findings about objects of the cluster",
        number(status.problems.len() as u64),
    );
    let by_map = |value: &dyn Fn(u64, u64) -> f64| {
        status
            .maps
            .iter()
            .map(|row| (vec![("map", row.map.clone())], value(row.used, row.max)))
            .collect()
    };
    put(
        "map_entries",
        "Entries in use",
        by_map(&|used, _| used as f64),
    );
    put(
        "map_max_entries",
        "Entries there is room for",
        by_map(&|_, max| max as f64),
    );
    put(
        "map_full",
        "Whether there is no room left",
        by_map(&|used, max| f64::from(used >= max)),
    );
    let degraded = status.sources.iter();
    let degraded = degraded
        .map(|row| {
            (
                vec![("kind", row.kind.clone())],
                f64::from(row.state == "degraded"),
            )
        })
        .collect();
    put(
        "source_degraded",
        "Whether a kind is not heard of as it should be",
        degraded,
    );
    let counters = status.counters.iter();
    let counters = counters
        .map(|row| (vec![("what", row.name.clone())], row.value as f64))
        .collect();
    put(
        "datapath_total",
        "What the programs have done, by kind; drops by reason",
        counters,
    );
    registry
}

#[cfg(test)]
mod tests {
    use super::super::report::{Apply, DeviceRow, SourceRow};
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
        Status {
            synced: true,
            sources: vec![source],
            apply: Apply {
                applied_generation: Some(1),
                ..Apply::default()
            },
            devices: vec![device],
            ..Status::default()
        }
    }

    #[test]
    fn readiness_says_what_is_missing() {
        assert_eq!(unready(&good()), Vec::<String>::new());
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
                |s| s.apply.failures = vec!["SERVICES_V1 full".into()],
                "SERVICES_V1 full",
            ),
            (
                |s| s.devices[0].error = Some("refused".into()),
                "eth0: refused",
            ),
            (|s| s.devices.clear(), "no interface"),
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

    #[test]
    fn metrics_are_text_with_a_line_a_value() {
        let mut status = good();
        status.maps = vec![super::super::report::MapRow {
            map: "SERVICES_V1".into(),
            used: 4,
            max: 4,
        }];
        let mut text = String::new();
        encode(&mut text, &registry(&status)).unwrap();
        for line in [
            "fairlead_map_full{map=\"SERVICES_V1\"} 1.0",
            "fairlead_applied_generation 1.0",
            "fairlead_synced 1.0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
