//! Objects that make no sense.

use model::Kind;
use serde_json::json;
use tests::apiserver::Injection;

use crate::client::{Client, options, server_with, service, services};

#[tokio::test]
async fn a_malformed_object_is_reported_by_name_and_field_and_harms_no_other() {
    let server = server_with(&["a", "b"]);
    let mut bad = service("bad", 80);
    bad["spec"]["ports"][0]["port"] = json!("eighty");
    server.apply(bad.clone()).unwrap();
    let mut client = Client::start(options(&[&server]), &[Kind::Service]);
    client.until_watching(Kind::Service).await;
    let names = services(&client.cluster);
    assert!(
        names.contains(&"shop/a".to_owned()) && names.contains(&"shop/b".to_owned()),
        "{names:?}"
    );
    let problems: Vec<_> = client.cluster.problems().map(ToString::to_string).collect();
    let [problem] = problems.as_slice() else {
        panic!("one problem: {problems:?}")
    };
    assert!(
        problem.contains("shop/bad") && problem.contains("spec.ports[0].port"),
        "{problem}"
    );

    server.apply(service("bad", 80)).unwrap();
    client
        .until("mended", |cluster| cluster.problems().next().is_none())
        .await;
    assert_eq!(services(&client.cluster), ["shop/a", "shop/b", "shop/bad"]);
    server.apply(bad).unwrap();
    client
        .until("reported again", |cluster| {
            cluster.problems().next().is_some()
        })
        .await;
    assert_eq!(
        client.replacements(Kind::Service),
        1,
        "it broke no list and no watch"
    );
}

#[tokio::test]
async fn metadata_of_the_wrong_type_harms_no_other_object() {
    let server = server_with(&["a"]);
    let mut odd = service("odd", 80);
    odd["metadata"]["labels"] = json!({ "replicas": 3 });
    odd["metadata"]["annotations"] = json!("none");
    server.behave(|behaviour| {
        let items = vec![
            odd.clone(),
            json!(42),
            json!({ "metadata": null }),
            json!([]),
        ];
        behaviour.extra_items.insert(Kind::Service, items);
    });
    let mut client = Client::start(options(&[&server]), &[Kind::Service]);
    client.until_watching(Kind::Service).await;
    assert!(services(&client.cluster).contains(&"shop/a".to_owned()));
    for object in [odd, json!(42), json!({})] {
        server.inject(
            Kind::Service,
            Injection::Event {
                event: "MODIFIED",
                object,
            },
        );
    }
    server.apply(service("z", 80)).unwrap();
    client
        .until("z there", |cluster| {
            services(cluster).contains(&"shop/z".to_owned())
        })
        .await;
    assert_eq!(client.replacements(Kind::Service), 1);
}
