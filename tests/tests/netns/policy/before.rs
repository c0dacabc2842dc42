//! Policy is switched on on a node where connections are.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use tests::harness::{AgentOptions, ServiceSpec};

use super::{PODS, enforce, label};
use crate::cluster::{Cluster, web};
use crate::takeover;

const PORT: u16 = 7000;
/// A packet that is dropped once is sent again within this.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection between pods; the first is the side that was asked.
struct Connection {
    server: TcpStream,
    client: TcpStream,
}

impl Connection {
    /// From a pod to another, by the address and port `to`.
    #[track_caller]
    fn open(cluster: &Cluster, client: &str, server: &str, to: (IpAddr, u16)) -> Self {
        let at = cluster.lab.address(server, to.0.is_ipv6());
        let listener = cluster
            .lab
            .place(server)
            .namespace
            .run(|| Ok(TcpListener::bind((at, PORT))?))
            .unwrap();
        let client = cluster
            .lab
            .place(client)
            .namespace
            .run(|| Ok(TcpStream::connect_timeout(&to.into(), PATIENCE)?))
            .unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut connection = Self { server, client };
        assert!(connection.is_heard(), "before anything is switched on");
        connection
    }

    /// Whether what the server says first arrives.
    fn is_heard(&mut self) -> bool {
        self.client.set_read_timeout(Some(PATIENCE)).unwrap();
        self.server.write_all(b"x").unwrap();
        self.client.read_exact(&mut [0]).is_ok()
    }
}

#[track_caller]
fn switch_on(cluster: &mut Cluster) {
    for node in ["node1", "node2"] {
        if let Some(agent) = cluster.agents.get_mut(node) {
            agent.process().kill().unwrap();
        }
    }
    cluster.options = AgentOptions::flags(&["--run-firewall"]);
    for node in ["node1", "node2"] {
        cluster.restart(node);
    }
}

/// `a1` may begin nothing, and nobody may begin anything with `a2`.
fn policies(cluster: &Cluster) {
    enforce(cluster, "web", json!({"policyTypes": ["Egress"]}));
    let closed = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "lab"},
        "spec": {"podSelector": {"matchLabels": {"app": "web-2"}}, "policyTypes": ["Ingress"]}});
    cluster
        .lab
        .manifests()
        .edit(super::POLICIES, |documents| documents.push(closed))
        .unwrap();
}

#[track_caller]
fn expect_judged(asked: Vec<Connection>, forbidden: Vec<Connection>) {
    for mut connection in asked {
        assert!(connection.is_heard(), "an answer is no beginning");
    }
    for mut connection in forbidden {
        assert!(
            !connection.is_heard(),
            "what nobody may begin is cut, whoever speaks first"
        );
    }
}

#[test]
fn connections_by_a_service_are_judged_by_who_began_them() {
    let service = |name: &str, number, pod| {
        ServiceSpec::new(name, number)
            .tcp(80, PORT)
            .endpoints(&[pod])
    };
    let (open, closed) = (service("open", 10, "a1"), service("closed", 11, "a2"));
    let off = AgentOptions::flags(&["--run-firewall=false"]);
    let cluster = Cluster::without_agents(off, &[&open, &closed]);
    label(&cluster, &PODS);
    let mut cluster = cluster.with_agents(&["node1", "node2"]);
    policies(&cluster);
    let (mut asked, mut forbidden) = (Vec::new(), Vec::new());
    for v6 in [false, true] {
        // What another node has balanced comes here as it is, and is told by the kernel, if at all.
        let to = |service: &ServiceSpec| (service.ip(v6), 80);
        asked.push(Connection::open(&cluster, "pod-a", "a1", to(&open)));
        forbidden.push(Connection::open(&cluster, "pod-a", "a2", to(&closed)));
    }
    switch_on(&mut cluster);
    expect_judged(asked, forbidden);
}

#[test]
fn connections_that_the_kernel_tracks_are_judged_by_who_began_them() {
    let service = web().endpoints(&["a1", "b1"]);
    let cluster = Cluster::without_agents(AgentOptions::default(), &[&service]);
    label(&cluster, &PODS);
    policies(&cluster);
    // Rules of another proxy: they have the kernel track connections.
    takeover::load(&cluster, "node1");
    let mut cluster = cluster;
    let (mut asked, mut forbidden) = (Vec::new(), Vec::new());
    for v6 in [false, true] {
        for client in ["pod-a", "pod-b"] {
            let to = |pod| (cluster.lab.address(pod, v6), PORT);
            asked.push(Connection::open(&cluster, client, "a1", to("a1")));
            forbidden.push(Connection::open(&cluster, client, "a2", to("a2")));
        }
    }
    switch_on(&mut cluster);
    expect_judged(asked, forbidden);
}
