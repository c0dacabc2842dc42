//! What clients and pods speak through both proxies besides plain requests.

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tests::harness::poll;

use crate::h2c;
use crate::node::{HAPROXY, NGINX, Node};
use crate::pods::{self, WebSocket, ask, endpoints, ingress, pod_of, service};

const PATIENCE: Duration = Duration::from_secs(30);
const INGRESS: &str = "[ingress]\nclass = \"edge\"";
const PROXIES: [&str; 2] = [HAPROXY, NGINX];

fn in_clear(address: &str) -> String {
    format!("http = [\"{address}:80\"]\nhttps = []")
}

#[test]
fn a_websocket_outlives_changes_of_the_pods_beside_it() {
    let mut node = Node::new();
    pods::start(&node);
    let shop = |pods: &[u8]| {
        service("chat", &endpoints(pods)) + &ingress("chat", "chat.example", "chat", "")
    };
    node.publish(&shop(&[11]));
    node.serve(in_clear, INGRESS);
    let open = |proxy: &'static str| {
        let opened = node.inside(move || WebSocket::open(proxy.parse().unwrap(), "chat.example"));
        opened
            .join()
            .unwrap()
            .unwrap_or_else(|error| panic!("{proxy}: {error:#}"))
    };
    let mut sockets = PROXIES.map(open);
    for (round, pods) in [&[11, 12][..], &[11, 12, 13], &[11]]
        .into_iter()
        .enumerate()
    {
        for (proxy, socket) in PROXIES.iter().zip(&mut sockets) {
            for text in ["hello", "again"] {
                let answer = socket.ask(&format!("{text} {round}"));
                let answer = answer.unwrap_or_else(|error| panic!("{proxy}: {error:#}"));
                assert_eq!(answer, format!("pod 11 {text} {round}"), "{proxy}");
            }
        }
        node.publish(&shop(pods));
        node.live();
    }
}

#[test]
fn http2_goes_to_the_pods_in_clear_with_its_trailers() {
    let mut node = Node::new();
    let made = rcgen::generate_simple_self_signed(vec!["grpc.example".to_owned()]).unwrap();
    let indent = |pem: String| pem.replace('\n', "\n    ");
    let secret = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{namespace: shop, name: tls}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
---
",
        indent(made.cert.pem()),
        indent(made.signing_key.serialize_pem()),
    );
    let annotations = "nginx.ingress.kubernetes.io/backend-protocol: GRPC";
    node.publish(
        &(service("grpc", &endpoints(&[11]))
            + &ingress("grpc", "grpc.example", "grpc", annotations).replace(
                "  rules:",
                "  tls: [{hosts: [grpc.example], secretName: tls}]\n  rules:",
            )
            + &secret),
    );
    h2c::start(&node, 11);
    node.serve(
        |address| format!("http = [\"{address}:80\"]\nhttps = [\"{address}:443\"]"),
        INGRESS,
    );
    for proxy in PROXIES {
        let resolve = format!("grpc.example:443:{proxy}");
        let path = node.namespace_path();
        let mut told = String::new();
        let answered = poll(PATIENCE, || {
            let output = Command::new("nsenter")
                .arg(format!("--net={}", path.display()))
                .args([
                    "curl",
                    "-ksv",
                    "--http2",
                    "--max-time",
                    "10",
                    "--data-binary",
                    "hello",
                ])
                .args(["-H", "Content-Type: application/grpc", "-H", "TE: trailers"])
                .args(["--resolve", &resolve, "https://grpc.example/shop.Cart/Add"])
                .output()
                .unwrap();
            told = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            told.starts_with("hello").then_some(())
        });
        assert!(answered.is_some(), "{proxy}: {told}");
        assert!(told.contains("< HTTP/2 200"), "{proxy}: {told}");
        assert!(told.contains("< grpc-status: 0"), "{proxy}: {told}");
    }
}

#[test]
fn the_proxy_protocol_names_the_client_to_the_pods() {
    let mut node = Node::new();
    pods::start(&node);
    node.publish(&(service("web", &endpoints(&[11])) + &ingress("web", "www.example", "web", "")));
    node.serve(
        |address| in_clear(address) + &format!("\nproxy_protocol = [\"{address}:80\"]"),
        INGRESS,
    );
    for proxy in PROXIES {
        let first = format!("PROXY TCP4 203.0.113.9 {proxy} 4711 80\r\n");
        let asked = node.inside(move || {
            let request = "GET / HTTP/1.1\r\nHost: www.example";
            let to = proxy.parse().unwrap();
            [ask(to, &first, request), ask(to, "", request)]
        });
        let [told, untold] = asked.join().unwrap();
        let told = told.unwrap().to_ascii_lowercase();
        assert_eq!(pod_of(&told).unwrap(), 11, "{proxy}: {told}");
        assert!(
            told.contains("x-forwarded-for: 203.0.113.9\r\n"),
            "{proxy}: {told}"
        );
        // Who does not say for whom it speaks is nobody's proxy.
        let untold = untold.unwrap_or_default();
        assert!(!untold.contains("pod 11"), "{proxy}: {untold}");
    }
}

#[test]
fn a_request_under_way_ends_at_a_pod_that_drains() {
    let mut node = Node::new();
    let held = pods::start(&node);
    let shop =
        |endpoints: &str| service("web", endpoints) + &ingress("web", "www.example", "web", "");
    node.publish(&shop(&endpoints(&[11])));
    node.serve(in_clear, INGRESS);
    let slow = PROXIES.map(|proxy| {
        node.inside(move || {
            let request = "GET /slow HTTP/1.1\r\nHost: www.example";
            pod_of(&ask(proxy.parse().unwrap(), "", request)?)
        })
    });
    let both = || (held.begun.load(Ordering::SeqCst) == PROXIES.len()).then_some(());
    assert!(poll(PATIENCE, both).is_some());
    let drains = "{addresses: [10.0.0.11], conditions: {ready: false, serving: true, terminating: true}}, {addresses: [10.0.0.12]}";
    node.publish(&shop(drains));
    let new = |proxy: &'static str| {
        let asked = node.inside(move || {
            let request = "GET / HTTP/1.1\r\nHost: www.example";
            pod_of(&ask(proxy.parse().unwrap(), "", request)?)
        });
        asked.join().unwrap()
    };
    for proxy in PROXIES {
        let moved = poll(PATIENCE, || (new(proxy).unwrap() == 12).then_some(()));
        assert!(moved.is_some(), "{proxy}");
        for _ in 0..20 {
            assert_eq!(new(proxy).unwrap(), 12, "{proxy}");
        }
    }
    assert!(slow.iter().all(|slow| !slow.is_finished()));
    held.released.store(true, Ordering::SeqCst);
    for (proxy, slow) in PROXIES.iter().zip(slow) {
        assert_eq!(slow.join().unwrap().unwrap(), 11, "{proxy}");
    }
}
