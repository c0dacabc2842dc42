//! Health, readiness, metrics and status over HTTP.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::watch;

use super::{Statuses, World};
use crate::apply::applier::Input;
use crate::apply::certificates::Told;
use crate::apply::status::Status;

struct Shared {
    statuses: Statuses,
    world: watch::Receiver<Option<Input<World>>>,
    certificates: watch::Receiver<Vec<Told>>,
}

pub(super) fn router(
    statuses: Statuses,
    world: watch::Receiver<Option<Input<World>>>,
    certificates: watch::Receiver<Vec<Told>>,
) -> Router {
    let shared = Arc::new(Shared {
        statuses,
        world,
        certificates,
    });
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// Ready is: what the cluster says is what every proxy was seen to run.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let behind = shared.statuses.iter().filter_map(|(name, status)| {
        let status = status.borrow();
        let gap = status.gap.clone();
        (status.live == 0 || gap.is_some()).then(|| {
            format!(
                "{name}: {}\n",
                gap.unwrap_or_else(|| "not live yet".to_owned())
            )
        })
    });
    let behind: String = behind.collect();
    if behind.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, behind).into_response()
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let outputs = shared.statuses.iter();
    let outputs: serde_json::Map<_, _> = outputs
        .map(|(name, status)| (name.clone(), json!(&*status.borrow())))
        .collect();
    let world = shared.world.borrow();
    let plan = world.as_ref().map(|input| &input.cluster.plan);
    let problems = plan.iter().flat_map(|plan| plan.problems.iter());
    let problems: Vec<String> = problems.map(ToString::to_string).collect();
    let losses = plan.iter().flat_map(|plan| plan.losses.iter());
    let losses: Vec<_> = losses
        .map(|loss| {
            let of = &loss.origin;
            json!({
                "object": format!("{} {}", of.kind, of.key),
                "field": &*of.field,
                "about": loss.about,
                "cause": loss.cause.to_string(),
            })
        })
        .collect();
    let certificates = &*shared.certificates.borrow();
    Json(json!({
        "outputs": outputs,
        "problems": problems,
        "losses": losses,
        "certificates": certificates,
    }))
    .into_response()
}

type Gauge = (&'static str, &'static str, fn(&Status) -> f64);

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
const METRICS: [Gauge; 15] = [
    ("seen_state", "Newest state of the cluster.", |s| {
        s.seen as f64
    }),
    ("rendered_state", "Newest state that was rendered.", |s| {
        s.rendered as f64
    }),
    (
        "checked_state",
        "Newest state whose files passed the check.",
        |s| s.checked as f64,
    ),
    ("live_state", "State that the proxy was seen to run.", |s| {
        s.live as f64
    }),
    (
        "quarantined_objects",
        "Objects left out since the check refused them.",
        |s| s.quarantined.len() as f64,
    ),
    (
        "old_processes",
        "Processes that only finish what they have.",
        |s| s.old_processes as f64,
    ),
    ("reloads_total", "Reloads.", |s| s.totals.reloads() as f64),
    ("failed_reloads_total", "Reloads that did not take.", |s| {
        s.totals.failed_reloads as f64
    }),
    (
        "runtime_changes_total",
        "Changes that went live without a reload.",
        |s| s.totals.runtime_changes as f64,
    ),
    (
        "runtime_commands_total",
        "Commands of the runtime socket.",
        |s| s.totals.commands as f64,
    ),
    (
        "rollbacks_total",
        "Returns to the last good version.",
        |s| s.totals.rollbacks as f64,
    ),
    ("failed_checks_total", "Checks that failed.", |s| {
        s.totals.failed_checks as f64
    }),
    (
        "refused_plans_total",
        "Plans that the shrink guard refused.",
        |s| s.totals.refused as f64,
    ),
    ("repaired_drifts_total", "Drifts that were repaired.", |s| {
        s.totals.repairs as f64
    }),
    (
        "waited_seconds",
        "How long the change waited that went live last.",
        |s| s.waited_seconds,
    ),
];

/// Prometheus' text format.
async fn metrics(State(shared): State<Arc<Shared>>) -> String {
    let mut text = String::new();
    for (name, help, value) in METRICS {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let all = writeln!(
            text,
            "# HELP fairlead_confgen_{name} {help}\n# TYPE fairlead_confgen_{name} {kind}"
        );
        all.expect("writing to a string cannot fail");
        for (output, status) in &shared.statuses {
            let value = value(&status.borrow());
            // Names of outputs are the operator's paths.
            let output = output.replace(['\\', '"', '\n'], "_");
            let line = writeln!(
                text,
                "fairlead_confgen_{name}{{output=\"{output}\"}} {value}"
            );
            line.expect("writing to a string cannot fail");
        }
    }
    days_left(&mut text, &shared.certificates.borrow());
    text
}

/// Of more certificates than these the first to end are told: a series each is much for a scrape.
const MAX_SERIES: usize = 200;

fn days_left(text: &mut String, certificates: &[Told]) {
    text.push_str(
        "# HELP fairlead_confgen_certificate_days_left Days until a certificate ends.\n\
         # TYPE fairlead_confgen_certificate_days_left gauge\n",
    );
    for told in certificates.iter().take(MAX_SERIES) {
        let Told {
            kind,
            object,
            field,
            days_left,
            ..
        } = told;
        // A field may have names of tenants in it.
        let field = field.replace(['\\', '"', '\n'], "_");
        let line = writeln!(
            text,
            "fairlead_confgen_certificate_days_left{{kind=\"{kind}\",object=\"{object}\",field=\"{field}\"}} {days_left}"
        );
        line.expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::extract::State;
    use tokio::sync::watch;

    use super::{Shared, days_left, ready};
    use crate::apply::certificates::report;
    use crate::apply::status::Status;
    use crate::samples;

    #[test]
    fn days_to_the_end_of_a_certificate_are_a_metric() {
        let told = report(&samples::tls(), 0);
        let mut text = String::new();
        days_left(&mut text, &told);
        let days = told.first().unwrap().days_left;
        assert!(text.contains(&format!("\"}} {days}\n")), "{text}");
        assert!(text.contains("certificate_days_left{kind=\""), "{text}");
    }

    /// Health is the last success: of each output that is behind, the reason is told.
    #[tokio::test]
    async fn ready_is_what_every_proxy_was_seen_to_run() {
        let (haproxy, of_haproxy) = watch::channel(Status::default());
        let (nginx, of_nginx) = watch::channel(Status::default());
        let statuses = [("haproxy", of_haproxy), ("nginx", of_nginx)];
        let statuses = statuses.map(|(name, status)| (name.to_owned(), status));
        let shared = Arc::new(Shared {
            statuses: statuses.into(),
            world: watch::channel(None).1,
            certificates: watch::channel(Vec::new()).1,
        });
        let answer = async || {
            let answer = ready(State(Arc::clone(&shared))).await;
            let code = answer.status().as_u16();
            let body = axum::body::to_bytes(answer.into_body(), 1000)
                .await
                .unwrap();
            format!("{code} {}", String::from_utf8_lossy(&body))
        };
        let not_yet = "503 haproxy: not live yet\nnginx: not live yet\n";
        assert_eq!(answer().await, not_yet);
        haproxy.send_modify(|status| status.live = 3);
        nginx.send_modify(|status| status.live = 3);
        assert_eq!(answer().await, "200 ok\n");
        nginx.send_modify(|status| status.gap = Some("the check fails".to_owned()));
        assert_eq!(answer().await, "503 nginx: the check fails\n");
    }
}
