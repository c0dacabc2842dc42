//! Rules, matches and changes of requests, in clear text.

use super::{ask, echo, in_haproxy, in_nginx};
use crate::edge::value::{Method, PathMatch};
use crate::edge::{Action, Forward, Listener, Unknown};
use crate::edge::{Answer, Request, simulate};
use crate::edge::{EdgePlan, Filter, HeaderChange, PathRewrite, RequestMatch, ValueMatch};
use crate::samples;

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
    secret.access.api_key = Some((samples::header("x-key"), Some(key)));
    let mut signed = to("signed", samples::prefix("/signed"), "web");
    let key = crate::edge::value::ApiKey::new(LONG_KEY.as_bytes()).expect("a key");
    signed.access.api_key = Some((samples::header("x-key"), Some(key)));
    let mut closed = to("closed", samples::prefix("/closed"), "web");
    closed.access.api_key = Some((samples::header("x-key"), None));
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
        signed,
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

/// With what `secure_link` of nginx reads as its own: an end of time behind a comma.
const LONG_KEY: &str =
    "8J+Yig==,1893456000,a-key-that-is-longer-than-the-64-bytes-of-one-block-of-md5";

/// Requests, and what both proxies answer.
const CASES: [(&str, &str); 36] = [
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
    ("GET /secret shop.example x-key: ", "403"),
    (
        "GET /signed shop.example x-key: 8J+Yig==,1893456000,a-key-that-is-longer-than-the-64-bytes-of-one-block-of-md5",
        "200 web GET /signed host=shop.example x-set=- x-add=-",
    ),
    ("GET /signed shop.example x-key: 8J+Yig==,1893456000", "403"),
    ("GET /signed shop.example x-key: k3y \"$}", "403"),
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

/// Method, target, host and a header.
fn parts(case: &str) -> [&str; 4] {
    let mut words = case.splitn(4, ' ');
    [(); 4].map(|()| words.next().unwrap_or_default())
}

#[track_caller]
fn check(port: u16) {
    for (case, expected) in CASES {
        let [method, target, host, header] = parts(case);
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

/// A byte for each `%xx`.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("a byte"));
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).expect("text")
}

/// What the plan itself says: the backend, or the status.
fn simulated(plan: &EdgePlan, case: &str) -> String {
    let [method, target, host, header] = parts(case);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query: Vec<_> = pairs
        .map(|(name, value)| (name, decoded(&value.replace('+', " "))))
        .collect();
    let query: Vec<_> = query
        .iter()
        .map(|(name, is)| (*name, is.as_str()))
        .collect();
    let headers: Vec<_> = header.split_once(": ").into_iter().collect();
    let request = Request {
        listen: *plan.listeners.keys().next().expect("a listener"),
        host: &host.split(':').next().unwrap_or_default().to_lowercase(),
        path: &decoded(path),
        method,
        headers: &headers,
        query: &query,
        source: [127, 0, 0, 1].into(),
    };
    match simulate(plan, &request).0 {
        Answer::Status(status) => status.to_string(),
        Answer::Closed => "closed".to_owned(),
        Answer::Redirected(redirect) => redirect.status.to_string(),
        Answer::Forwarded(to) => {
            let mut known = ["web", "other"].into_iter();
            let is_it = |name: &&str| to.to.iter().all(|(id, _)| *id == samples::id(name));
            format!(
                "200 {}",
                known.find(is_it).expect("a backend with a server")
            )
        }
        answer @ (Answer::NotListening | Answer::PassedThrough(_)) => panic!("{case}: {answer:?}"),
    }
}

/// The third opinion: the simulator decides as both proxies do.
#[test]
fn the_simulator_answers_as_the_proxies_do() {
    let plan = plan(80, "/nowhere");
    for (case, expected) in CASES {
        let wanted = match expected.split_once(' ') {
            Some(("200", rest)) => format!("200 {}", rest.split(' ').next().unwrap_or_default()),
            Some((status, _)) => status.to_owned(),
            None => expected.to_owned(),
        };
        assert_eq!(simulated(&plan, case), wanted, "{case}");
    }
}

#[test]
fn haproxy_answers_as_the_plan_says() {
    in_haproxy(plan, check);
}

#[test]
fn nginx_answers_as_the_plan_says() {
    in_nginx(plan, check);
}
