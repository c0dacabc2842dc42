//! Plans for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

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

/// Every kind of host and path match, and conditions.
pub(crate) fn matching() -> EdgePlan {
    let mut canary = prefix("/cart");
    canary.headers.push((
        header("x-canary"),
        ValueMatch::Exact(value("it's; } {100%} \\ \"$host")),
    ));
    canary.query.push((header("debug"), ValueMatch::Present));
    let mut posts = prefix("/cart");
    posts.method = Some(Method::parse("POST").expect("a method"));
    posts.headers.push((
        header("accept"),
        ValueMatch::Regex(value("json|} ; \\d{2}")),
    ));
    posts
        .query
        .push((header("q"), ValueMatch::Exact(value("a b&c"))));
    let regex = PathRegex::parse("/v[0-9]+/(users|carts)$").expect("an expression");
    let shop = site(vec![
        rule("canary", canary),
        rule("posts", posts),
        rule(
            "exact",
            RequestMatch::path(PathMatch::Exact(path("/cart/total"))),
        ),
        rule("bytes", RequestMatch::path(PathMatch::Bytes(path("/img-")))),
        rule("regex", RequestMatch::path(PathMatch::Regex(regex))),
        rule("cart", prefix("/cart")),
    ]);
    let regex = HostRegex::parse(r"shop[0-9]+\.example\.com").expect("an expression");
    let other = |name: &str| site(vec![rule(name, prefix("/"))]);
    let hosts = vec![
        (host("shop.example.com"), shop),
        (host("*.example.com"), other("wild")),
        (host("*.deep.a.b.c.example.com"), other("deep")),
        (HostMatch::Regex(regex), other("expression")),
        (host("2001:db8::1"), other("address")),
    ];
    plan(
        vec![(listen("::", 8080), Listener::Http(http(hosts)))],
        vec![web()],
    )
}

/// Everything that a rule can do on the way.
pub(crate) fn filtering() -> EdgePlan {
    let mut all = rule("all", prefix("/a"));
    all.filters = vec![
        Filter::RequestHeader(HeaderChange::Set(
            header("x-set"),
            value("100% 'of' \"it\" \\ $host"),
        )),
        Filter::RequestHeader(HeaderChange::Add(header("x-add"), value("}"))),
        Filter::RequestHeader(HeaderChange::Remove(header("x-remove"))),
        Filter::ResponseHeader(HeaderChange::Set(header("x-set"), value("if { always }"))),
        Filter::ResponseHeader(HeaderChange::Add(header("x-add"), value("-f"))),
        Filter::ResponseHeader(HeaderChange::Remove(header("server"))),
        Filter::RewriteHost(name("inner.example.com")),
        Filter::RewritePath(PathRewrite::Prefix(path("/b.c"))),
        Filter::Mirror(id("other")),
    ];
    all.timeouts = Timeouts {
        connect: None,
        server: Some(Duration::from_secs(3)),
        request: Some(Duration::from_secs(5)),
    };
    all.max_body_bytes = Some(1024);
    let mut split = rule("split", prefix("/split"));
    split.action = Action::Forward(Forward {
        to: vec![(id("web"), 3), (id("other"), 1), (id("none"), 0)],
    });
    split.filters = vec![Filter::RewritePath(PathRewrite::Full(path("/")))];
    let mut secure = rule("secure", prefix("/secure"));
    secure.action = Action::Redirect(Redirect {
        to_https: Some(true),
        host: None,
        port: None,
        path: Some(PathRewrite::Prefix(path("/"))),
        status: 308,
    });
    let mut moved = rule("moved", RequestMatch::path(PathMatch::Exact(path("/old"))));
    moved.action = Action::Redirect(Redirect {
        to_https: None,
        host: Some(name("new.example.com")),
        port: Some(port(8443)),
        path: Some(PathRewrite::Full(path("/new"))),
        status: 301,
    });
    let mut gone = rule("gone", prefix("/gone"));
    gone.action = Action::Respond(410);
    let mut nobody = rule("nobody", prefix("/nobody"));
    nobody.action = Action::Forward(Forward::default());
    let shop = site(vec![all, split, secure, moved, gone, nobody]);
    plan(
        vec![(
            listen("0.0.0.0", 80),
            Listener::Http(http(vec![(host("shop.example.com"), shop)])),
        )],
        vec![
            web(),
            backend("other", vec![server("other-1", "10.0.1.1", 80)]),
        ],
    )
}

/// Who may use rules.
pub(crate) fn access() -> EdgePlan {
    let network = |text: &str| text.parse().expect("a network");
    let key = |text: &[u8]| ApiKey::new(text).expect("a key");
    let mut open = rule("open", prefix("/open"));
    open.access.api_key = Some((
        header("x-routing-api-key"),
        vec![key(b"a key; with \"}"), key(b"two")],
    ));
    open.access.allowed_sources = vec![network("10.0.0.0/8"), network("2001:db8::/32")];
    open.access.denied_sources = vec![network("10.9.0.0/16")];
    let mut closed = rule("closed", prefix("/closed"));
    closed.access.api_key = Some((header("x-routing-api-key"), Vec::new()));
    let mut users = rule("users", prefix("/users"));
    users.access.basic_users = Some(vec![
        (value("ann"), value("$6$salt$hash/with.chars")),
        (value("bob smith"), value("$6$salt$hash")),
        (value("eve"), value("plain")),
    ]);
    let mut none = rule("none", prefix("/none"));
    none.access.basic_users = Some(Vec::new());
    none.action = Action::Respond(200);
    let shop = site(vec![open, closed, users, none]);
    plan(
        vec![(
            listen("0.0.0.0", 80),
            Listener::Http(http(vec![(host("shop.example.com"), shop)])),
        )],
        vec![web()],
    )
}

/// A certificate of our own making, and its key.
pub(crate) fn certificate(names: &[&str]) -> Certificate {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    Certificate {
        chain: Pem::new(made.cert.pem().as_bytes().into()),
        key: Some(Pem::new(made.signing_key.serialize_pem().as_bytes().into())),
        expires_unix_seconds: 4_000_000_000,
        origin: origin("tls"),
    }
}

/// TLS that ends here beside TLS that is passed on, and ports of bytes.
pub(crate) fn tls() -> EdgePlan {
    let https = |name: &str, clients: Option<ClientCertificates>| VirtualHost {
        tls: Some(HostTls {
            certificate: id("cert"),
            clients,
            origin: origin(name),
        }),
        ..site(vec![rule(name, prefix("/"))])
    };
    let clients = ClientCertificates {
        authorities: id("ca"),
        is_required: true,
    };
    let hosts = vec![
        (host("shop.example.com"), https("shop", None)),
        (host("bank.example.com"), https("bank", Some(clients))),
    ];
    let route = |backend: &str| SniRoute {
        forward: Forward::to(id(backend)),
        origin: origin(backend),
    };
    let passing = TlsListener {
        http: http(hosts.clone()),
        passthrough: [
            (host("db.example.com"), route("db")),
            (host("*.example.com"), route("web")),
        ]
        .into(),
    };
    let ending = TlsListener {
        http: HttpListener {
            accepts_proxy_protocol: true,
            ..http(hosts)
        },
        ..TlsListener::default()
    };
    let tcp = TcpListener {
        forward: Forward {
            to: vec![(id("db"), 1), (id("web"), 2)],
        },
        accepts_proxy_protocol: true,
        origin: origin("tcp"),
    };
    let db = Backend {
        protocol: BackendProtocol::Tcp,
        sends_proxy_protocol: true,
        ..backend("db", vec![server("db-1", "10.0.2.1", 5432)])
    };
    let mut plan = plan(
        vec![
            (listen("0.0.0.0", 443), Listener::Tls(passing)),
            (listen("127.0.0.1", 8443), Listener::Tls(ending)),
            (listen("127.0.0.1", 5432), Listener::Tcp(tcp)),
        ],
        vec![web(), db],
    );
    plan.certificates = Arc::new(BTreeMap::from([
        (
            id("cert"),
            certificate(&["shop.example.com", "bank.example.com"]),
        ),
        (
            id("ca"),
            Certificate {
                key: None,
                ..certificate(&["ca"])
            },
        ),
    ]));
    plan
}

/// Every kind of backend.
pub(crate) fn backends() -> EdgePlan {
    let health = |probe| HealthCheck {
        probe,
        port: Some(port(9000)),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 3,
    };
    let of = |name: &str| vec![server(name, "10.0.3.1", 80)];
    let mut draining = of("draining");
    draining[0].state = ServerState::Draining;
    draining.push(Server {
        weight: 10,
        ..server("draining-2", "10.0.3.2", 80)
    });
    let probe = |is_tls, host: Option<&str>| Probe::Http {
        path: path("/healthz"),
        host: host.map(name),
        is_tls,
    };
    let all = vec![
        Backend {
            health: Some(health(Probe::Tcp)),
            balance: Balance::LeastConnections,
            ..backend("a", draining)
        },
        Backend {
            health: Some(health(probe(true, None))),
            balance: Balance::Source,
            ..backend("b", of("b"))
        },
        Backend {
            protocol: BackendProtocol::H2c,
            health: Some(health(probe(false, Some("grpc.example.com")))),
            ..backend("c", of("c"))
        },
        Backend {
            protocol: BackendProtocol::Https(BackendTls {
                server_name: Some(name("inner.example.com")),
                authorities: Some(id("ca")),
            }),
            health: Some(health(probe(false, None))),
            ..backend("d", of("d"))
        },
        Backend {
            protocol: BackendProtocol::Https(BackendTls {
                server_name: None,
                authorities: None,
            }),
            timeouts: Timeouts {
                connect: Some(Duration::from_millis(500)),
                server: None,
                request: Some(Duration::from_secs(9)),
            },
            ..backend("e", of("e"))
        },
        Backend {
            protocol: BackendProtocol::Https(BackendTls {
                server_name: None,
                authorities: Some(id("gone")),
            }),
            ..backend("f", of("f"))
        },
        Backend {
            sticky: Some(StickyCookie {
                name: header("stay"),
                max_age: Some(Duration::from_secs(3600)),
            }),
            ..backend("g", of("g"))
        },
        backend("h", Vec::new()),
    ];
    let rules = all
        .iter()
        .map(|backend| {
            let text = backend.id.to_string();
            let mut rule = rule(&text, prefix(&format!("/{text}")));
            rule.action = Action::Forward(Forward::to(backend.id.clone()));
            rule
        })
        .collect();
    let mut plan = plan(
        vec![(
            listen("0.0.0.0", 80),
            Listener::Http(http(vec![(HostMatch::Any, site(rules))])),
        )],
        all,
    );
    plan.certificates = Arc::new(BTreeMap::from([(
        id("ca"),
        Certificate {
            key: None,
            ..certificate(&["ca"])
        },
    )]));
    plan
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
