//! The socket from end to end, and the tables people see.

use std::sync::Arc;
use std::time::Instant;

use expect_test::{Expect, expect};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::client::{self, AskError};
use super::collect::Watched;
use super::report::{
    Apply, BackendRow, CounterRow, DeviceRow, FrontendRow, MapRow, ProblemRow, RouteRow, Routing,
    ServiceRow, Services, SourceRow, Status,
};
use super::server::{self, SocketError};
use super::table;
use crate::applier::Applied;
use crate::devices::fast_path::FastPath;
use crate::divergence::Divergences;
use crate::histogram::Histogram;
use crate::reconcile::ClusterView;

fn row(id: Option<u32>, slots: Option<u32>, state: &str) -> ServiceRow {
    ServiceRow {
        service: "shop/web".into(),
        owner: "Service".into(),
        port: "http".into(),
        protocol: "TCP".into(),
        frontends: vec![FrontendRow {
            address: "10.96.0.10:80".into(),
            scope: "ClusterIP".into(),
            in_kernel: id.is_some(),
        }],
        backends: vec![
            BackendRow {
                address: "10.244.1.2:8080".into(),
                local: true,
                draining: false,
                desired: true,
                id: id.map(|_| 7),
            },
            BackendRow {
                address: "10.244.2.2:8080".into(),
                local: false,
                draining: false,
                desired: false,
                id: Some(8),
            },
        ],
        id,
        slots,
        state: state.into(),
    }
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

#[test]
fn a_service_is_shown_as_wanted_and_as_the_kernel_has_it() {
    let services = Services {
        services: vec![row(
            Some(3),
            Some(2),
            "differs: 0 frontends missing, 1 backends",
        )],
    };
    check(
        &table::services(&services, true),
        expect![[r#"
            SERVICE   PORT  FRONTEND           SCOPE      WANTED  IN KERNEL  STATE
            shop/web  http  10.96.0.10:80/TCP  ClusterIP  1       2          differs: 0 frontends missing, 1 backends

            shop/web `http`/TCP (id 3)
            ENDPOINT         WHERE   WANTED  ID IN KERNEL
            10.244.1.2:8080  local   yes     7
            10.244.2.2:8080  remote  no      8
        "#]],
    );
    let missing = Services {
        services: vec![row(None, None, "differs: 1 frontends missing, 2 backends")],
    };
    check(
        &table::services(&missing, false),
        expect![[r#"
             SERVICE   PORT  FRONTEND           SCOPE      WANTED  IN KERNEL  STATE
             shop/web  http  10.96.0.10:80/TCP  ClusterIP  1       -          differs: 1 frontends missing, 2 backends
        "#]],
    );
}

#[test]
fn status_shows_what_is_wrong_and_leaves_out_what_there_is_nothing_of() {
    let quiet = Status {
        version: "0.1.0".into(),
        pid: 42,
        node: "node1".into(),
        dataplane: "ebpf".into(),
        connect: "yes: /sys/fs/cgroup".into(),
        ..Status::default()
    };
    check(
        &table::status(&quiet),
        expect![[r#"
            agent           0.1.0 pid 42 up 0 s
            node            node1
            dataplane       ebpf
            TCP at connect  yes: /sys/fs/cgroup
            fast path       no: an older agent
            synced          no
            generation      none wanted, none applied
            last apply      never, 0 operations in 0.0 ms
            since start     0 applies, 0 failed, 0 operations, 0 repairs
        "#]],
    );
    let troubled = Status {
        synced: true,
        sources: vec![SourceRow {
            kind: "Service".into(),
            state: "degraded".into(),
            reason: Some("the watch is refused".into()),
        }],
        apply: Apply {
            desired_generation: Some(5),
            applied_generation: Some(4),
            seconds_ago: Some(2.4),
            took_milliseconds: 1.25,
            operations: 3,
            operations_total: 40,
            applies_total: 5,
            failed_total: 1,
            failures: vec!["Service shop/web port `http`/TCP: SERVICES_V1 is full".into()],
            ..Apply::default()
        },
        maps: vec![MapRow {
            map: "SERVICES_V1".into(),
            used: 4,
            max: 4,
            full: true,
        }],
        devices: vec![DeviceRow {
            name: "eth0".into(),
            role: "uplink".into(),
            error: Some("refused".into()),
        }],
        counters: vec![
            CounterRow {
                name: "packets_translated".into(),
                value: 12,
            },
            CounterRow {
                name: "drop_no_port".into(),
                value: 0,
            },
        ],
        problems: vec![ProblemRow {
            kind: "Service".into(),
            object: "shop/web".into(),
            field: "spec.ports[0].port".into(),
            message: "70000 is not a port".into(),
            effect: "the port is left out".into(),
        }],
        flags_without_effect: vec!["--run-router".into()],
        ..quiet
    };
    check(
        &table::status(&troubled),
        expect![[r#"
            agent           0.1.0 pid 42 up 0 s
            node            node1
            dataplane       ebpf
            TCP at connect  yes: /sys/fs/cgroup
            fast path       no: an older agent
            synced          yes
            generation      5 wanted, 4 applied
            last apply      2 s ago, 3 operations in 1.2 ms
            since start     5 applies, 1 failed, 40 operations, 0 repairs
            NOT APPLIED  Service shop/web port `http`/TCP: SERVICES_V1 is full

            Kinds
            KIND     STATE     REASON
            Service  degraded  the watch is refused

            Tables
            MAP          USED  MAX  FULL
            SERVICES_V1  4     4    100 %

            Interfaces
            NAME  ROLE    ERROR
            eth0  uplink  refused

            Counters
            WHAT                VALUE
            packets_translated  12

            Problems
            OBJECT            FIELD               FOUND                EFFECT
            Service shop/web  spec.ports[0].port  70000 is not a port  the port is left out

            Flags without effect in this build
            FLAG
            --run-router
        "#]],
    );
}

#[test]
fn status_shows_how_pods_of_other_nodes_are_reached_and_why() {
    let row = |network: &str, node: &str, way: &str, why: &str, error: Option<&str>| RouteRow {
        network: network.into(),
        node: node.into(),
        way: way.into(),
        why: why.into(),
        error: error.map(Into::into),
    };
    let routing = Routing {
        routes: vec![
            row(
                "10.244.2.0/24",
                "node2",
                "direct, via 172.31.0.12",
                "172.31.0.12 is in 172.31.0.0/24",
                None,
            ),
            row(
                "10.244.3.0/24",
                "node3",
                "overlay, to 172.31.1.13",
                "172.31.1.13 is in no network of this node",
                Some("no room"),
            ),
        ],
        pod_networks: vec!["10.244.1.0/24".into()],
        pod_mtu: Some(1450),
        overlay: Some("VXLAN 7100 on UDP port 4789 at 172.31.0.11, MTU 1450, to 1 nodes".into()),
        failures: vec!["no room".into()],
        cni: Some("not installed".into()),
        cni_error: Some("/etc/cni/net.d: read-only".into()),
        ..Routing::default()
    };
    let status = Status {
        routing: Some(routing),
        ..Status::default()
    };
    let text = table::status(&status);
    let (_, text) = text.split_once("\n\n").unwrap();
    check(
        text,
        expect![[r#"
        Pod network
        pod networks  10.244.1.0/24
        MTU of pods   1450
        overlay       VXLAN 7100 on UDP port 4789 at 172.31.0.11, MTU 1450, to 1 nodes
        CNI           not installed
        last apply    never
        since start   0 applies, 0 failed, 0 operations, 0 repairs
        NOT APPLIED  no room
        NOT APPLIED  /etc/cni/net.d: read-only

        Pods of other nodes
        NETWORK        NODE   WAY                      WHY                                        ERROR
        10.244.2.0/24  node2  direct, via 172.31.0.12  172.31.0.12 is in 172.31.0.0/24
        10.244.3.0/24  node3  overlay, to 172.31.1.13  172.31.1.13 is in no network of this node  no room
    "#]],
    );
}

/// An agent that has just started, without tables in the kernel.
fn watched(pins: &std::path::Path) -> Watched {
    Watched {
        started: Instant::now(),
        node: "node1".into(),
        connect: "no".into(),
        policed: false,
        without_effect: Arc::new(["--run-router".to_owned()]),
        pins: pins.into(),
        view: watch::channel(ClusterView::default()).1,
        desired: watch::channel(None).1,
        applied: watch::channel(Applied::default()).1,
        devices: watch::channel(None).1,
        look: mpsc::channel(1).0,
        unenforced: watch::channel(Vec::new()).1,
        fast_path: watch::channel(FastPath::default()).1,
        divergences: watch::channel(Divergences::default()).1,
        problems: watch::channel(Arc::default()).1,
        latency: watch::channel(Histogram::default()).1,
        kube_router_metrics: None,
        policy: None,
        routes: None,
        cni: None,
        flows: mpsc::channel(1).0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_answers_replaces_a_stale_file_and_is_not_shared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/agent.sock");
    drop(server::listen(&path).unwrap());
    assert!(path.exists(), "a killed agent leaves its socket behind");

    let cancel = CancellationToken::new();
    let listener = server::listen(&path).unwrap();
    let task = tokio::spawn(server::serve(
        listener,
        watched(directory.path()),
        mpsc::channel(1).0,
        cancel.clone(),
    ));
    let asked = path.clone();
    let (status, services) = tokio::task::spawn_blocking(move || {
        (
            client::ask::<Status>(&asked, "/v1/status"),
            client::ask::<Services>(&asked, "/v1/services?name=shop%2Fweb"),
        )
    })
    .await
    .unwrap();
    let status = status.unwrap();
    assert_eq!(
        (&*status.node, &*status.flags_without_effect),
        ("node1", &["--run-router".to_owned()][..])
    );
    let error = services.unwrap_err().to_string();
    assert!(error.contains("FRONTENDS_V2"), "{error}");
    assert!(matches!(
        server::listen(&path),
        Err(SocketError::InUse(found)) if found == path
    ));

    cancel.cancel();
    task.await.unwrap().unwrap();
    let error = client::ask::<Status>(&path, "/v1/status").unwrap_err();
    assert!(matches!(error, AskError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()));
}
