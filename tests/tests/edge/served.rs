//! `fairlead-confgen run` beside HAProxy and nginx, in a namespace: a shop whose pods move.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::node::{HAPROXY, NGINX, Node, PODS, STATUS, get, is_live};

/// The shop is these pods, and a number of hosts more have it too.
fn shop(pods: &[u8], more_hosts: usize) -> String {
    let endpoints = pods
        .iter()
        .map(|last| format!("{{addresses: [10.0.0.{last}]}}"));
    let endpoints = endpoints.collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for host in 0..=more_hosts {
        text += &format!(
                "
apiVersion: v1
kind: Service
metadata: {{namespace: shop, name: web{host}, annotations: {{domain: shop{host}.example, proto: http}}}}
spec: {{clusterIP: 10.96.0.{}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: shop, name: web{host}-1, labels: {{kubernetes.io/service-name: web{host}}}}}
addressType: IPv4
ports: [{{name: http, port: 9000}}]
endpoints: [{endpoints}]
---
",
                host + 1
            );
    }
    text
}

/// Answers every request with the pod's number.
fn serve(listener: &TcpListener, number: u8) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        thread::spawn(move || {
            let mut head = Vec::new();
            let mut byte = [0];
            loop {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    Ok(_) | Err(_) => return,
                }
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    let body = format!("pod {number}\n");
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Changes that went to HAProxy's process, with a reload or without.
fn changes(told: &str) -> u64 {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(told) else {
        return 0;
    };
    let totals = &value["outputs"]["haproxy"]["totals"];
    let reloads = totals["reloads"].as_object().into_iter().flatten();
    let reloads = reloads.filter_map(|(_, count)| count.as_u64());
    reloads.sum::<u64>() + totals["runtime_changes"].as_u64().unwrap_or(0)
}

#[test]
fn a_shop_is_served_by_both_proxies_while_its_pods_move() {
    let mut edge = Node::new();
    for number in PODS {
        drop(edge.inside(move || {
            let listener = TcpListener::bind((Ipv4Addr::new(10, 0, 0, number), 9000)).unwrap();
            serve(&listener, number);
        }));
    }
    edge.publish(&shop(&[11, 12], 0));
    edge.serve(
        |address| format!("http = [\"{address}:80\"]\nhttps = []"),
        "[endpoints]",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let counts = [HAPROXY, NGINX].map(|address| {
        let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = (Arc::clone(&good), Arc::clone(&bad));
        let stop = Arc::clone(&stop);
        let at = SocketAddr::new(address.parse().unwrap(), 80);
        let client = edge.inside(move || {
            while !stop.load(Ordering::Relaxed) {
                let count = match get(at, "shop0.example", "/") {
                    Some(body) if body.starts_with("pod ") => &good,
                    Some(_) | None => &bad,
                };
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        (address, client, counted)
    });
    for round in 0..12 {
        let pods = [PODS[round % 4], PODS[(round + 1) % 4]];
        let before = changes(&edge.status(STATUS[0], is_live));
        edge.publish(&shop(&pods, round / 4));
        thread::sleep(Duration::from_millis(400));
        // On a busy machine two rounds would be one change.
        edge.status(STATUS[0], |told| round == 0 || changes(told) > before);
        edge.live();
    }
    edge.live();
    stop.store(true, Ordering::Relaxed);
    for (address, client, (good, bad)) in counts {
        client.join().unwrap();
        let (good, bad) = (good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed));
        eprintln!("{address}: {good} good, {bad} bad");
        assert!(good > 100, "{address}: {good}");
        assert_eq!(bad, 0, "{address}: of {good}");
    }
    // Pods that move reach HAProxy without a reload; each of the two new hosts may need one.
    let told = edge.status(STATUS[0], is_live);
    let value: serde_json::Value = serde_json::from_str(&told).unwrap();
    let totals = &value["outputs"]["haproxy"]["totals"];
    assert!(totals["runtime_changes"].as_u64() >= Some(6), "{totals}");
    let reloads = totals["reloads"].as_object().unwrap().values();
    assert!(
        reloads.filter_map(serde_json::Value::as_u64).sum::<u64>() <= 4,
        "{totals}"
    );
}
