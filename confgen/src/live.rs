//! Both proxies started with what was rendered, and asked the same. For tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::edge::value::{Method, PathMatch};
use crate::edge::{Action, Forward, Listener, Unknown};
use crate::edge::{EdgePlan, Filter, HeaderChange, PathRewrite, RequestMatch, ValueMatch};
use crate::output::Rendered;
use crate::{haproxy, nginx, proxies, samples};

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

fn plan(port: u16, run: &str) -> EdgePlan {
    assert!(!run.is_empty());
    let (web, other) = (echo("web"), echo("other"));
    let to = |name: &str, matches: RequestMatch, backend: &str| {
        let mut rule = samples::rule(name, matches);
        rule.action = Action::Forward(Forward::to(samples::id(backend)));
        rule
    };
    let mut canary = samples::prefix("/cart");
    let value = ValueMatch::Exact(samples::value("a \"}; $b"));
    canary.headers.push((samples::header("x-canary"), value));
    let mut posts = samples::prefix("/cart");
    posts.method = Some(Method::parse("POST").expect("a method"));
    posts.query.push((
        samples::header("q"),
        ValueMatch::Exact(samples::value("a b")),
    ));
    let regex = crate::edge::value::PathRegex::parse("/v[0-9]+/x").expect("a regex");
    let mut changed = to("changed", samples::prefix("/old"), "web");
    let set = HeaderChange::Set(
        samples::header("x-set"),
        samples::value("100% $host \"q\" 'r' \\ ;"),
    );
    let add = HeaderChange::Add(samples::header("x-add"), samples::value("more"));
    changed.filters = vec![
        Filter::RewritePath(PathRewrite::Prefix(samples::path("/new"))),
        Filter::RewriteHost(samples::name("inner.example")),
        Filter::RequestHeader(set),
        Filter::RequestHeader(add),
    ];
    let mut stripped = to("stripped", samples::prefix("/strip"), "web");
    stripped.filters = vec![Filter::RewritePath(PathRewrite::Prefix(samples::path("/")))];
    let mut secret = to("secret", samples::prefix("/secret"), "web");
    let key = crate::edge::value::ApiKey::new(b"k3y \"$}").expect("a key");
    secret.access.api_key = Some((samples::header("x-key"), vec![key]));
    let mut closed = to("closed", samples::prefix("/closed"), "web");
    closed.access.api_key = Some((samples::header("x-key"), Vec::new()));
    let mut denied = to("denied", samples::prefix("/denied"), "web");
    denied.access.denied_sources = vec!["127.0.0.0/8".parse().expect("a network")];
    let mut allowed = to("allowed", samples::prefix("/allowed"), "web");
    allowed.access.allowed_sources = vec!["127.0.0.0/8".parse().expect("a network")];
    let mut moved = samples::rule("moved", samples::prefix("/moved"));
    moved.action = Action::Redirect(crate::edge::Redirect {
        to_https: Some(true),
        host: None,
        port: None,
        path: Some(PathRewrite::Prefix(samples::path("/there"))),
        status: 308,
    });
    let mut basic = to("basic", samples::prefix("/basic"), "web");
    basic.access.basic_users = Some(Vec::new());
    let empty = to("empty", samples::prefix("/empty"), "empty");
    let mut nobody = samples::rule("nobody", samples::prefix("/nobody"));
    nobody.action = Action::Forward(Forward::default());
    let shop = samples::site(vec![
        to("canary", canary, "other"),
        to("posts", posts, "other"),
        to(
            "exact",
            RequestMatch::path(PathMatch::Exact(samples::path("/exact"))),
            "web",
        ),
        to("regex", RequestMatch::path(PathMatch::Regex(regex)), "web"),
        to("cart", samples::prefix("/cart"), "web"),
        to(
            "bytes",
            RequestMatch::path(PathMatch::Bytes(samples::path("/img-"))),
            "web",
        ),
        changed,
        stripped,
        secret,
        closed,
        denied,
        allowed,
        moved,
        basic,
        empty,
        nobody,
    ]);
    let all = |name: &str| samples::site(vec![to(name, samples::prefix("/"), "other")]);
    let mut listener = samples::http(vec![
        (samples::host("shop.example"), shop),
        (samples::host("*.wild.example"), all("wild")),
        (
            samples::host("*.a.wild.example"),
            samples::site(vec![to("deeper", samples::prefix("/"), "web")]),
        ),
    ]);
    listener.unknown_host = Unknown::Close;
    samples::plan(
        vec![(samples::listen("127.0.0.1", port), Listener::Http(listener))],
        vec![
            samples::backend("web", vec![samples::server("web-1", "127.0.0.1", web)]),
            samples::backend(
                "other",
                vec![samples::server("other-1", "127.0.0.1", other)],
            ),
            samples::backend("empty", Vec::new()),
        ],
    )
}

const CASES: [(&str, &str); 32] = [
    (
        "GET /exact shop.example",
        "200 web GET /exact host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /exact?a=b SHOP.example:80",
        "200 web GET /exact?a=b host=SHOP.example:80 x-set=- x-add=-",
    ),
    ("GET /exact/ shop.example", "404"),
    (
        "GET /%65xact shop.example",
        "200 web GET /%65xact host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /cart shop.example",
        "200 web GET /cart host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /cart/1 shop.example",
        "200 web GET /cart/1 host=shop.example x-set=- x-add=-",
    ),
    ("GET /cartel shop.example", "404"),
    (
        "GET /cart shop.example x-canary: a \"}; $b",
        "200 other GET /cart host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /cart shop.example x-canary: A \"}; $b",
        "200 web GET /cart host=shop.example x-set=- x-add=-",
    ),
    (
        "POST /cart?q=a%20b shop.example content-length: 0",
        "200 other POST /cart?q=a%20b host=shop.example x-set=- x-add=-",
    ),
    (
        "POST /cart?r=1&q=a+b shop.example content-length: 0",
        "200 other POST /cart?r=1&q=a+b host=shop.example x-set=- x-add=-",
    ),
    (
        "POST /cart?q=ab shop.example content-length: 0",
        "200 web POST /cart?q=ab host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /cart?q=a+b shop.example",
        "200 web GET /cart?q=a+b host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /v12/x shop.example",
        "200 web GET /v12/x host=shop.example x-set=- x-add=-",
    ),
    ("GET /vv/x shop.example", "404"),
    (
        "GET /img-1.png shop.example",
        "200 web GET /img-1.png host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /old/a?b=c shop.example",
        "200 web GET /new/a?b=c host=inner.example x-set=100% $host \"q\" 'r' \\ ; x-add=more",
    ),
    (
        "GET /old shop.example",
        "200 web GET /new host=inner.example x-set=100% $host \"q\" 'r' \\ ; x-add=more",
    ),
    (
        "GET /strip/a shop.example",
        "200 web GET /a host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /strip shop.example",
        "200 web GET / host=shop.example x-set=- x-add=-",
    ),
    ("GET /secret shop.example", "403"),
    (
        "GET /secret shop.example x-key: k3y \"$}",
        "200 web GET /secret host=shop.example x-set=- x-add=-",
    ),
    ("GET /secret shop.example x-key: K3Y \"$}", "403"),
    ("GET /closed shop.example x-key: ", "403"),
    ("GET /denied shop.example", "403"),
    (
        "GET /allowed shop.example",
        "200 web GET /allowed host=shop.example x-set=- x-add=-",
    ),
    (
        "GET /moved/a?b=c shop.example",
        "308 https://shop.example/there/a?b=c",
    ),
    ("GET /basic shop.example", "401"),
    ("GET /empty shop.example", "503"),
    ("GET /nobody shop.example", "500"),
    (
        "GET /x b.a.wild.example",
        "200 web GET /x host=b.a.wild.example x-set=- x-add=-",
    ),
    ("GET /x wild.example", "closed"),
];

#[track_caller]
fn check(port: u16) {
    for (case, expected) in CASES {
        let mut words = case.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, target, host, header) = (word(), word(), word(), word());
        let header = if header.is_empty() {
            String::new()
        } else {
            format!("{header}\r\n")
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n"
        );
        assert_eq!(ask(port, &request), expected, "{case}");
    }
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

#[test]
fn haproxy_answers_as_the_plan_says() {
    in_haproxy(plan, check);
}

#[test]
fn nginx_answers_as_the_plan_says() {
    in_nginx(plan, check);
}

/// Requests by curl, since it speaks TLS: each to a port, at a host, with what it answers.
fn curl(port: u16, host: &str, more: &[&str]) -> String {
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

#[test]
fn haproxy_ends_tls_and_passes_it_on_at_one_port() {
    let port = free_port();
    let run = tempfile::tempdir().expect("a directory");
    let run = run.path().to_str().expect("a path");
    let options = haproxy::Options {
        admin_socket: format!("{run}/admin.sock"),
        run_directory: run.to_owned(),
        log: haproxy::Log::Off,
        ..haproxy::Options::default()
    };
    let (backend, bytes) = first_bytes();
    let rendering = haproxy::render(&tls_plan(port, backend), &options).expect("files");
    let mut command = proxies::program("haproxy");
    command.args(["-db", "-f"]);
    let _running = started(command, &rendering.rendered, port);
    check_tls(port);
    // A TLS handshake (RFC 8446 §5.1), as the client sent it.
    assert_eq!(
        bytes.recv_timeout(Duration::from_secs(5)).expect("bytes")[..2],
        [0x16, 3]
    );
}

#[test]
fn nginx_ends_tls_and_passes_it_on_at_one_port() {
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
    let (backend, bytes) = first_bytes();
    let rendering = nginx::render(&tls_plan(port, backend), &options).expect("files");
    let mut command = proxies::program("nginx");
    command.args(["-g", "daemon off; master_process off;", "-c"]);
    let _running = started(command, &rendering.rendered, port);
    check_tls(port);
    assert_eq!(
        bytes.recv_timeout(Duration::from_secs(5)).expect("bytes")[..2],
        [0x16, 3]
    );
}
