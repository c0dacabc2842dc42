//! `healthCheckNodePort`: load balancers ask each node whether a Service has endpoints there.
//!
//! [`run`] follows `Desired` and answers on every port that it names, on all addresses of the node,
//! as kube-proxy does. A port that cannot be had is tried for again and again.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::{Kind, Problem, Reason};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::applier::Applied;
use crate::desired::{Desired, HealthCheck};
use crate::sys::socket;

/// A port that cannot be had is tried for again after this long, then after twice as long …
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// … but at least this often: load balancers ask every few seconds.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Connections waiting to be accepted; a load balancer has a handful of probers.
const BACKLOG: i32 = 128;

/// The error of a socket of a family that the kernel has not.
const NO_FAMILY: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();

/// Number of local endpoints, by which a load balancer may weigh nodes; kube-proxy's name for it.
const WEIGHT: &str = "X-Load-Balancing-Endpoint-Weight";

/// What the answer on a port rests on.
#[derive(Clone, Debug)]
struct Answer {
    check: watch::Receiver<HealthCheck>,
    applied: watch::Receiver<Applied>,
}

/// What keeps ports from being answered on, by port.
pub type Unanswered = BTreeMap<NonZeroU16, Problem>;

/// A port that is answered on, or tried for.
#[derive(Debug)]
struct Served {
    answer: watch::Sender<HealthCheck>,
    cancel: CancellationToken,
}

/// Answers until `cancel`, and says where it cannot.
pub async fn run(
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    applied: watch::Receiver<Applied>,
    unanswered: watch::Sender<Unanswered>,
    cancel: CancellationToken,
) {
    let mut served: BTreeMap<NonZeroU16, Served> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = {
            let desired = desired.borrow_and_update();
            desired.as_ref().map(|desired| desired.health_checks())
        };
        let start = |port, check, cancel| {
            let applied = applied.clone();
            let answer = Answer { check, applied };
            tasks.spawn(serve(port, answer, unanswered.clone(), cancel));
        };
        follow(&mut served, wanted.unwrap_or_default(), start, &cancel);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a health check panicked; its port is closed until its Service changes");
                },
                changed = desired.changed() => {
                    if changed.is_err() {
                        return cancel.cancelled().await;
                    }
                    break;
                }
            }
        }
    }
}

/// Brings the ports in line with those wanted.
fn follow(
    served: &mut BTreeMap<NonZeroU16, Served>,
    wanted: BTreeMap<NonZeroU16, HealthCheck>,
    mut start: impl FnMut(NonZeroU16, watch::Receiver<HealthCheck>, CancellationToken),
    cancel: &CancellationToken,
) {
    served.retain(|port, served| {
        let stays = wanted.contains_key(port) && !served.answer.is_closed();
        if !stays {
            served.cancel.cancel();
        }
        stays
    });
    for (port, check) in wanted {
        if let Some(served) = served.get(&port) {
            served.answer.send_if_modified(|known| {
                let differs = *known != check;
                *known = check;
                differs
            });
            continue;
        }
        let (answer, asked) = watch::channel(check);
        let cancel = cancel.child_token();
        start(port, asked, cancel.clone());
        served.insert(port, Served { answer, cancel });
    }
}

/// Answers on one port until `cancel`.
async fn serve(
    port: NonZeroU16,
    answer: Answer,
    unanswered: watch::Sender<Unanswered>,
    cancel: CancellationToken,
) {
    let mut delay = FIRST_RETRY;
    let mut listener = listen(port);
    while let Err(error) = &listener {
        let problem = problem(&answer.check.borrow(), error);
        unanswered.send_if_modified(|told| told.insert(port, problem.clone()) != Some(problem));
        let cancelled = cancel.run_until_cancelled(tokio::time::sleep(delay)).await;
        if cancelled.is_none() {
            break;
        }
        delay = (delay * 2).min(LAST_RETRY);
        listener = listen(port);
    }
    unanswered.send_if_modified(|told| told.remove(&port).is_some());
    let Ok(listener) = listener else { return };
    let router = Router::new().fallback(get(respond)).with_state(answer);
    // Gracefully, so that a prober that keeps its connection does not hear of a Service that is gone.
    let serving = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%port, %error, "health checks are not answered any more");
    }
}

fn problem(check: &HealthCheck, error: &io::Error) -> Problem {
    let HealthCheck { service, port, .. } = check;
    Problem::new(
        Kind::Service,
        service.clone(),
        "spec.healthCheckNodePort",
        format!("{port} cannot be had on this node: {error}"),
        "load balancers' health checks are not answered; it is tried again, free the port",
    )
    .because(Reason::Conflict)
}

fn listen(port: NonZeroU16) -> io::Result<TcpListener> {
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port.get(), 0, 0);
    let listener = match socket::listen_dual_stack(any, BACKLOG) {
        // A kernel with `ipv6.disable=1`.
        Err(error) if error.raw_os_error() == Some(NO_FAMILY) => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.get()));
            let listener = std::net::TcpListener::bind(any)?;
            listener.set_nonblocking(true)?;
            listener
        }
        other => other?,
    };
    TcpListener::from_std(listener)
}

async fn respond(State(answer): State<Answer>) -> Response {
    let HealthCheck {
        service,
        local_endpoints,
        port: _,
    } = answer.check.borrow().clone();
    let is_healthy = answer.applied.borrow().is_healthy(Instant::now());
    let code = if local_endpoints > 0 && is_healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "service": {"namespace": &*service.namespace, "name": &*service.name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": is_healthy,
    });
    (code, [(WEIGHT, local_endpoints.to_string())], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{IpAddr, TcpStream};

    use model::ObjectKey;

    use super::*;

    /// What an address and port answer: `None` where nobody does.
    async fn ask(address: IpAddr, port: NonZeroU16) -> Option<String> {
        let exchange = move || {
            let mut stream = TcpStream::connect((address, port.get())).ok()?;
            let request = "GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            // A connection that waits to be accepted is reset when the port closes.
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }

    /// Asks until the answer is as wanted; the caller's timeout ends it.
    async fn until(port: NonZeroU16, wanted: impl Fn(Option<&str>) -> bool) {
        while !wanted(ask(Ipv4Addr::LOCALHOST.into(), port).await.as_deref()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn check(port: NonZeroU16, local_endpoints: usize) -> BTreeMap<NonZeroU16, HealthCheck> {
        let service = ObjectKey::new("shop", "web");
        let check = HealthCheck {
            port,
            service,
            local_endpoints,
        };
        BTreeMap::from([(port, check)])
    }

    #[tokio::test]
    async fn a_port_comes_changes_and_goes() {
        let blocker = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = NonZeroU16::new(blocker.local_addr().unwrap().port()).unwrap();
        let (mut served, mut tasks) = (BTreeMap::new(), JoinSet::new());
        let cancel = CancellationToken::new();
        let (unanswered, told) = watch::channel(Unanswered::new());
        let good = Applied {
            generation: Some(1),
            ..Applied::default()
        };
        let (health, applied) = watch::channel(good);
        let mut want = |wanted| {
            let start = |port, check, cancel| {
                let applied = applied.clone();
                let answer = Answer { check, applied };
                tasks.spawn(serve(port, answer, unanswered.clone(), cancel));
            };
            follow(&mut served, wanted, start, &cancel);
        };
        let steps = async {
            want(check(port, 2));
            // Given up after the first refusal, the port would never be answered on.
            tokio::time::sleep(FIRST_RETRY / 5).await;
            let problem = told.borrow().get(&port).map(ToString::to_string);
            let problem = problem.expect("it is told");
            assert!(
                problem.starts_with("Service shop/web: spec.healthCheckNodePort"),
                "{problem}"
            );
            drop(blocker);
            until(port, |answer| answer.is_some()).await;
            assert!(told.borrow().is_empty());
            for address in [
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ] {
                let answer = ask(address, port).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                let weight = "x-load-balancing-endpoint-weight: 2\r\n";
                assert!(answer.contains(weight), "{answer}");
                let (_, body) = answer.split_once("\r\n\r\n").unwrap();
                let expected = json!({
                    "service": {"namespace": "shop", "name": "web"},
                    "localEndpoints": 2,
                    "serviceProxyHealthy": true,
                });
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!(body, expected);
            }
            let since = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
            for (seconds, expected) in [(1, "HTTP/1.1 200"), (61, "HTTP/1.1 503")] {
                health.send_modify(|applied| applied.failing_since = since(seconds));
                let answer = ask(Ipv4Addr::LOCALHOST.into(), port).await.unwrap();
                let health = format!("\"serviceProxyHealthy\":{}", seconds == 1);
                assert!(answer.starts_with(expected), "{answer}");
                assert!(answer.contains(&health), "{answer}");
            }
            health.send_modify(|applied| applied.failing_since = None);
            want(check(port, 0));
            let answer = ask(Ipv4Addr::LOCALHOST.into(), port).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("\"localEndpoints\":0"), "{answer}");
            want(BTreeMap::new());
            until(port, |answer| answer.is_none()).await;
            want(check(port, 1));
            until(port, |answer| answer.is_some()).await;
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, steps)
            .await
            .expect("in time");
    }
}
