//! The first list, and the changes that follow.

use std::time::Duration;

use model::{Kind, KindSet};
use tests::apiserver::{ApiServer, Verb};

use crate::client::{Client, key, kinds_listed, options, server_with, service, services};

/// One object of every kind but Secret.
const CLUSTER: &str = r#"
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.0.1.5], conditions: {ready: true}}]
---
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web-0}
spec: {nodeName: node-a, containers: []}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: deny}
spec: {podSelector: {}}
---
apiVersion: v1
kind: Endpoints
metadata: {namespace: shop, name: web}
"#;

#[tokio::test]
async fn every_kind_is_listed_before_the_cluster_is_synced() {
    let server = ApiServer::start().unwrap();
    server.apply_yaml(CLUSTER).unwrap();
    server.behave(|behaviour| behaviour.forbid_list.extend([Kind::EndpointSlice]));
    let all = Kind::ALL.map(|kind| kind);
    let kinds = KindSet::from(all);
    let mut client = Client::start(options(&[&server]), &all);
    for kind in all {
        if kind != Kind::EndpointSlice {
            client.until_watching(kind).await;
        }
    }
    assert!(
        !client.cluster.is_synced(&kinds),
        "EndpointSlices are not listed yet"
    );
    assert_eq!(services(&client.cluster), ["shop/web"]);
    server.behave(|behaviour| behaviour.forbid_list.clear());
    client
        .until("synced", |cluster| cluster.is_synced(&kinds))
        .await;
    assert_eq!(client.cluster.endpoint_slices().count(), 1);
    assert_eq!(client.cluster.nodes().count(), 1);
    client.stop().await.unwrap();
}

#[tokio::test]
async fn changes_arrive_one_by_one() {
    let server = server_with(&["a", "b"]);
    let mut client = Client::of_services(&server).await;
    server.apply(service("c", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b", "shop/c"]).await;
    assert_eq!(client.changed_services(), ["shop/c"]);
    server.apply(service("a", 81)).unwrap();
    client
        .until("a on port 81", |cluster| {
            cluster
                .services()
                .any(|(of, service)| *of == key("a") && service.ports[0].port.get() == 81)
        })
        .await;
    assert_eq!(client.changed_services(), ["shop/a"]);
    server.delete(Kind::Service, &key("b"));
    client.until_services(&["shop/a", "shop/c"]).await;
    assert_eq!(client.changed_services(), ["shop/b"]);
    assert_eq!(client.replacements(Kind::Service), 1);
}

#[tokio::test]
async fn only_the_kinds_asked_for_are_requested() {
    let server = server_with(&["a"]);
    let client = Client::of_services(&server).await;
    assert_eq!(kinds_listed(&server), [Kind::Service].into());
    client.stop().await.unwrap();
}

#[tokio::test]
async fn a_large_list_is_read_in_pages_and_handed_on_once() {
    check_large_list(false).await;
}

#[tokio::test]
async fn a_list_whose_pages_expire_is_read_again_as_a_whole() {
    check_large_list(true).await;
}

async fn check_large_list(expires: bool) {
    let server = ApiServer::start().unwrap();
    for index in 0..1234 {
        server.apply(service(&format!("s{index}"), 80)).unwrap();
    }
    server.behave(|behaviour| behaviour.compact_between_pages = expires);
    if expires {
        // The version has to move for the one of the first page to be forgotten.
        server.behave(|behaviour| behaviour.delay = Duration::from_millis(200));
    }
    let mut client = Client::start(options(&[&server]), &[Kind::Service]);
    if expires {
        // The first page is answered, the second one asked for.
        while server.requests().is_empty() {
            client.during(Duration::from_millis(10)).await;
        }
        server.delete(Kind::Service, &key("s0"));
    }
    client.until_watching(Kind::Service).await;
    assert_eq!(
        client.cluster.services().count(),
        if expires { 1233 } else { 1234 }
    );
    assert_eq!(client.replacements(Kind::Service), 1);
    let requests = server.requests();
    let lists: Vec<_> = requests
        .iter()
        .filter(|request| request.verb == Verb::List)
        .map(|request| {
            (
                request.query.get("limit").map(String::as_str),
                request.status,
            )
        })
        .collect();
    let page = (Some("500"), 200);
    let expected = if expires {
        vec![page, (Some("500"), 410), (None, 200)]
    } else {
        vec![page; 3]
    };
    assert_eq!(lists, expected);
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.delay = Duration::from_millis(700));
    let mut client = Client::of_services(&server).await;
    assert_eq!(server.requests().len(), 2, "one list and one watch");
    server.apply(service("b", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b"]).await;
}

#[tokio::test]
async fn a_watch_resumes_from_its_last_bookmark() {
    let mut server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.bookmark_period = Duration::from_millis(30));
    let mut client = Client::of_services(&server).await;
    // The version moves on without an event of this kind; only a bookmark can tell.
    server
        .apply_yaml("{apiVersion: v1, kind: Namespace, metadata: {name: other}}")
        .unwrap();
    let version = server.version();
    client.during(Duration::from_millis(300)).await;
    server.compact();
    server.restart().unwrap();
    server.apply(service("b", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b"]).await;
    assert_eq!(
        client.replacements(Kind::Service),
        1,
        "no second list is needed"
    );
    let requests = server.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.query["resourceVersion"], version.to_string());
    assert_eq!(last.query["allowWatchBookmarks"], "true");
}

#[tokio::test]
async fn the_source_ends_when_nobody_reads_its_events() {
    let server = server_with(&["a"]);
    let client = Client::of_services(&server).await;
    client.abandon().await.unwrap();
}
