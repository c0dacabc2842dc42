//! Which server is asked, with which credentials, and what happens when none answers.

use std::time::Duration;

use model::{Kind, KindSet};
use model_watch::SourceError;
use model_watch::kube_source::{Error, Options};
use tests::apiserver::ApiServer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, TIMING, options, server_with, service, services, state};

const SERVICES: &[Kind] = &[Kind::Service];

#[tokio::test]
async fn the_second_server_is_asked_when_the_first_is_down() {
    let mut first = server_with(&["a"]);
    let second = server_with(&["a", "b"]);
    first.stop();
    let mut client = Client::start(options(&[&first, &second]), SERVICES);
    client.until_watching(Kind::Service).await;
    assert_eq!(services(&client.cluster), ["shop/a", "shop/b"]);
}

#[tokio::test]
async fn a_server_out_of_order_is_left_and_the_one_that_works_is_kept() {
    for status in [429, 500, 503] {
        let first = server_with(&["a"]);
        let second = server_with(&["a"]);
        first.behave(|behaviour| behaviour.status = Some(status));
        let mut client = Client::start(options(&[&first, &second]), SERVICES);
        client.until_watching(Kind::Service).await;
        assert_eq!(first.requests().len(), 1, "{status}");
        first.behave(|behaviour| behaviour.status = None);
        second.inject(Kind::Service, tests::apiserver::Injection::End);
        second.apply(service("b", 80)).unwrap();
        client.until_services(&["shop/a", "shop/b"]).await;
        assert_eq!(first.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_left_for_the_next_and_nothing_is_lost() {
    let mut first = server_with(&["a"]);
    let second = server_with(&["a"]);
    let mut client = Client::start(options(&[&first, &second]), SERVICES);
    client.until_watching(Kind::Service).await;
    client.changed_services();
    first.stop();
    second.apply(service("b", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b"]).await;
    assert_eq!(client.changed_services(), ["shop/b"]);
}

#[tokio::test]
async fn without_any_server_the_last_objects_stay_in_force_and_it_is_tried_for_ever() {
    let mut server = server_with(&["a"]);
    let mut client = Client::of_services(&server).await;
    server.stop();
    client
        .until_degraded(
            Kind::Service,
            &[
                &server.url(),
                "Connection refused",
                "stay in force",
                "tried again",
            ],
        )
        .await;
    client.during(Duration::from_millis(500)).await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
    server.apply(service("b", 80)).unwrap();
    server.restart().unwrap();
    client.until_services(&["shop/a", "shop/b"]).await;
    client.until_watching(Kind::Service).await;
    assert_eq!(
        client.replacements(Kind::Service),
        1,
        "the watch was resumed"
    );
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let mut server = server_with(&["a"]);
    server.stop();
    let mut client = Client::start(options(&[&server]), SERVICES);
    client
        .until_degraded(Kind::Service, &["Connection refused"])
        .await;
    assert!(!client.cluster.is_synced(&KindSet::from([Kind::Service])));
    server.restart().unwrap();
    client.until_watching(Kind::Service).await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_counts_as_down() {
    let silent = server_with(&["a"]);
    silent.behave(|behaviour| behaviour.delay = Duration::from_secs(600));
    let second = server_with(&["a"]);
    let mut options = options(&[&silent, &second]);
    options.timing.answer = Duration::from_millis(300);
    let mut client = Client::start(options, SERVICES);
    client.until_watching(Kind::Service).await;
}

pub(crate) fn with_kubeconfig(text: &str) -> (tempfile::TempDir, Options) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    let options = Options {
        kubeconfig: Some(path),
        timing: TIMING,
        ..Options::default()
    };
    (directory, options)
}

#[tokio::test]
async fn a_kubeconfig_with_client_certificates_is_enough() {
    let server = ApiServer::start_tls().unwrap();
    server.apply(service("a", 80)).unwrap();
    let (_directory, options) = with_kubeconfig(&server.kubeconfig());
    let mut client = Client::start(options, SERVICES);
    client.until_watching(Kind::Service).await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
}

#[tokio::test]
async fn master_takes_the_place_of_the_kubeconfigs_server_only() {
    let server = ApiServer::start_tls().unwrap();
    server.apply(service("a", 80)).unwrap();
    let elsewhere = server
        .kubeconfig()
        .replace(&server.url(), "https://127.0.0.1:1");
    let (_directory, mut options) = with_kubeconfig(&elsewhere);
    options.master = vec![server.url()];
    let mut client = Client::start(options, SERVICES);
    client.until_watching(Kind::Service).await;
}

#[tokio::test]
async fn a_server_of_an_unknown_ca_is_reported() {
    let server = ApiServer::start_tls().unwrap();
    let other = ApiServer::start_tls().unwrap();
    let (_directory, mut options) = with_kubeconfig(&other.kubeconfig());
    options.master = vec![server.url()];
    let mut client = Client::start(options, SERVICES);
    client
        .until_degraded(Kind::Service, &[&server.url(), "certificate"])
        .await;
    assert!(state(&client.cluster, Kind::Service).is_some());
}

/// What `options` end with.
async fn error_of(options: Options) -> (String, Error) {
    let (events, _receiver) = mpsc::channel(1);
    let source = model_watch::Source::Kube(options);
    let kinds = KindSet::from([Kind::Service]);
    let ended = model_watch::run(source, kinds, events, CancellationToken::new()).await;
    match ended {
        Err(SourceError::Kube(error)) => (error.to_string(), error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unusable_configuration_says_what_to_set() {
    let (text, error) = error_of(Options::default()).await;
    assert!(matches!(error, Error::NotConfigured));
    for flag in ["--kubeconfig", "--master", "--manifests"] {
        assert!(text.contains(flag), "{text}");
    }

    for url in ["10.0.0.1:6443", "ftp://10.0.0.1", "https://"] {
        let (text, error) = error_of(Options {
            master: vec![url.to_owned()],
            ..Options::default()
        })
        .await;
        assert!(matches!(error, Error::MasterUrl { .. }), "{url}: {error:?}");
        assert!(text.contains("expected https://HOST:PORT"), "{text}");
    }

    let missing = Options {
        kubeconfig: Some("/nonexistent/kubeconfig".into()),
        ..Options::default()
    };
    let (text, error) = error_of(missing).await;
    assert!(
        matches!(error, Error::KubeconfigUnreadable { .. }),
        "{error:?}"
    );
    assert!(text.contains("/nonexistent/kubeconfig"), "{text}");

    let (_directory, options) = with_kubeconfig("just: [text");
    assert!(matches!(
        error_of(options).await.1,
        Error::KubeconfigUnreadable { .. }
    ));

    let server = ApiServer::start().unwrap();
    let (_directory, mut options) = with_kubeconfig(&server.kubeconfig());
    options.context = Some("other".to_owned());
    let (text, error) = error_of(options).await;
    assert!(
        matches!(error, Error::KubeconfigContext { .. }),
        "{error:?}"
    );
    assert!(text.contains("context other"), "{text}");
}
