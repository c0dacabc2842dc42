//! An API server whose configured address leads nowhere, since nobody balances its Service yet.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use agent::bootstrap;
use agent::reconcile::{self, ClusterView, Debounce, Published};
use model::{Kind, KindSet, ObjectKey};
use model_watch::Source;
use model_watch::kube_source::Options;
use serde_json::Value;
use tests::apiserver::{ApiServer, kubernetes_slice};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, TIMING, eventually, options, server_with, service, services};
use crate::servers::with_kubeconfig;

const SERVICES: &[Kind] = &[Kind::Service];

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// Options with `url` for the server and `learned` beside it.
fn at(url: &str, learned: &[SocketAddr]) -> Options {
    Options {
        master: vec![url.to_owned()],
        learned: learned.to_vec(),
        timing: TIMING,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_server_is_found_at_a_learned_address_past_stale_ones() {
    let mut gone = server_with(&[]);
    gone.stop();
    let server = server_with(&["a"]);
    let learned = [gone.address(), NOWHERE.parse().unwrap(), server.address()];
    let mut client = Client::start(at(&format!("http://{NOWHERE}"), &learned), SERVICES);
    client.until_watching(Kind::Service).await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
}

#[tokio::test]
async fn the_configured_server_is_asked_first() {
    let (configured, learned) = (server_with(&["a"]), server_with(&["b"]));
    let options = at(&configured.url(), &[learned.address()]);
    let mut client = Client::start(options, SERVICES);
    client.until_watching(Kind::Service).await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
    assert_eq!(learned.requests().len(), 0);
}

#[tokio::test]
async fn credentials_and_ca_hold_for_a_learned_address_that_no_certificate_names() {
    let elsewhere = "127.0.0.2:0".parse().unwrap();
    let server = ApiServer::start_tls_on(elsewhere).unwrap();
    server.apply(service("a", 80)).unwrap();
    for configured in [format!("https://{NOWHERE}"), "https://localhost:1".into()] {
        let kubeconfig = server.kubeconfig().replace(&server.url(), &configured);
        let (_directory, mut options) = with_kubeconfig(&kubeconfig);
        let mut without = Client::start(options.clone(), SERVICES);
        without.until_degraded(Kind::Service, &["refused"]).await;

        options.learned = vec![server.address()];
        let mut client = Client::start(options, SERVICES);
        client.until_watching(Kind::Service).await;
        assert_eq!(services(&client.cluster), ["shop/a"], "{configured}");
    }
}

#[tokio::test]
async fn a_learned_address_of_another_cluster_is_not_believed() {
    let server = ApiServer::start_tls().unwrap();
    let other = ApiServer::start_tls().unwrap();
    other.apply(service("b", 80)).unwrap();
    let kubeconfig = server
        .kubeconfig()
        .replace(&server.url(), &format!("https://{NOWHERE}"));
    let (_directory, mut options) = with_kubeconfig(&kubeconfig);
    options.learned = vec![other.address()];
    let mut client = Client::start(options, SERVICES);
    client
        .until_degraded(Kind::Service, &[&other.url(), "certificate"])
        .await;
    assert_eq!(other.requests().len(), 0);
}

/// The slice of `default/kubernetes`.
fn api_servers(addresses: &[&str]) -> Value {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    kubernetes_slice(&addresses, 6443)
}

#[tokio::test]
async fn the_file_follows_the_endpoints_and_a_damaged_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = bootstrap::place(directory.path());
    std::fs::write(&path, "{\"servers\": [\"192.0").unwrap();
    assert_eq!(bootstrap::read(&path), []);

    let server = server_with(&[]);
    server.apply(api_servers(&["192.0.2.1"])).unwrap();
    let kinds = KindSet::from([Kind::Service, Kind::EndpointSlice, Kind::Node]);
    let cancel = CancellationToken::new();
    let (events, heard) = mpsc::channel(64);
    let (desired, _desired) = watch::channel(None);
    let (view_sender, mut view) = watch::channel(ClusterView::default());
    let source = Source::Kube(options(&[&server]));
    tokio::spawn(model_watch::run(
        source,
        kinds.clone(),
        events,
        cancel.clone(),
    ));
    tokio::spawn(reconcile::run(
        reconcile::Place {
            node_name: "node-1".into(),
            exposure: Arc::default(),
            default_deny: false,
            router: None,
            egress: watch::channel(None).1,
            mtu: None,
            links: watch::channel(Some(Vec::new())).1,
        },
        kinds,
        reconcile::Heard {
            events: heard,
            announcements: mpsc::channel(1).1,
        },
        Debounce::default(),
        Published {
            desired,
            view: view_sender,
            triggered: mpsc::channel(1).0,
        },
        cancel.clone(),
    ));
    let keeper = tokio::spawn(bootstrap::run(path.clone(), view.clone(), cancel.clone()));

    let until = async |addresses: &[&str]| {
        let expected: Vec<SocketAddr> = addresses
            .iter()
            .map(|address| format!("{address}:6443").parse().unwrap())
            .collect();
        let what = format!("{addresses:?} on disk");
        eventually(what, || bootstrap::read(&path) == expected).await;
    };
    until(&["192.0.2.1"]).await;
    for addresses in [&["192.0.2.1", "192.0.2.2"][..], &["192.0.2.3"]] {
        server.apply(api_servers(addresses)).unwrap();
        until(addresses).await;
    }
    // The last that were known are the best there are.
    server.delete(
        Kind::EndpointSlice,
        &ObjectKey::new("default", "kubernetes"),
    );
    let empty = view.wait_for(|view| view.api_servers.is_empty()).await;
    drop(empty.expect("the cluster goes on"));
    cancel.cancel();
    keeper.await.unwrap();
    until(&["192.0.2.3"]).await;
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
