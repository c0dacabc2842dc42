//! `explain` says what traffic does.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use tests::harness::{AgentOptions, ServiceSpec};

use crate::cluster::From::Covered;
use crate::cluster::{Cluster, tcp_and_udp, web};

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(3);
const CLIENTS: [&str; 4] = ["a1", "a2", "pod-a", "pod-c"];

/// A cluster whose first node's agent knows its pods as Pods too.
fn start(services: &[&ServiceSpec]) -> Cluster {
    let cluster = Cluster::without_agents(AgentOptions::default(), services);
    let pods: Vec<Value> = cluster
        .lab
        .pods()
        .map(|(pod, _)| {
            let addresses = pod.addresses.iter().map(|address| json!({"ip": address}));
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"namespace": "lab", "name": pod.name},
                "spec": {"nodeName": pod.node, "containers": []},
                "status": {"phase": "Running", "podIPs": addresses.collect::<Vec<_>>()},
            })
        })
        .collect();
    cluster.lab.manifests().write("pods.yaml", &pods).unwrap();
    cluster.with_agents(&["node1"])
}

#[track_caller]
fn explain(cluster: &mut Cluster, from: &str, to: &str, flags: &[&str]) -> Value {
    let arguments = [
        &["explain", "--from", from, "--to", to, "--output", "json"],
        flags,
    ]
    .concat();
    let answer = cluster.agent("node1").ask(&arguments).unwrap();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    serde_json::from_str(&answer.output).unwrap()
}

#[test]
fn connections_are_explained_as_the_kernel_has_them() {
    let services = [
        web().endpoints(&["a1", "b1"]),
        ServiceSpec::new("empty", 11).tcp(80, 8080),
        ServiceSpec::new("near", 12)
            .tcp(80, 8080)
            .endpoints(&["b1"])
            .spec("internalTrafficPolicy", "Local"),
    ];
    let mut cluster = start(&services.each_ref());
    let mut check = |from: &str, to: &str, verdict: &str, words: &[&str]| {
        let answer = explain(&mut cluster, from, to, &[]);
        assert_eq!(answer["verdict"], verdict, "{from} {to}: {answer:#}");
        let text = answer.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {answer:#}");
        }
        let differing = answer["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["differs"] == true);
        assert!(!differing, "{answer:#}");
    };
    let both = ["10.244.1.10:8080", "10.244.2.10:8080"];
    check(
        "lab/pod-a",
        "lab/web:80",
        "balanced",
        &[
            &both[..],
            &[
                "Pod lab/pod-a",
                "Service lab/web",
                "FRONTENDS_V2[10.96.0.10:80/tcp]",
                "the connect programs",
            ],
        ]
        .concat(),
    );
    check(
        "172.30.0.2",
        "172.31.0.11:30080",
        "balanced",
        &["becomes the node's, 172.31.0.11"],
    );
    check(
        "lab/pod-a",
        "lab/empty",
        "rejected",
        &["have no IPv4 endpoint", "Service lab/empty"],
    );
    check(
        "lab/pod-a",
        "lab/near",
        "dropped",
        &["is on node1", "internalTrafficPolicy: Local"],
    );
    check(
        "lab/pod-a",
        "10.96.0.10:81",
        "untouched",
        &["80/tcp (Service lab/web"],
    );
    check(
        "lab/pod-a",
        "192.0.2.9:80",
        "untouched",
        &["no Service has this address"],
    );

    let answer = cluster
        .agent("node1")
        .ask(&["explain", "--from", "lab/pod-b", "--to", "lab/web:80"])
        .unwrap();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.error.contains("runs on node2"), "{answer:?}");
}

#[test]
fn the_backend_explained_for_a_hashed_service_is_the_one_traffic_reaches() {
    let service = web()
        .endpoints(&["a1", "a2", "b1"])
        .annotation("fairlead.io/scheduler", "mh");
    let mut cluster = start(&[&service]);
    for v6 in [false, true] {
        for client in CLIENTS {
            let from = cluster.lab.address(client, v6).to_string();
            for (traffic, protocol) in tcp_and_udp(service.ip(v6), 80)
                .into_iter()
                .zip(["tcp", "udp"])
            {
                let to = SocketAddr::new(service.ip(v6), 80).to_string();
                let answer = explain(&mut cluster, &from, &to, &["--proto", protocol]);
                let backends = answer["backends"].as_array().unwrap();
                assert_eq!(backends.len(), 1, "{answer:#}");
                let found = ["a1", "a2", "b1"].into_iter().find(|pod| {
                    let address = SocketAddr::new(cluster.lab.address(pod, v6), 8080);
                    backends[0] == address.to_string()
                });
                let found = found.unwrap_or_else(|| panic!("no such backend: {answer:#}"));
                cluster.expect_spread(Covered(client), traffic, &[found]);
            }
        }
    }
}

#[test]
fn the_backend_explained_for_a_source_port_is_the_one_its_packets_reach() {
    let service = web()
        .endpoints(&["a1", "a2", "b1"])
        .spec("type", "NodePort");
    let mut cluster = start(&[&service]);
    let mut asked = BTreeSet::new();
    for v6 in [false, true] {
        let from = cluster.lab.address("client", v6);
        let to = SocketAddr::new(cluster.lab.address("node1", v6), 30080);
        for _ in 0..8 {
            let client = cluster.lab.place("client");
            let bind = || Ok(UdpSocket::bind((from, 0))?);
            let socket = client.namespace.run(bind).unwrap();
            let local = socket.local_addr().unwrap().to_string();
            let flags = ["--proto", "udp"];
            let answer = explain(&mut cluster, &local, &to.to_string(), &flags);
            let backends = answer["backends"].as_array().unwrap();
            assert_eq!(backends.len(), 1, "{answer:#}");
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"who", to).unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let pod = text.split(' ').next().unwrap().to_owned();
            let address = SocketAddr::new(cluster.lab.address(&pod, v6), 8080);
            assert_eq!(backends[0], address.to_string(), "{answer:#}");
            asked.insert(pod);
        }
    }
    assert!(asked.len() > 1, "one backend alone says little: {asked:?}");
}
