//! Objects as YAML in, the plan as lines out.

mod conflicts;
mod endpoints;
mod gateway;
mod incremental;
mod ingress;
mod pods;
mod services;
mod spoken;

use std::fmt::Write as _;

use model::k8s::{Detail, reduce_to};
use model::{Cluster, Event, Kind};

use super::{
    Action, Backend, DefaultListeners, Defaults, EdgeConfig, EdgePlan, Forward, HttpListener,
    Listen, Listener, LossCause, Outside, ServerState, Unknown, VirtualHost,
};

/// The cluster that a text of manifests describes.
pub(crate) fn cluster(yaml: &str) -> Cluster {
    let mut cluster = Cluster::default();
    for kind in Kind::ALL {
        cluster.apply(Event::Replaced {
            kind,
            objects: Vec::new(),
            problems: Vec::new(),
        });
    }
    apply(&mut cluster, yaml);
    cluster
}

/// Objects more, or in place of what they were.
pub(super) fn apply(cluster: &mut Cluster, yaml: &str) {
    let broken = model_watch::manifests::parse(yaml, |kind, value| {
        let reduced = reduce_to(Detail::Edge, kind, &value);
        assert_eq!(reduced.problems, [], "{value}");
        cluster.apply(Event::Applied {
            kind,
            key: reduced.key,
            object: reduced.object,
            problems: Vec::new(),
        });
    });
    assert_eq!(broken.len(), 0, "{yaml}");
}

pub(super) fn listen(text: &str) -> Listen {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Listen {
        address: address.ip(),
        port: address.port().try_into().unwrap(),
    }
}

/// No convention is on.
pub(super) fn config() -> EdgeConfig {
    EdgeConfig {
        listen: DefaultListeners {
            http: vec![listen("0.0.0.0:80")],
            https: vec![listen("0.0.0.0:443")],
            proxy_protocol: Vec::new(),
        },
        defaults: Defaults {
            unknown_path: Unknown::Status(404),
            ..Defaults::default()
        },
        endpoints: None,
        services: None,
        pods: Vec::new(),
        ingress: None,
        outside: Outside::default(),
        gateway: None,
        host_claims: None,
    }
}

/// The plan, a line a thing.
pub(super) fn shown(plan: &EdgePlan) -> String {
    let mut text = String::new();
    for (listen, listener) in plan.listeners.iter() {
        let Listen { address, port } = listen;
        let at = format!("{address}:{port}");
        match listener {
            Listener::Http(http) => hosts(&mut text, &at, http, plan),
            Listener::Tls(tls) => {
                let at = format!("{at} tls");
                hosts(&mut text, &at, &tls.http, plan);
                for (host, route) in &tls.passthrough {
                    let to = forward(&route.forward, plan);
                    writeln!(text, "{at} {host} passed through {to}").unwrap();
                }
            }
            Listener::Tcp(tcp) => {
                let to = forward(&tcp.forward, plan);
                writeln!(text, "{at} tcp {to}").unwrap();
            }
        }
    }
    for loss in plan.losses.iter() {
        let why = match &loss.cause {
            LossCause::OlderClaim(by) => format!("{} {} is older", by.kind, by.key),
            LossCause::HostNotAllowed => "not allowed".to_owned(),
        };
        let (kind, key) = (loss.origin.kind, &loss.origin.key);
        writeln!(text, "lost: {kind} {key} {}: {why}", loss.about).unwrap();
    }
    for problem in plan.problems.iter() {
        writeln!(text, "! {problem}").unwrap();
    }
    text
}

fn hosts(text: &mut String, at: &str, http: &HttpListener, plan: &EdgePlan) {
    for (host, virtual_host) in &http.hosts {
        let VirtualHost { tls, rules, .. } = virtual_host;
        let can_end = plan.can_end_tls(virtual_host);
        if let Some(tls) = tls.as_ref().filter(|_| !can_end) {
            writeln!(text, "{at} {host}: closed by {}", tls.origin.key).unwrap();
        }
        if let Some(tls) = tls.as_ref().filter(|_| can_end) {
            let clients = tls.clients.as_ref().map_or("", |_| ", clients too");
            let origin = &tls.origin.key;
            writeln!(text, "{at} {host}: certificate of {origin}{clients}").unwrap();
        }
        for rule in rules {
            let mut notes = String::new();
            if let Some((header, key)) = &rule.access.api_key {
                let has = if key.is_some() { "a key" } else { "no key" };
                write!(notes, " with {has} in {header}").unwrap();
            }
            for filter in &rule.filters {
                write!(notes, " {filter:?}").unwrap();
            }
            let action = match &rule.action {
                Action::Forward(to) => forward(to, plan),
                other @ (Action::Redirect(_) | Action::Respond(_)) => format!("{other:?}"),
            };
            writeln!(text, "{at} {host} {}{notes} {action}", rule.matches.path).unwrap();
        }
    }
}

fn forward(to: &Forward, plan: &EdgePlan) -> String {
    let of = |(id, weight): &(super::value::Id, u32)| {
        let Backend {
            servers, health, ..
        } = &**plan.backends.get(id).unwrap();
        let servers = servers.iter().map(|server| {
            let state = match server.state {
                ServerState::Active => "",
                ServerState::Draining => " draining",
            };
            let weight = match server.weight {
                1 => String::new(),
                weight => format!("*{weight}"),
            };
            let address = std::net::SocketAddr::new(server.address, server.port.get());
            format!("{address}{weight}{state}")
        });
        let servers = servers.collect::<Vec<_>>().join(", ");
        let health = health.as_ref().map_or(String::new(), |health| {
            format!(" checked by {:?} {:?}", health.probe, health.port)
        });
        format!("-> [{servers}]{health} x{weight}").replace(" x1", "")
    };
    to.to.iter().map(of).collect::<Vec<_>>().join(" or ")
}
