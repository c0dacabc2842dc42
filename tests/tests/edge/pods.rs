//! What a pod behind the proxies speaks: HTTP, WebSocket, and slow answers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::node::{Node, PODS};

/// The port of every pod.
pub(crate) const PORT: u16 = 9000;
/// The example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhbK+xOo=";
/// What clients do with their frames' bytes (§5.3).
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A text in one frame.
const TEXT: u8 = 0x81;
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests for `/slow`, which are answered when a test says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slow {
    pub(crate) begun: Arc<AtomicUsize>,
    pub(crate) released: Arc<AtomicBool>,
}

/// Starts all pods of a node.
pub(crate) fn start(node: &Node) -> Slow {
    let slow = Slow::default();
    for number in PODS {
        let slow = slow.clone();
        drop(node.inside(move || {
            let at = (Ipv4Addr::new(10, 0, 0, number), PORT);
            for stream in TcpListener::bind(at).unwrap().incoming().flatten() {
                let slow = slow.clone();
                // A client that is gone is the end of its connection and nothing else.
                thread::spawn(move || converse(stream, number, &slow));
            }
        }));
    }
    slow
}

fn converse(mut stream: TcpStream, number: u8, slow: &Slow) -> io::Result<()> {
    loop {
        let head = read_head(&mut stream)?;
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes())?;
            loop {
                let asked = read_frame(&mut stream)?;
                write_frame(&mut stream, &format!("pod {number} {asked}"), None)?;
            }
        }
        if head.starts_with("GET /slow ") {
            slow.begun.fetch_add(1, Ordering::SeqCst);
            while !slow.released.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let body = format!("pod {number}\n{head}");
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes())?;
    }
}

/// A request's or an answer's head, with its empty line.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A WebSocket through a proxy.
pub(crate) struct WebSocket(TcpStream);

impl WebSocket {
    pub(crate) fn open(proxy: IpAddr, host: &str) -> Result<Self> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(proxy, 80), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "GET /chat HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let head = read_head(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let accept = format!("sec-websocket-accept: {}", ACCEPT.to_ascii_lowercase());
        ensure!(head.to_ascii_lowercase().contains(&accept), "{head}");
        Ok(Self(stream))
    }

    /// Sends a text, and reads what comes of it.
    pub(crate) fn ask(&mut self, text: &str) -> Result<String> {
        write_frame(&mut self.0, text, Some(MASK))?;
        read_frame(&mut self.0).context("no frame")
    }
}

fn write_frame(stream: &mut TcpStream, text: &str, mask: Option<[u8; 4]>) -> io::Result<()> {
    let length = u8::try_from(text.len()).map_err(io::Error::other)?;
    let mut frame = vec![TEXT, length];
    match mask {
        None => frame.extend(text.bytes()),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend(mask);
            frame.extend(
                text.bytes()
                    .zip(mask.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        }
    }
    stream.write_all(&frame)
}

fn read_frame(stream: &mut TcpStream) -> io::Result<String> {
    let mut start = [0; 2];
    stream.read_exact(&mut start)?;
    let [kind, length] = start;
    if kind != TEXT {
        return Err(io::Error::other(format!("frame {kind:#x}")));
    }
    let mut mask = [0; 4];
    if length & 0x80 != 0 {
        stream.read_exact(&mut mask)?;
    }
    let mut text = vec![0; usize::from(length & 0x7f)];
    stream.read_exact(&mut text)?;
    let plain = text
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, key)| byte ^ key);
    String::from_utf8(plain.collect()).map_err(io::Error::other)
}

/// One request on a connection of its own, after `first` (a PROXY header): the whole answer.
pub(crate) fn ask(proxy: IpAddr, first: &str, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(proxy, 80), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{first}{request}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The pod that an answer is of.
pub(crate) fn pod_of(answer: &str) -> Result<u8> {
    let (_, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    let line = body.lines().next().context("no body")?;
    let number = line
        .strip_prefix("pod ")
        .with_context(|| answer.to_owned())?;
    Ok(number.parse()?)
}

/// A Service `name` with its endpoints, as YAML.
pub(crate) fn service(name: &str, endpoints: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: shop, name: {name}}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: shop, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {PORT}}}]
endpoints: [{endpoints}]
---
"
    )
}

/// Endpoints of these pods.
pub(crate) fn endpoints(pods: &[u8]) -> String {
    let each = pods
        .iter()
        .map(|last| format!("{{addresses: [10.0.0.{last}]}}"));
    each.collect::<Vec<_>>().join(", ")
}

/// An Ingress of a host to a Service.
pub(crate) fn ingress(name: &str, host: &str, service: &str, annotations: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{namespace: shop, name: {name}, annotations: {{{annotations}}}}}
spec:
  ingressClassName: edge
  rules:
  - host: {host}
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{name: http}}}}}}}}
---
"
    )
}
