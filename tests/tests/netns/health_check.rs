//! `healthCheckNodePort`: what a load balancer hears of each node.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::harness::{ServiceSpec, eventually};

use crate::cluster::Cluster;

const PORT: u16 = 32_100;
const PATIENCE: Duration = Duration::from_secs(2);

/// What the outside client hears from a node: status code, weight and body; `None` where the port is
/// closed.
fn ask(cluster: &Cluster, node: IpAddr) -> Result<Option<(u16, String, Value)>> {
    cluster.lab.place("client").namespace.run(|| {
        let to = SocketAddr::new(node, PORT);
        let mut stream = match TcpStream::connect_timeout(&to, PATIENCE) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
            other => other?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let weight = head
            .lines()
            .find_map(|line| line.strip_prefix("x-load-balancing-endpoint-weight: "));
        Ok(Some((
            code.context("no status")?,
            weight.context("no weight")?.to_owned(),
            serde_json::from_str(body)?,
        )))
    })
}

/// Waits until a node answers so in both families.
#[track_caller]
fn await_answer(cluster: &Cluster, node: &str, expected: Option<(u16, usize)>) {
    let expected = expected.map(|(code, count)| {
        let body = json!({
            "service": {"namespace": "lab", "name": "web"},
            "localEndpoints": count,
            "serviceProxyHealthy": true,
        });
        (code, count.to_string(), body)
    });
    for v6 in [false, true] {
        let address = cluster.lab.address(node, v6);
        eventually("a node answers as expected", || {
            let found = ask(cluster, address)?;
            ensure!(
                found == expected,
                "{address}: {found:?} instead of {expected:?}"
            );
            Ok(Some(()))
        })
        .unwrap();
    }
}

/// Applies a Service of IPv4 alone: its slices are of that family.
#[track_caller]
fn apply_ipv4(cluster: &Cluster, service: &ServiceSpec) {
    let mut documents = cluster.lab.documents(service).unwrap();
    documents.retain(|document| document["addressType"] != "IPv6");
    let manifests = cluster.lab.manifests();
    manifests.write(&service.file(), &documents).unwrap();
}

#[test]
fn a_load_balancer_hears_which_nodes_have_endpoints() {
    let service = ServiceSpec::new("web", 10)
        .both_on_nodes(80, 8080, 30080)
        .spec("type", "LoadBalancer")
        .spec("externalTrafficPolicy", "Local")
        .spec("healthCheckNodePort", PORT)
        .spec("ipFamilyPolicy", "SingleStack")
        .spec("ipFamilies", vec!["IPv4"])
        .spec("clusterIPs", vec!["10.96.0.10"])
        .endpoints(&["a1", "a2"]);
    let cluster = Cluster::start(&[]);
    apply_ipv4(&cluster, &service);
    await_answer(&cluster, "node1", Some((200, 2)));
    await_answer(&cluster, "node2", Some((503, 0)));
    let moved = service.clone().endpoints(&["b1"]).terminating("a1");
    apply_ipv4(&cluster, &moved);
    await_answer(&cluster, "node1", Some((503, 0)));
    await_answer(&cluster, "node2", Some((200, 1)));
    cluster.lab.manifests().remove(&service.file()).unwrap();
    for node in ["node1", "node2"] {
        await_answer(&cluster, node, None);
    }
}
