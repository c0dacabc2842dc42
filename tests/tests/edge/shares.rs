//! Who gets how much: weights, and clients that stay with their pod.

use std::collections::BTreeMap;

use crate::node::{HAPROXY, NGINX, Node};
use crate::pods::{self, ask, endpoints, ingress, pod_of, service};

const INGRESS: &str = "[ingress]\nclass = \"edge\"";
/// At 30 in 100, five standard deviations are 7 in 100.
const REQUESTS: usize = 1000;

fn in_clear(address: &str) -> String {
    format!("http = [\"{address}:80\"]\nhttps = []")
}

/// Answers by pod of so many requests with these header lines.
fn spread(
    node: &Node,
    proxy: &'static str,
    host: &str,
    lines: &str,
    count: usize,
) -> BTreeMap<u8, usize> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}{lines}");
    let asked = node.inside(move || {
        let mut pods = BTreeMap::new();
        for _ in 0..count {
            let answer = ask(proxy.parse().unwrap(), "", &request).unwrap();
            *pods.entry(pod_of(&answer).unwrap()).or_default() += 1;
        }
        pods
    });
    asked.join().unwrap()
}

#[test]
fn requests_are_shared_by_weight() {
    let mut node = Node::new();
    pods::start(&node);
    let canary = "nginx.ingress.kubernetes.io/canary: 'true', nginx.ingress.kubernetes.io/canary-weight: '30'";
    let shop = [
        service("web", &endpoints(&[11, 12])),
        service("next", &endpoints(&[13])),
        ingress("web", "www.example", "web", ""),
        ingress("next", "www.example", "next", canary),
    ];
    node.publish(&shop.concat());
    node.serve(in_clear, INGRESS);
    for proxy in [HAPROXY, NGINX] {
        let pods = spread(&node, proxy, "www.example", "", REQUESTS);
        eprintln!("{proxy}: {pods:?} of {REQUESTS}");
        assert!((230..=370).contains(&pods[&13]), "{proxy}: {pods:?}");
        // The others take turns.
        assert!(pods[&11].abs_diff(pods[&12]) <= 20, "{proxy}: {pods:?}");
    }
}

#[test]
fn a_client_stays_with_its_pod() {
    let mut node = Node::new();
    pods::start(&node);
    let sticky = "nginx.ingress.kubernetes.io/affinity: cookie, nginx.ingress.kubernetes.io/session-cookie-name: seat";
    let shop = |pods: &[u8]| {
        service("web", &endpoints(pods)) + &ingress("web", "www.example", "web", sticky)
    };
    node.publish(&shop(&[11, 12, 13]));
    node.serve(in_clear, INGRESS);
    // HAProxy tells clients by a cookie: without one they are spread.
    let asked = node.inside(|| {
        let request = "GET / HTTP/1.1\r\nHost: www.example";
        ask(HAPROXY.parse().unwrap(), "", request).unwrap()
    });
    let answer = asked.join().unwrap();
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.unwrap_or_else(|| panic!("{answer}"));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("seat="), "{cookie}");
    let pod = pod_of(&answer).unwrap();
    let lines = format!("\r\nCookie: {cookie}");
    assert_eq!(
        spread(&node, HAPROXY, "www.example", &lines, 30),
        BTreeMap::from([(pod, 30)])
    );
    assert_eq!(spread(&node, HAPROXY, "www.example", "", 30).len(), 3);
    // nginx tells them by their address.
    let alone = spread(&node, NGINX, "www.example", "", 30);
    assert_eq!(alone.len(), 1, "{alone:?}");
    // A pod that is added takes nobody away from HAProxy's cookie.
    node.publish(&shop(&[11, 12, 13, 14]));
    node.live();
    assert_eq!(
        spread(&node, HAPROXY, "www.example", &lines, 30),
        BTreeMap::from([(pod, 30)])
    );
}
