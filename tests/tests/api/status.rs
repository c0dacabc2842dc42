//! Status written back by the holder of a Lease.

use std::time::Duration;

use model::{Condition, Kind, ObjectKey, ObjectRef, ObjectStatus, ParentRef, Status};
use model_watch::{LeaseTiming, StatusWriter};
use serde_json::{Value, json};
use tests::apiserver::{ApiServer, ObjectVerb};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{eventually, options, server_with};

/// A process that may write.
struct Writer {
    statuses: watch::Sender<Vec<ObjectStatus>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(holder: &str, server: &ApiServer, statuses: &[ObjectStatus]) -> Self {
        let (statuses, receiver) = watch::channel(statuses.to_vec());
        let cancel = CancellationToken::new();
        let writer = StatusWriter {
            lease: ObjectKey::new("infra", "edge"),
            holder: holder.to_owned(),
            timing: LeaseTiming {
                duration: Duration::from_secs(1),
                period: Duration::from_millis(100),
            },
        };
        let task =
            model_watch::write_statuses(options(&[server]), writer, receiver, cancel.clone());
        Self {
            statuses,
            cancel,
            task: tokio::spawn(task),
        }
    }

    async fn stop(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await;
        ended.expect("it obeys").expect("it does not panic");
    }
}

fn condition(is_true: bool) -> Condition {
    Condition {
        condition_type: "Accepted",
        is_true,
        reason: "Accepted",
        message: "".into(),
        generation: 1,
    }
}

fn class(is_true: bool) -> ObjectStatus {
    ObjectStatus {
        kind: Kind::GatewayClass,
        key: ObjectKey::cluster_scoped("edge"),
        status: Status::Class(vec![condition(is_true)]),
    }
}

fn route(kind: Kind, is_true: bool) -> ObjectStatus {
    let parent = ParentRef {
        target: ObjectRef {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "gw".into(),
        },
        section_name: None,
        port: None,
    };
    ObjectStatus {
        kind,
        key: ObjectKey::new("infra", "web"),
        status: Status::Route {
            controller: "fairlead.io/edge".into(),
            parents: vec![(parent, vec![condition(is_true)])],
        },
    }
}

fn server() -> ApiServer {
    let server = server_with(&[]);
    let yaml = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: infra, name: web}
status: {parents: [{parentRef: {name: other}, controllerName: other.io/x, conditions: []}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {namespace: infra, name: web}
";
    server.apply_yaml(yaml).unwrap();
    server
}

fn accepted(server: &ApiServer) -> Option<String> {
    let object = server.object(Kind::GatewayClass, &ObjectKey::cluster_scoped("edge"))?;
    let status = &object["status"]["conditions"][0]["status"];
    status.as_str().map(ToOwned::to_owned)
}

fn parents(server: &ApiServer, kind: Kind) -> Vec<Value> {
    let object = server
        .object(kind, &ObjectKey::new("infra", "web"))
        .unwrap();
    let parents = object["status"]["parents"].as_array();
    let names = parents.into_iter().flatten();
    names.map(|entry| entry["controllerName"].clone()).collect()
}

fn patches(server: &ApiServer) -> usize {
    let requests = server.object_requests();
    let patches = requests.iter();
    patches
        .filter(|request| request.verb == ObjectVerb::PatchStatus)
        .count()
}

#[tokio::test]
async fn what_differs_is_written_once_and_others_parents_stay() {
    let server = server();
    let all = [
        class(true),
        route(Kind::HttpRoute, true),
        route(Kind::TlsRoute, true),
    ];
    let writer = Writer::start("a", &server, &all);
    eventually("written", || patches(&server) == 3).await;
    assert_eq!(accepted(&server).as_deref(), Some("True"));
    let (other, ours) = (json!("other.io/x"), json!("fairlead.io/edge"));
    assert_eq!(
        parents(&server, Kind::HttpRoute),
        [other.clone(), ours.clone()]
    );
    // Served at an older version than the newest.
    assert_eq!(parents(&server, Kind::TlsRoute), [ours]);
    // The same again is no write, neither now nor by the next process.
    writer.statuses.send_replace(all.to_vec());
    writer.stop().await;
    let next = Writer::start("b", &server, &all);
    let looked = || server.object_requests().len() >= 9;
    eventually("the next has looked", looked).await;
    assert_eq!(patches(&server), 3);
    // One changes, one is nobody's of ours any more.
    next.statuses
        .send_replace(vec![class(false), route(Kind::TlsRoute, true)]);
    eventually("changed", || patches(&server) == 5).await;
    assert_eq!(accepted(&server).as_deref(), Some("False"));
    assert_eq!(parents(&server, Kind::HttpRoute), [other]);
    next.stop().await;
}

#[tokio::test]
async fn one_of_two_writes_and_the_other_follows_when_it_ends() {
    let server = server();
    let first = Writer::start("a", &server, &[class(true)]);
    eventually("written", || accepted(&server).as_deref() == Some("True")).await;
    let second = Writer::start("b", &server, &[class(false)]);
    // Twice the time after which a Lease that is not renewed is taken.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(accepted(&server).as_deref(), Some("True"));
    assert_eq!(
        server.lease("infra", "edge").unwrap()["spec"]["holderIdentity"],
        "a"
    );
    // Ended without a word: the Lease runs out.
    first.task.abort();
    eventually("taken over", || {
        accepted(&server).as_deref() == Some("False")
    })
    .await;
    let lease = server.lease("infra", "edge").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "b");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    // Ended in good order: it is given back.
    second.stop().await;
    assert_eq!(
        server.lease("infra", "edge").unwrap()["spec"]["holderIdentity"],
        ""
    );
}

#[tokio::test]
async fn a_refusal_costs_its_kind_alone_and_failures_pass() {
    let server = server();
    server.behave(|behaviour| {
        behaviour.forbid_status.insert(Kind::GatewayClass);
    });
    let writer = Writer::start("a", &server, &[class(true), route(Kind::HttpRoute, true)]);
    eventually("the route is told", || {
        parents(&server, Kind::HttpRoute).len() == 2
    })
    .await;
    assert_eq!(accepted(&server), None);
    writer.stop().await;
    server.behave(|behaviour| {
        behaviour.forbid_status.clear();
        behaviour.status = Some(500);
    });
    let writer = Writer::start("b", &server, &[class(true)]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.behave(|behaviour| behaviour.status = None);
    eventually("told", || accepted(&server).as_deref() == Some("True")).await;
    writer.stop().await;
}

#[tokio::test]
async fn without_a_lease_nothing_is_written() {
    let server = server();
    server.behave(|behaviour| behaviour.leases_status = Some(403));
    let writer = Writer::start("a", &server, &[class(true)]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.object_requests().len(), 0);
    writer.stop().await;
}
