//! What nothing takes: unknown hosts and paths that go to servers outside the cluster, and TLS
//! clients that ask for nobody here.

use std::sync::Arc;

use model::Cluster;

use super::tls::curl;
use super::{ask, echo, in_haproxy, in_nginx};
use crate::config;
use crate::edge::{Answer, EdgePlan, Listener, Request, compile, simulate};
use crate::samples;

/// A configuration whose unknown hosts go elsewhere, and a host of whose paths some do.
fn plan(port: u16, unknown_host: &str, unknown_path: &str) -> EdgePlan {
    let text = format!(
        "[endpoints]\n[listen]\nhttp = ['127.0.0.1:{port}']\nhttps = []\n[defaults]\n\
         status_path = '/up'\nunknown_host = '{unknown_host}'\nunknown_path = '{unknown_path}'\n"
    );
    let settings = config::parse(&text).expect("a configuration");
    let unknown_path = settings.edge.defaults.unknown_path.clone();
    let mut plan = compile(&Cluster::default(), &settings.edge);
    let web = samples::backend(
        "web",
        vec![samples::server("web-1", "127.0.0.1", echo("web"))],
    );
    plan.backends.insert(web.id.clone(), web.into());
    let mut shop = samples::site(vec![samples::rule("shop", samples::prefix("/shop"))]);
    shop.unknown_path = unknown_path;
    let listeners = Arc::make_mut(&mut plan.listeners).values_mut();
    for listener in listeners {
        if let Listener::Http(http) = listener {
            http.hosts
                .insert(samples::host("shop.example"), shop.clone());
        }
    }
    plan
}

fn get(port: u16, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(port, &request)
}

/// What the plan itself says.
fn simulated(plan: &EdgePlan, host: &str, path: &str) -> String {
    let request = Request {
        listen: *plan.listeners.keys().next().expect("a listener"),
        host,
        path,
        method: "GET",
        headers: &[],
        query: &[],
        source: [127, 0, 0, 1].into(),
    };
    match simulate(plan, &request).0 {
        Answer::Forwarded(to) => to.to.iter().map(|(id, _)| id.to_string()).collect(),
        answer @ (Answer::NotListening
        | Answer::Closed
        | Answer::Status(_)
        | Answer::Redirected(_)
        | Answer::PassedThrough(_)) => format!("{answer:?}"),
    }
}

fn check(run: impl Fn(&dyn Fn(u16, &str) -> EdgePlan, &dyn Fn(u16))) {
    let elsewhere = format!("http://127.0.0.1:{}", echo("elsewhere"));
    let names = |port| plan(port, &elsewhere, "http://nobody.invalid");
    let seen = names(1);
    for (host, path, expected) in [
        ("other.example", "/a", "fallback_http_127_0_0_1"),
        ("other.example", "/up", "Status(200)"),
        ("shop.example", "/shop", "web_"),
        ("shop.example", "/a", "Status(503)"),
    ] {
        let found = simulated(&seen, host, path);
        assert!(found.starts_with(expected), "{host}{path}: {found}");
    }
    run(&|port, _| names(port), &|port| {
        let of = |name, host, path| format!("200 {name} GET {path} host={host} x-set=- x-add=-");
        assert_eq!(
            get(port, "other.example", "/a"),
            of("elsewhere", "other.example", "/a")
        );
        assert_eq!(get(port, "other.example", "/up"), "200");
        assert_eq!(
            get(port, "shop.example", "/shop"),
            of("web", "shop.example", "/shop")
        );
        // The name has no address: the proxy runs all the same.
        assert_eq!(get(port, "shop.example", "/a"), "503");
    });
}

#[test]
fn haproxy_passes_on_what_nothing_takes() {
    check(|plan, check| in_haproxy(plan, check));
}

#[test]
fn nginx_passes_on_what_nothing_takes() {
    check(|plan, check| in_nginx(plan, check));
}

/// A port with a host for everybody, one that asks for clients' certificates, and a certificate for
/// unknown hosts, which names the second host too.
fn tls_plan(port: u16) -> EdgePlan {
    let mut plan = samples::tls();
    let listeners = Arc::make_mut(&mut plan.listeners);
    let listener = listeners.remove(&samples::listen("127.0.0.1", 8443));
    listeners.clear();
    if let Some(Listener::Tls(mut tls)) = listener {
        tls.http.accepts_proxy_protocol = false;
        listeners.insert(samples::listen("127.0.0.1", port), Listener::Tls(tls));
    }
    let web = samples::server("web-1", "127.0.0.1", echo("web"));
    let web = samples::backend("web", vec![web]);
    plan.backends.insert(web.id.clone(), web.into());
    plan
}

fn check_tls(run: impl Fn(&dyn Fn(u16, &str) -> EdgePlan, &dyn Fn(u16))) {
    let check = |port: u16| {
        let shop = curl(port, "shop.example.com", &["--http1.1"]);
        assert!(shop.contains("web GET /x host=shop.example.com"), "{shop}");
        let bank = curl(port, "bank.example.com", &["--http1.1"]);
        assert!(!bank.contains("web GET"), "{bank}");
        let unknown = curl(port, "unknown.example", &["--http1.1"]);
        assert_eq!(unknown, "000 http/0");
        let at = ["--http1.1", "--request-target", "/fairlead/status"];
        assert_eq!(curl(port, "unknown.example", &at), "200 http/1.1");
        // By another name's connection nobody gets where clients' certificates are asked for.
        let header = format!("Host: bank.example.com:{port}");
        let other = curl(port, "unknown.example", &["-H", &header, "--http1.1"]);
        let is_refused = ["400 http/1.1", "421 http/1.1"]
            .iter()
            .any(|end| other.ends_with(end));
        assert!(is_refused, "{other}");
    };
    run(&|port, _| tls_plan(port), &check);
    // What the bank's clients are to be known by is missing: it is closed, whoever else has a
    // certificate that could be shown.
    let without = |port| {
        let mut plan = tls_plan(port);
        Arc::make_mut(&mut plan.certificates).remove(&samples::id("ca"));
        plan
    };
    assert_eq!(simulated(&without(1), "bank.example.com", "/x"), "Closed");
    run(&|port, _| without(port), &|port| {
        let bank = curl(port, "bank.example.com", &["--http1.1"]);
        assert_eq!(bank, "000 http/0");
        let shop = curl(port, "shop.example.com", &["--http1.1"]);
        assert!(shop.contains("web GET"), "{shop}");
    });
}

#[test]
fn haproxy_shows_unknown_hosts_a_certificate_and_opens_nothing_by_it() {
    check_tls(|plan, check| in_haproxy(plan, check));
}

#[test]
fn nginx_shows_unknown_hosts_a_certificate_and_opens_nothing_by_it() {
    check_tls(|plan, check| in_nginx(plan, check));
}
