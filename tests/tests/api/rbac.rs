//! The roles of `deploy/` grant what the programs ask an API server for, and nothing else.

use std::path::Path;
use std::time::Duration;

use model::Status;
use model::{Condition, Kind, KindSet, ObjectKey, ObjectRef, ObjectStatus, ParentRef, Problem};
use model_watch::{LeaseTiming, StatusWriter};
use tests::apiserver::{Access, ApiServer, Grant, grants};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, eventually, options, server_with};

/// Asks as a program does that follows `kinds` and tells a problem twice.
async fn follow_and_tell(server: &ApiServer, kinds: KindSet, program: &'static str) {
    let kinds: Vec<Kind> = kinds.into_iter().collect();
    let mut client = Client::start(options(&[server]), &kinds);
    for kind in kinds {
        client.until_watching(kind).await;
    }
    for times in 1..=2 {
        let key = ObjectKey::new("shop", "web");
        let problem = Problem::new(Kind::Service, key, "spec.ports", "is no list", "not served");
        let (_problems, receiver) = watch::channel(vec![problem]);
        let cancel = CancellationToken::new();
        let (options, token) = (options(&[server]), cancel.clone());
        let posting = tokio::spawn(async move {
            model_watch::post_events(options, program, "node-1".into(), receiver, token).await;
        });
        eventually("the Event".to_owned(), || {
            server
                .events()
                .first()
                .is_some_and(|event| event["count"] == times)
        })
        .await;
        cancel.cancel();
        posting.await.unwrap();
    }
}

/// Compares what was asked for with what the manifest grants.
#[track_caller]
fn check(server: &ApiServer, manifest: &str, service_account: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes");
    let yaml = std::fs::read_to_string(path.join(manifest)).unwrap();
    let grants = grants(&yaml, service_account).unwrap();
    let asked = server.accesses();
    let lacking: Vec<&Access> = asked
        .iter()
        .filter(|access| !grants.iter().any(|grant| grant.allows(access)))
        .collect();
    assert!(lacking.is_empty(), "{manifest} does not grant {lacking:#?}");
    let unused: Vec<&Grant> = grants
        .iter()
        .filter(|grant| !asked.iter().any(|access| grant.allows(access)))
        .collect();
    assert!(
        unused.is_empty(),
        "{manifest} grants for nothing {unused:#?}"
    );
}

#[tokio::test]
async fn the_agents_role_is_what_it_needs() {
    let server = server_with(&[]);
    follow_and_tell(&server, agent::runtime::kinds(true), "fairlead-agent").await;
    check(&server, "fairlead.yaml", "fairlead-agent");
}

fn condition() -> Condition {
    Condition {
        condition_type: "Accepted",
        is_true: true,
        reason: "Accepted",
        message: "".into(),
        generation: 1,
    }
}

fn route() -> Status {
    let parent = ParentRef {
        target: ObjectRef {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "web".into(),
        },
        section_name: None,
        port: None,
    };
    Status::Route {
        controller: "fairlead.io/edge".into(),
        parents: vec![(parent, vec![condition()])],
    }
}

/// A status of each kind that has one.
fn statuses() -> Vec<ObjectStatus> {
    let gateway = Status::Gateway {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        conditions: vec![condition()],
        listeners: Vec::new(),
    };
    let told = [
        (Kind::GatewayClass, Status::Class(vec![condition()])),
        (Kind::Gateway, gateway),
        (Kind::HttpRoute, route()),
        (Kind::TlsRoute, route()),
        (Kind::TcpRoute, route()),
        (
            Kind::Ingress,
            Status::LoadBalancer(vec!["192.0.2.1".parse().unwrap()]),
        ),
    ];
    let told = told.into_iter().map(|(kind, status)| ObjectStatus {
        kind,
        key: if kind == Kind::GatewayClass {
            ObjectKey::cluster_scoped("web")
        } else {
            ObjectKey::new("shop", "web")
        },
        status,
    });
    told.collect()
}

const TOLD: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: web}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: shop, name: web}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {namespace: shop, name: web}}
---
{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TLSRoute, metadata: {namespace: shop, name: web}}
---
{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {namespace: shop, name: web}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: shop, name: web}}
";

#[tokio::test]
async fn the_config_generators_role_is_what_it_needs_with_every_convention() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/edge");
    let (mut kinds, mut lease) = (KindSet::new(), None);
    for convention in ["endpoints", "services", "pods", "ingress", "gateway"] {
        let text = std::fs::read_to_string(examples.join(format!("{convention}.toml"))).unwrap();
        let settings = confgen::config::parse(&text).unwrap();
        kinds.extend(confgen::edge::kinds(&settings.edge));
        lease = settings.lease;
    }
    let server = server_with(&[]);
    server.apply_yaml(TOLD).unwrap();
    follow_and_tell(&server, kinds, "fairlead-confgen").await;
    let (_statuses, receiver) = watch::channel(statuses());
    let cancel = CancellationToken::new();
    let writer = StatusWriter {
        lease: lease.unwrap(),
        holder: "edge-1".to_owned(),
        timing: LeaseTiming {
            duration: Duration::from_secs(1),
            period: Duration::from_millis(100),
        },
    };
    let writing =
        model_watch::write_statuses(options(&[&server]), writer, receiver, cancel.clone());
    let writing = tokio::spawn(writing);
    eventually("every status".to_owned(), || {
        let patched = server.accesses();
        let of_status = patched
            .iter()
            .filter(|access| access.resource.ends_with("/status"));
        of_status.count() == statuses().len()
    })
    .await;
    cancel.cancel();
    writing.await.unwrap();
    check(&server, "fairlead-confgen.yaml", "fairlead-confgen");
}
