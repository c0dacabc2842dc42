//! A cluster model fed by the source, and objects to feed it with.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Cluster, Event, Kind, KindSet, ObjectKey, SourceState};
use model_watch::kube_source::{Options, Timing};
use model_watch::{Source, SourceError};
use serde_json::{Value, json};
use tests::apiserver::ApiServer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Far above what anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pauses short enough for tests.
pub(crate) const TIMING: Timing = Timing {
    retry_first: Duration::from_millis(20),
    retry_cap: Duration::from_millis(200),
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(5),
    watch: Duration::from_secs(290),
};

/// The model as a consumer sees it.
pub(crate) struct Client {
    pub(crate) cluster: Cluster,
    /// Every event so far.
    pub(crate) log: Vec<Event>,
    events: mpsc::Receiver<Event>,
    cancel: CancellationToken,
    source: JoinHandle<Result<(), SourceError>>,
}

/// Options that ask `servers` in order.
pub(crate) fn options(servers: &[&ApiServer]) -> Options {
    Options {
        master: servers.iter().map(|server| server.url()).collect(),
        config_sync_period: Duration::from_millis(200),
        timing: TIMING,
        ..Options::default()
    }
}

impl Client {
    /// Follows `kinds`.
    pub(crate) fn start(options: Options, kinds: &[Kind]) -> Self {
        let (sender, events) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let kinds: KindSet = kinds.iter().copied().collect();
        let source = model_watch::run(Source::Kube(options), kinds, sender, cancel.clone());
        Self {
            cluster: Cluster::default(),
            log: Vec::new(),
            events,
            cancel,
            source: tokio::spawn(source),
        }
    }

    /// Follows the Services of `server` until they are synced and watched.
    pub(crate) async fn of_services(server: &ApiServer) -> Self {
        let mut client = Self::start(options(&[server]), &[Kind::Service]);
        client.until_watching(Kind::Service).await;
        client.cluster.take_changes();
        client
    }

    /// Applies events until `done`.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        what: impl Into<String>,
        mut done: impl FnMut(&Cluster) -> bool,
    ) -> impl Future<Output = ()> {
        let (caller, what) = (std::panic::Location::caller(), what.into());
        async move {
            let deadline = Instant::now() + PATIENCE;
            while !done(&self.cluster) {
                match tokio::time::timeout_at(deadline, self.events.recv()).await {
                    Ok(Some(event)) => {
                        self.cluster.apply(event.clone());
                        self.log.push(event);
                    }
                    Ok(None) => panic!("{caller}: the source ended, {what}: {:#?}", self.log),
                    Err(_) => panic!("{caller}: still not {what}: {:#?}", self.log),
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn until_services(&mut self, expected: &[&str]) -> impl Future<Output = ()> {
        self.until(format!("services {expected:?}"), move |cluster| {
            services(cluster) == expected
        })
    }

    #[track_caller]
    pub(crate) fn until_watching(&mut self, kind: Kind) -> impl Future<Output = ()> {
        self.until(format!("watching {kind}"), move |cluster| {
            state(cluster, kind) == Some(&SourceState::Watching)
        })
    }

    /// Waits until `kind` was replaced `times` times.
    pub(crate) async fn until_replaced(&mut self, kind: Kind, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.replacements(kind) < times {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let event = event
                .expect("the list comes in time")
                .expect("the source goes on");
            self.cluster.apply(event.clone());
            self.log.push(event);
        }
    }

    /// Waits for a degraded state whose reason holds every one of `parts`.
    #[track_caller]
    pub(crate) fn until_degraded(
        &mut self,
        kind: Kind,
        parts: &[&str],
    ) -> impl Future<Output = ()> {
        self.until(
            format!("{kind} degraded because of {parts:?}"),
            move |cluster| match state(cluster, kind) {
                Some(SourceState::Degraded { reason }) => {
                    parts.iter().all(|part| reason.contains(part))
                }
                _ => false,
            },
        )
    }

    /// Applies events for a while.
    pub(crate) async fn during(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(deadline, self.events.recv()).await {
            self.cluster.apply(event.clone());
            self.log.push(event);
        }
    }

    /// Names of the Services that changed since they were last taken.
    pub(crate) fn changed_services(&mut self) -> Vec<String> {
        let changes = self.cluster.take_changes();
        changes
            .get(&Kind::Service)
            .into_iter()
            .flatten()
            .map(ObjectKey::to_string)
            .collect()
    }

    /// How often each kind was replaced.
    pub(crate) fn replacements(&self, of: Kind) -> usize {
        self.log
            .iter()
            .filter(|event| matches!(event, Event::Replaced { kind, .. } if *kind == of))
            .count()
    }

    /// Stops reading, and gives the result of the source.
    pub(crate) async fn abandon(self) -> Result<(), SourceError> {
        drop(self.events);
        timeout(PATIENCE, self.source)
            .await
            .expect("the source notices")
            .expect("the source does not panic")
    }

    /// Ends the source and gives its result.
    pub(crate) async fn stop(self) -> Result<(), SourceError> {
        self.cancel.cancel();
        timeout(PATIENCE, self.source)
            .await
            .expect("the source obeys")
            .expect("the source does not panic")
    }
}

/// `namespace/name` of every Service.
pub(crate) fn services(cluster: &Cluster) -> Vec<String> {
    cluster.services().map(|(key, _)| key.to_string()).collect()
}

pub(crate) fn state(cluster: &Cluster, kind: Kind) -> Option<&SourceState> {
    cluster.source_states().get(&kind)
}

pub(crate) fn kinds_listed(server: &ApiServer) -> BTreeSet<Kind> {
    server
        .requests()
        .iter()
        .map(|request| request.kind)
        .collect()
}

/// A Service in namespace `shop`.
pub(crate) fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "shop", "name": name },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10"],
            "ports": [{ "name": "http", "port": port, "protocol": "TCP", "targetPort": 8080 }],
        },
    })
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

/// A server with Services of these names.
pub(crate) fn server_with(names: &[&str]) -> ApiServer {
    let server = ApiServer::start().expect("an API server starts");
    for name in names {
        server
            .apply(service(name, 80))
            .expect("a Service can be stored");
    }
    server
}

/// Waits until `done`, asking again and again.
#[track_caller]
pub(crate) fn eventually(
    what: impl Into<String>,
    mut done: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let (caller, what) = (std::panic::Location::caller(), what.into());
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "{caller}: still not {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
