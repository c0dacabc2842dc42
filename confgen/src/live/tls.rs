//! TLS that ends here, and TLS that goes on to a backend, at one port.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use super::{echo, in_haproxy, in_nginx};
use crate::edge::EdgePlan;
use crate::{proxies, samples};

/// Requests by curl, since it speaks TLS: each to a port, at a host, with what it answers.
pub(super) fn curl(port: u16, host: &str, more: &[&str]) -> String {
    let output = proxies::program("curl")
        .args(["-sk", "--max-time", "10", "--resolve"])
        .arg(format!("{host}:{port}:127.0.0.1"))
        .args(["-w", " %{http_code} http/%{http_version}"])
        .args(more)
        .arg(format!("https://{host}:{port}/x"))
        .output()
        .expect("curl is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// TLS ends at the edge for one host, and goes on for another at the same port.
fn tls_plan(port: u16, backend: u16) -> EdgePlan {
    let mut plan = samples::tls();
    let listeners = std::sync::Arc::make_mut(&mut plan.listeners);
    let listener = listeners.remove(&samples::listen("0.0.0.0", 443));
    listeners.clear();
    listeners.insert(
        samples::listen("127.0.0.1", port),
        listener.expect("the listener"),
    );
    let web = samples::backend(
        "web",
        vec![samples::server("web-1", "127.0.0.1", echo("web"))],
    );
    let db = samples::backend("db", vec![samples::server("db-1", "127.0.0.1", backend)]);
    for backend in [web, db] {
        plan.backends.insert(backend.id.clone(), backend.into());
    }
    plan
}

#[track_caller]
fn check_tls(port: u16) {
    let body = |host: &str| format!("web GET /x host={host}:{port} x-set=- x-add=-");
    let shop = curl(port, "shop.example.com", &[]);
    assert_eq!(shop, format!("{} 200 http/2", body("shop.example.com")));
    // It wants a client's certificate, and no other host's connection is as good.
    let bank = curl(port, "bank.example.com", &["--http1.1"]);
    assert!(!bank.contains("web GET"), "{bank}");
    let header = format!("Host: bank.example.com:{port}");
    let other = curl(port, "shop.example.com", &["-H", &header, "--http1.1"]);
    assert!(other.ends_with("421 http/1.1"), "{other}");
    // Passed on: the backend is told nothing of HTTP, and what it says comes back.
    let passed = curl(port, "db.example.com", &[]);
    assert_eq!(passed, "000 http/0");
    let unknown = curl(port, "unknown.example", &[]);
    assert_eq!(unknown, "000 http/0");
}

/// A backend that tells what its connections begin with.
fn first_bytes() -> (u16, std::sync::mpsc::Receiver<Vec<u8>>) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let mut bytes = vec![0; 3];
            if stream.read_exact(&mut bytes).is_ok() && sender.send(bytes).is_err() {
                return;
            }
        }
    });
    (port, receiver)
}

/// What both do with a plan whose one backend tells what it was sent.
#[track_caller]
fn check_in(run: impl FnOnce(&dyn Fn(u16, &str) -> EdgePlan, &dyn Fn(u16))) {
    let (backend, bytes) = first_bytes();
    run(&|port, _| tls_plan(port, backend), &check_tls);
    // A TLS handshake (RFC 8446 §5.1), as the client sent it.
    let sent = bytes.recv_timeout(Duration::from_secs(5)).expect("bytes");
    assert_eq!(sent[..2], [0x16, 3]);
}

#[test]
fn haproxy_ends_tls_and_passes_it_on_at_one_port() {
    check_in(|plan, check| in_haproxy(plan, check));
}

#[test]
fn nginx_ends_tls_and_passes_it_on_at_one_port() {
    check_in(|plan, check| in_nginx(plan, check));
}
