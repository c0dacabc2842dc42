//! Kinds that are not installed.

use model::{Cluster, Kind, KindSet, SourceState};
use serde_json::json;
use tests::apiserver::ApiServer;

use crate::client::{Client, options, server_with, services};

const KINDS: [Kind; 2] = [Kind::Service, Kind::ClusterNetworkPolicy];

fn install(server: &ApiServer) {
    server.behave(|behaviour| behaviour.missing.clear());
    let policy = json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "admin"},
        "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}},
    });
    server.apply(policy).unwrap();
}

fn policies(cluster: &Cluster) -> usize {
    cluster.cluster_network_policies().count()
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_empty_until_it_is() {
    let server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.missing.extend([Kind::ClusterNetworkPolicy]));
    let mut client = Client::start(options(&[&server]), &KINDS);
    for kind in KINDS {
        client.until_watching(kind).await;
    }
    assert!(client.cluster.is_synced(&KindSet::from(KINDS)));
    assert_eq!(services(&client.cluster), ["shop/a"]);
    let degraded = client.log.iter().any(|event| {
        matches!(
            event,
            model::Event::Source {
                state: SourceState::Degraded { .. },
                ..
            }
        )
    });
    assert!(!degraded, "{:#?}", client.log);

    install(&server);
    client
        .until("the policy is known", |cluster| policies(cluster) == 1)
        .await;
    client.until_watching(Kind::ClusterNetworkPolicy).await;
}

#[tokio::test]
async fn a_kind_that_is_uninstalled_takes_its_objects_along() {
    let mut server = server_with(&["a"]);
    install(&server);
    let mut client = Client::start(options(&[&server]), &KINDS);
    client
        .until("the policy is known", |cluster| policies(cluster) == 1)
        .await;
    server.stop();
    server.behave(|behaviour| behaviour.missing.extend([Kind::ClusterNetworkPolicy]));
    server.restart().unwrap();
    client
        .until("the policy is gone", |cluster| policies(cluster) == 0)
        .await;
    client.until_watching(Kind::ClusterNetworkPolicy).await;
    assert_eq!(services(&client.cluster), ["shop/a"]);
}

#[tokio::test]
async fn a_kind_that_every_cluster_has_is_not_taken_for_empty() {
    let server = server_with(&["a"]);
    server.behave(|behaviour| behaviour.missing.extend([Kind::NetworkPolicy]));
    let mut client = Client::start(options(&[&server]), &[Kind::Service, Kind::NetworkPolicy]);
    client
        .until_degraded(Kind::NetworkPolicy, &["list of networkpolicies", "404"])
        .await;
    client.until_watching(Kind::Service).await;
    assert!(
        !client
            .cluster
            .is_synced(&KindSet::from([Kind::NetworkPolicy]))
    );
}
