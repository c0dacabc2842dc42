//! Events that come twice or in the wrong order.

use model::Kind;
use serde_json::{Value, json};
use tests::apiserver::Injection;

use crate::client::{Client, server_with, service};

fn at(name: &str, port: u16, version: u64) -> Value {
    let mut object = service(name, port);
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object
}

fn ports(client: &Client) -> Vec<String> {
    client
        .cluster
        .services()
        .map(|(key, service)| format!("{}:{}", key.name, service.ports[0].port))
        .collect()
}

#[tokio::test]
async fn an_event_that_is_repeated_or_late_changes_nothing() {
    let server = server_with(&["a", "b"]);
    let old = server.version();
    let newer = server.apply(service("a", 81)).unwrap();
    let mut client = Client::of_services(&server).await;
    for (event, object) in [
        ("ADDED", at("a", 80, old)),
        ("MODIFIED", at("a", 81, newer)),
        ("MODIFIED", at("a", 79, newer - 1)),
        ("DELETED", at("a", 80, old)),
        ("DELETED", at("never-known", 80, old)),
    ] {
        server.inject(Kind::Service, Injection::Event { event, object });
    }
    server.apply(service("c", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b", "shop/c"]).await;
    assert_eq!(client.changed_services(), ["shop/c"]);
    assert_eq!(ports(&client), ["a:81", "b:80", "c:80"]);
    assert_eq!(client.replacements(Kind::Service), 1);
}

#[tokio::test]
async fn a_late_event_of_an_object_not_known_is_settled_by_a_list() {
    let server = server_with(&["a", "b"]);
    let mut client = Client::of_services(&server).await;
    server.apply(service("c", 80)).unwrap();
    client.until_services(&["shop/a", "shop/b", "shop/c"]).await;
    let resurrected = at("ghost", 80, server.version() - 1);
    server.inject(
        Kind::Service,
        Injection::Event {
            event: "MODIFIED",
            object: resurrected,
        },
    );
    client.until_replaced(Kind::Service, 2).await;
    server.apply(service("d", 80)).unwrap();
    client
        .until_services(&["shop/a", "shop/b", "shop/c", "shop/d"])
        .await;
    assert_eq!(client.replacements(Kind::Service), 2);
}

#[tokio::test]
async fn changes_of_two_objects_in_the_wrong_order_both_arrive() {
    let server = server_with(&["a", "b"]);
    let version = server.version();
    let mut client = Client::of_services(&server).await;
    for object in [at("b", 82, version + 2), at("a", 81, version + 1)] {
        server.inject(
            Kind::Service,
            Injection::Event {
                event: "MODIFIED",
                object,
            },
        );
    }
    client
        .until("both changes", |cluster| {
            cluster
                .services()
                .map(|(_, service)| service.ports[0].port.get())
                .eq([81, 82])
        })
        .await;
    assert_eq!(client.replacements(Kind::Service), 1);
}
