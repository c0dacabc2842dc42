//! Changes while traffic flows.

use std::time::Duration;

use tests::harness::{ServiceSpec, Traffic, eventually, poll};

use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{Cluster, expect_clean, tcp_and_udp, web};

#[test]
fn scaling_fails_no_connection() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    let mut flows = Vec::new();
    for v6 in [false, true] {
        let node2 = cluster.lab.address("node2", v6);
        for (from, to, port) in [
            (Covered("pod-a"), service.ip(v6), 80),
            (Uncovered("pod-b"), service.ip(v6), 80),
            (Covered("client"), node2, 30080),
        ] {
            flows.extend(
                tcp_and_udp(to, port)
                    .map(|traffic| cluster.flow(from, &traffic.every_milliseconds(2))),
            );
        }
    }
    let probe = || Traffic::connect(service.ip(false), 80);
    for pods in [
        &["a1", "a2", "b1"][..],
        &["b1"],
        &["a2", "b1"],
        &["a1"],
        &["a1", "a2", "b1"],
    ] {
        cluster.lab.apply(&service.clone().endpoints(pods)).unwrap();
        cluster.await_spread(Covered("pod-a"), probe(), pods);
        cluster.await_spread(Uncovered("pod-b"), probe(), pods);
    }
    for flow in flows {
        expect_clean(flow);
    }
}

#[test]
fn a_terminating_endpoint_keeps_its_connections_and_gets_no_new_ones() {
    let service = web().endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service]);
    let held = |v6, from| cluster.flow(from, &Traffic::hold(service.ip(v6), 80).workers(3));
    let flows = [
        held(false, Covered("pod-a")),
        held(true, Covered("pod-a")),
        held(false, Uncovered("pod-c")),
        held(true, Uncovered("pod-c")),
        cluster.flow(
            Covered("client"),
            &Traffic::hold(cluster.lab.address("node1", false), 30080),
        ),
    ];
    cluster
        .lab
        .apply(&service.clone().endpoints(&["a1"]).terminating("b1"))
        .unwrap();
    for from in [Covered("pod-a"), Uncovered("pod-a")] {
        for traffic in tcp_and_udp(service.ip(false), 80) {
            cluster.await_spread(from, traffic, &["a1"]);
        }
    }
    for flow in flows {
        assert_eq!(
            expect_clean(flow).backends.into_keys().collect::<Vec<_>>(),
            ["b1"]
        );
    }
}

#[test]
fn terminating_endpoints_serve_when_nothing_is_ready() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    cluster
        .lab
        .apply(
            &service
                .clone()
                .endpoints(&[])
                .not_ready("a1")
                .terminating("b1"),
        )
        .unwrap();
    for from in [Covered("pod-a"), Uncovered("pod-b")] {
        for traffic in tcp_and_udp(service.ip(true), 80) {
            cluster.await_spread(from, traffic, &["b1"]);
        }
    }
}

#[test]
fn a_udp_flow_whose_backend_is_gone_moves_to_another() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    let flows = [
        (Covered("pod-a"), service.ip(false), 80),
        (Covered("pod-b"), service.ip(true), 80),
        (Covered("node2"), service.ip(false), 80),
        (Covered("client"), cluster.lab.address("node2", true), 30080),
    ]
    .map(|(from, to, port)| cluster.flow(from, &Traffic::udp(to, port)));
    cluster
        .lab
        .apply(&service.clone().endpoints(&["b1"]))
        .unwrap();
    for from in [Covered("pod-a"), Covered("pod-b")] {
        cluster.await_spread(from, Traffic::udp_fresh(service.ip(false), 80), &["b1"]);
    }
    // The flows exchange a datagram every 10 ms: let each send some to the new backend.
    let probe = Traffic::udp(service.ip(false), 80).count(10);
    assert!(cluster.run(Covered("pod-a"), &probe).is_clean());
    for flow in flows {
        let report = expect_clean(flow);
        assert_eq!(
            report.backends.keys().collect::<Vec<_>>(),
            ["a1", "b1"],
            "{report:?}"
        );
    }
}

#[test]
fn a_service_may_come_and_go_and_come_back() {
    let service = web().endpoints(&["a1"]);
    let other = ServiceSpec::new("other", 11)
        .tcp(80, 8080)
        .endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service, &other]);
    let witness = cluster.flow(
        Covered("pod-a"),
        &Traffic::connect(other.ip(false), 80).every_milliseconds(2),
    );
    for _ in 0..3 {
        cluster.lab.manifests().remove(&service.file()).unwrap();
        let gone = poll(Duration::from_secs(10), || {
            let probe = Traffic::connect(service.ip(false), 80)
                .count(1)
                .timeout_milliseconds(200);
            (cluster.run(Covered("pod-a"), &probe).answered == 0).then_some(())
        });
        assert_eq!(gone, Some(()));
        cluster.lab.apply(&service).unwrap();
        cluster.await_spread(
            Covered("pod-a"),
            Traffic::connect(service.ip(false), 80),
            &["a1"],
        );
    }
    expect_clean(witness);
}

#[test]
fn a_malformed_object_affects_nothing_else_and_is_named_in_the_status() {
    let service = web().endpoints(&["a1", "b1"]);
    let mut cluster = Cluster::start(&[&service]);
    let witness = cluster.flow(
        Uncovered("pod-a"),
        &Traffic::connect(service.ip(false), 80).every_milliseconds(2),
    );
    let broken = "apiVersion: v1\nkind: Service\nmetadata: {name: broken, namespace: lab}\nspec:\n  \
                  clusterIP: 10.96.0.77\n  ports: [{port: 99999}]\n---\nkind: {{{";
    cluster
        .lab
        .manifests()
        .write_text("broken.yaml", broken)
        .unwrap();
    let problems = |cluster: &mut Cluster| {
        let status = cluster.agent("node1").status().unwrap();
        status["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    eventually("the status names the object and its field", || {
        let problems = problems(&mut cluster);
        let named = problems
            .iter()
            .any(|problem| problem.contains("broken") && problem.contains("spec.ports[0].port"));
        anyhow::ensure!(named, "problems: {problems:?}");
        Ok(Some(()))
    })
    .unwrap();
    let late = ServiceSpec::new("late", 12)
        .tcp(80, 8080)
        .endpoints(&["b1"]);
    cluster.lab.apply(&late).unwrap();
    cluster.await_spread(
        Covered("pod-a"),
        Traffic::connect(late.ip(false), 80),
        &["b1"],
    );
    expect_clean(witness);
    cluster.lab.manifests().remove("broken.yaml").unwrap();
    eventually("the problems go with the object", || {
        Ok(problems(&mut cluster).is_empty().then_some(()))
    })
    .unwrap();
}

#[test]
fn a_pod_with_the_address_of_another_is_reached_at_its_own_interface() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let probe = || Traffic::udp_fresh(service.ip(v6), 80);
        // The programs are asked for the way all the time, and have answers.
        let flows = ["pod-a", "pod-b"]
            .map(|pod| cluster.flow(Uncovered(pod), &probe().every_milliseconds(2)));
        cluster.await_spread(Uncovered("pod-a"), probe(), &["a1"]);
        cluster.lab.replace_link("a1").unwrap();
        for pod in ["pod-a", "pod-b"] {
            let one = probe().count(1).timeout_milliseconds(100);
            eventually("the pod answers", || {
                Ok((cluster.run(Uncovered(pod), &one).answered == 1).then_some(()))
            })
            .unwrap();
        }
        for flow in flows {
            assert!(flow.stop().unwrap().answered > 0);
        }
        // From then on nothing is lost.
        for pod in ["pod-a", "pod-b"] {
            cluster.expect_spread(Uncovered(pod), probe(), &["a1"]);
        }
    }
}
