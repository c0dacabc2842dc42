//! API servers that come back with less than they had.

use std::time::Duration;

use model::Kind;
use tests::apiserver::Verb;

use crate::client::{Client, options, server_with, service, services};

fn lists(server: &tests::apiserver::ApiServer) -> usize {
    server
        .requests()
        .iter()
        .filter(|request| request.verb == Verb::List)
        .count()
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_asked_again_before_it_is_believed() {
    let mut server = server_with(&["a", "b"]);
    let mut client = Client::of_services(&server).await;
    server.stop();
    server.behave(|behaviour| behaviour.empty.extend([Kind::Service]));
    // The version moves on and the old one is forgotten, so the watch has to list.
    server.apply(service("c", 80)).unwrap();
    server.compact();
    server.restart().unwrap();
    client
        .until_degraded(Kind::Service, &["lists no Service although 2 were known"])
        .await;
    assert_eq!(
        services(&client.cluster),
        ["shop/a", "shop/b"],
        "still in force"
    );
    client.until_services(&[]).await;
    assert_eq!(
        lists(&server),
        3,
        "the first one, the empty one, and one that confirms it"
    );
    client.until_watching(Kind::Service).await;
}

#[tokio::test]
async fn a_server_that_is_empty_for_a_moment_removes_nothing() {
    let mut server = server_with(&["a", "b"]);
    let mut client = Client::of_services(&server).await;
    server.stop();
    server.behave(|behaviour| {
        behaviour.empty.extend([Kind::Service]);
        behaviour.delay = Duration::from_millis(150);
    });
    server.apply(service("c", 80)).unwrap();
    server.compact();
    server.restart().unwrap();
    client
        .until_degraded(Kind::Service, &["lists no Service although 2 were known"])
        .await;
    server.behave(|behaviour| behaviour.empty.clear());
    client.until_services(&["shop/a", "shop/b", "shop/c"]).await;
    assert_eq!(
        client.changed_services(),
        ["shop/c"],
        "nothing was removed meanwhile"
    );
    client.until_watching(Kind::Service).await;
}

#[tokio::test]
async fn a_server_that_comes_back_old_is_believed_only_when_it_stays_so() {
    let mut server = server_with(&["a"]);
    let then = server.version();
    server.apply(service("b", 80)).unwrap();
    let mut client = Client::of_services(&server).await;
    server.stop();
    server.behave(|behaviour| behaviour.frozen_at = Some(then));
    server.restart().unwrap();
    client
        .until_degraded(Kind::Service, &["version older than one already seen"])
        .await;
    assert_eq!(
        services(&client.cluster),
        ["shop/a", "shop/b"],
        "still in force"
    );
    client.until_services(&["shop/a"]).await;
    // The first list at the start, and as many old ones as have to agree.
    assert_eq!(lists(&server), 1 + 5);
    client.until_watching(Kind::Service).await;
}

#[tokio::test]
async fn a_server_that_lags_for_a_moment_removes_nothing() {
    let mut server = server_with(&["a"]);
    let then = server.version();
    server.apply(service("b", 80)).unwrap();
    let mut client = Client::of_services(&server).await;
    server.stop();
    server.behave(|behaviour| {
        behaviour.frozen_at = Some(then);
        behaviour.delay = Duration::from_millis(100);
    });
    server.restart().unwrap();
    client
        .until_degraded(Kind::Service, &["version older than one already seen"])
        .await;
    server.behave(|behaviour| behaviour.frozen_at = None);
    client.until_watching(Kind::Service).await;
    assert_eq!(services(&client.cluster), ["shop/a", "shop/b"]);
    assert!(client.changed_services().is_empty());
}

#[tokio::test]
async fn a_new_etcd_is_believed_in_the_end() {
    let mut server = server_with(&["a", "b"]);
    let mut client = Client::of_services(&server).await;
    server.stop();
    server.wipe();
    server.restart().unwrap();
    client
        .until_degraded(Kind::Service, &["version older than one already seen"])
        .await;
    assert_eq!(
        services(&client.cluster),
        ["shop/a", "shop/b"],
        "still in force"
    );
    client.until_services(&[]).await;
    client.until_watching(Kind::Service).await;
    server.apply(service("c", 80)).unwrap();
    client.until_services(&["shop/c"]).await;
}

#[tokio::test]
async fn a_lagging_server_is_left_for_one_that_does_not() {
    let mut lagging = server_with(&["a"]);
    let then = lagging.version();
    lagging.apply(service("b", 80)).unwrap();
    let good = server_with(&["a", "b"]);
    let mut client = Client::start(options(&[&lagging, &good]), &[Kind::Service]);
    client.until_watching(Kind::Service).await;
    client.changed_services();
    lagging.stop();
    lagging.behave(|behaviour| behaviour.frozen_at = Some(then));
    lagging.restart().unwrap();
    client
        .until_degraded(
            Kind::Service,
            &[&lagging.url(), "version older than one already seen"],
        )
        .await;
    client.until_watching(Kind::Service).await;
    assert!(client.changed_services().is_empty());
    good.apply(service("c", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b", "shop/c"]).await;
}
