//! Both proxies started with what was rendered, and asked the same. For tests.

mod http;
mod proxy_protocol;
mod tls;
mod unknown;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::edge::EdgePlan;
use crate::output::Rendered;
use crate::{haproxy, nginx, proxies};

/// A proxy that ends with the test.
struct Running {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().expect("the proxy is ours");
        self.child.wait().expect("the proxy ends");
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

/// A server that answers with what it was asked.
pub(crate) fn echo(name: &'static str) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            std::thread::spawn(move || answer(stream, name));
        }
    });
    port
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches("HTTP/1.1")
        .trim();
    let header = |wanted: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map_or("-", |(_, value)| value)
    };
    let body = format!(
        "{name} {line} host={} x-set={} x-add={}",
        header("host"),
        header("x-set"),
        header("x-add")
    );
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap_or_else(|error| eprintln!("the proxy went away: {error}"));
}

/// Status, `Location` and body; the connection may be closed without any.
pub(crate) fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    stream
        .write_all(request.as_bytes())
        .expect("the request is sent");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("an answer, or an end");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return "closed".to_owned();
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let location = lines.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    match (status, location) {
        ("200", _) => format!("200 {body}").trim_end().to_owned(),
        (_, Some((_, location))) => format!("{status} {location}"),
        _ => status.to_owned(),
    }
}

fn started(mut command: Command, rendered: &Rendered, port: u16) -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    proxies::write(rendered, directory.path());
    let main = directory.path().join(&rendered.main);
    let child = command
        .arg(main)
        .stdout(Stdio::null())
        .spawn()
        .expect("the proxy is installed");
    let running = Running {
        child,
        _directory: directory,
    };
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the proxy does not listen"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

/// Runs HAProxy with a plan for a port and a directory, and asks it.
pub(crate) fn in_haproxy(plan: impl FnOnce(u16, &str) -> EdgePlan, check: impl FnOnce(u16)) {
    let port = free_port();
    let run = tempfile::tempdir().expect("a directory");
    let run = run.path().to_str().expect("a path");
    let options = haproxy::Options {
        admin_socket: format!("{run}/admin.sock"),
        run_directory: run.to_owned(),
        log: haproxy::Log::Off,
        ..haproxy::Options::default()
    };
    let rendering = haproxy::render(&plan(port, run), &options).expect("files");
    let mut command = proxies::program("haproxy");
    command.args(["-db", "-f"]);
    let _running = started(command, &rendering.rendered, port);
    check(port);
}

/// The same with nginx.
pub(crate) fn in_nginx(plan: impl FnOnce(u16, &str) -> EdgePlan, check: impl FnOnce(u16)) {
    let port = free_port();
    let run = tempfile::tempdir().expect("a directory");
    let run = run.path().to_str().expect("a path");
    let options = nginx::Options {
        run_directory: run.to_owned(),
        temporary_directory: run.to_owned(),
        pid_file: format!("{run}/nginx.pid"),
        workers: Some(1),
        connections: 512,
        user: Some("root".to_owned()),
        ..nginx::Options::default()
    };
    let rendering = nginx::render(&plan(port, run), &options).expect("files");
    let mut command = proxies::program("nginx");
    command.args(["-g", "daemon off; master_process off;", "-c"]);
    let _running = started(command, &rendering.rendered, port);
    check(port);
}
