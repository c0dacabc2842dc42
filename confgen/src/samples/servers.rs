//! TLS, and what backends may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;

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
        unknown_host: None,
    };
    let ending = TlsListener {
        http: HttpListener {
            accepts_proxy_protocol: true,
            ..http(hosts)
        },
        unknown_host: Some(id("unknown")),
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
        (id("unknown"), certificate(&["bank.example.com"])),
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
