//! Plans for tests.

mod routing;
mod servers;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{Kind, ObjectKey};

use crate::edge::value::{
    ApiKey, HeaderName, HeaderValue, HostMatch, HostRegex, Hostname, Id, Method, PathMatch,
    PathRegex, Pem, UrlPath,
};
use crate::edge::{
    Access, Action, Backend, BackendProtocol, BackendTls, Balance, Certificate, ClientCertificates,
    EdgePlan, Filter, Forward, HeaderChange, HealthCheck, HostTls, HttpListener, HttpRule, Listen,
    Listener, Origin, PathRewrite, Probe, Redirect, RequestMatch, Server, ServerState, SniRoute,
    StickyCookie, TcpListener, Timeouts, TlsListener, Unknown, ValueMatch, VirtualHost,
};

pub(crate) use self::routing::{access, filtering, matching};
pub(crate) use self::servers::{backends, certificate, tls};

pub(crate) fn origin(name: &str) -> Origin {
    Origin {
        created_unix_seconds: 0,
        key: ObjectKey::new("shop", name),
        kind: Kind::Service,
        field: "spec".into(),
    }
}

pub(crate) fn id(text: &str) -> Id {
    Id::of(&[text])
}

pub(crate) fn host(text: &str) -> HostMatch {
    HostMatch::parse(text).expect("a host")
}

pub(crate) fn name(text: &str) -> Hostname {
    Hostname::parse(text).expect("a name")
}

pub(crate) fn path(text: &str) -> UrlPath {
    UrlPath::parse(text).expect("a path")
}

pub(crate) fn header(text: &str) -> HeaderName {
    HeaderName::parse(text).expect("a header")
}

pub(crate) fn value(text: &str) -> HeaderValue {
    HeaderValue::parse(text).expect("a value")
}

pub(crate) fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a port")
}

pub(crate) fn listen(text: &str, number: u16) -> Listen {
    Listen {
        address: text.parse().expect("an address"),
        port: port(number),
    }
}

pub(crate) fn rule(name: &str, matches: RequestMatch) -> HttpRule {
    HttpRule {
        id: id(name),
        matches,
        access: Access::default(),
        filters: Vec::new(),
        action: Action::Forward(Forward::to(id("web"))),
        timeouts: Timeouts::default(),
        max_body_bytes: None,
        origin: origin(name),
    }
}

pub(crate) fn prefix(text: &str) -> RequestMatch {
    RequestMatch::path(PathMatch::Prefix(path(text)))
}

pub(crate) fn server(name: &str, address: &str, number: u16) -> Server {
    Server {
        name: id(name),
        address: address.parse::<IpAddr>().expect("an address"),
        port: port(number),
        weight: 1,
        state: ServerState::Active,
        target: None,
    }
}

pub(crate) fn backend(name: &str, servers: Vec<Server>) -> Backend {
    Backend {
        id: id(name),
        protocol: BackendProtocol::Http,
        balance: Balance::RoundRobin,
        servers,
        health: None,
        timeouts: Timeouts::default(),
        sticky: None,
        sends_proxy_protocol: false,
        origin: origin(name),
    }
}

pub(crate) fn plan(listeners: Vec<(Listen, Listener)>, backends: Vec<Backend>) -> EdgePlan {
    EdgePlan {
        listeners: Arc::new(listeners.into_iter().collect()),
        backends: backends
            .into_iter()
            .map(|backend| (backend.id.clone(), Arc::new(backend)))
            .collect(),
        ..EdgePlan::default()
    }
}

pub(crate) fn site(rules: Vec<HttpRule>) -> VirtualHost {
    VirtualHost {
        rules,
        unknown_path: Unknown::Status(404),
        ..VirtualHost::default()
    }
}

pub(crate) fn http(hosts: Vec<(HostMatch, VirtualHost)>) -> HttpListener {
    HttpListener {
        hosts: hosts.into_iter().collect(),
        status_path: Some(path("/fairlead/status")),
        ..HttpListener::default()
    }
}

pub(crate) fn web() -> Backend {
    backend(
        "web",
        vec![
            server("web-1", "10.0.0.1", 8080),
            server("web-2", "2001:db8::2", 443),
        ],
    )
}

/// One host, one path, two servers.
pub(crate) fn plain() -> EdgePlan {
    let shop = site(vec![rule("all", prefix("/"))]);
    plan(
        vec![(
            listen("0.0.0.0", 80),
            Listener::Http(http(vec![(host("shop.example.com"), shop)])),
        )],
        vec![web()],
    )
}

/// Every sample, by name.
pub(crate) fn all() -> Vec<(&'static str, EdgePlan)> {
    vec![
        ("nothing", EdgePlan::default()),
        ("plain", plain()),
        ("matching", matching()),
        ("filtering", filtering()),
        ("access", access()),
        ("tls", tls()),
        ("backends", backends()),
    ]
}

/// So many hosts with a backend of two servers each.
pub(crate) fn many(hosts: u16) -> EdgePlan {
    let mut sites = Vec::new();
    let mut backends = Vec::new();
    for index in 0..hosts {
        let text = format!("host-{index}");
        let mut rule = rule(&text, prefix("/"));
        rule.action = Action::Forward(Forward::to(id(&text)));
        sites.push((host(&format!("{text}.example.com")), site(vec![rule])));
        let servers = (1..3).map(|member| {
            let address = format!("10.{}.{}.{member}", index / 250, index % 250);
            server(&format!("{text}-{member}"), &address, 8080)
        });
        backends.push(backend(&text, servers.collect()));
    }
    plan(
        vec![(listen("0.0.0.0", 80), Listener::Http(http(sites)))],
        backends,
    )
}
