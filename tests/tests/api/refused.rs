//! RBAC that allows too little.

use model::{Kind, KindSet};

use crate::client::{Client, options, server_with, service, services};

const SERVICES: &[Kind] = &[Kind::Service];

#[tokio::test]
async fn a_refused_watch_is_reported_and_lists_take_its_place() {
    let server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.forbid_watch.extend([Kind::Service]));
    let mut client = Client::start(options(&[&server]), SERVICES);
    let rule = r#"{apiGroups: [""], resources: ["services"], verbs: [watch]}"#;
    client
        .until_degraded(
            Kind::Service,
            &["watch of services is refused", "listed every 200ms", rule],
        )
        .await;
    assert!(client.cluster.is_synced(&KindSet::from([Kind::Service])));
    server.apply(service("b", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b"]).await;
    client
        .until_degraded(Kind::Service, &["watch of services is refused"])
        .await;

    server.behave(|behaviour| behaviour.forbid_watch.clear());
    client.until_watching(Kind::Service).await;
}

#[tokio::test]
async fn a_refused_list_is_reported_and_nothing_is_synced() {
    let server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.forbid_list.extend([Kind::EndpointSlice]));
    let mut client = Client::start(options(&[&server]), &[Kind::Service, Kind::EndpointSlice]);
    let rule =
        r#"{apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: [list, watch]}"#;
    client
        .until_degraded(
            Kind::EndpointSlice,
            &["list of endpointslices is refused", "403", rule],
        )
        .await;
    client.until_watching(Kind::Service).await;
    assert!(
        !client
            .cluster
            .is_synced(&KindSet::from([Kind::Service, Kind::EndpointSlice]))
    );
    assert_eq!(
        services(&client.cluster),
        ["shop/a"],
        "the other kind is unaffected"
    );

    server.behave(|behaviour| behaviour.forbid_list.clear());
    client.until_watching(Kind::EndpointSlice).await;
}

#[tokio::test]
async fn a_list_refused_later_leaves_the_objects_in_force() {
    let mut server = server_with(&["a"]);
    let mut client = Client::of_services(&server).await;
    server.stop();
    server.behave(|behaviour| behaviour.forbid_list.extend([Kind::Service]));
    // The version the watch is at is forgotten, so it has to list.
    server.apply(service("b", 80)).unwrap();
    server.compact();
    server.restart().unwrap();
    client
        .until_degraded(
            Kind::Service,
            &["list of services is refused", "stay in force"],
        )
        .await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
    server.behave(|behaviour| behaviour.forbid_list.clear());
    client.until_services(&["shop/a", "shop/b"]).await;
}
