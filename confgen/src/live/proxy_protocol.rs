//! Servers that are told the client's address before anything else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::{ask, in_haproxy, in_nginx};
use crate::edge::{EdgePlan, Listener};
use crate::samples;

/// Begins a header of version 2 (PROXY protocol, section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A server that insists on the header, and answers with the client's address in it.
fn insisting() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            // Who sends no header gets no answer.
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    if header[..12] != SIGNATURE {
        return Ok(());
    }
    let mut addresses = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
    stream.read_exact(&mut addresses)?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let [a, b, c, d, ..] = addresses[..] else {
        return Ok(());
    };
    let body = format!("client {a}.{b}.{c}.{d}");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn plan(port: u16, is_told: bool) -> EdgePlan {
    let mut backend = samples::backend(
        "web",
        vec![samples::server("web-1", "127.0.0.1", insisting())],
    );
    backend.sends_proxy_protocol = is_told;
    let rule = samples::rule("all", samples::prefix("/"));
    let rule = crate::edge::HttpRule {
        action: crate::edge::Action::Forward(crate::edge::Forward::to(samples::id("web"))),
        ..rule
    };
    let shop = samples::site(vec![rule]);
    let listener = samples::http(vec![(samples::host("shop.example"), shop)]);
    samples::plan(
        vec![(samples::listen("127.0.0.1", port), Listener::Http(listener))],
        vec![backend],
    )
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";

#[test]
fn haproxy_tells_servers_that_want_it_the_client() {
    in_haproxy(
        |port, _| plan(port, true),
        |port| assert_eq!(ask(port, REQUEST), "200 client 127.0.0.1"),
    );
    in_haproxy(
        |port, _| plan(port, false),
        |port| assert_eq!(ask(port, REQUEST), "502"),
    );
}

#[test]
fn nginx_cannot_and_says_so() {
    let rendering = crate::nginx::render(&plan(80, true), &crate::nginx::Options::default());
    let problems = rendering.expect("files").problems;
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("nginx cannot send the PROXY protocol with HTTP"),
        "{told:?}"
    );
    in_nginx(
        |port, _| plan(port, true),
        |port| assert_eq!(ask(port, REQUEST), "502"),
    );
}
