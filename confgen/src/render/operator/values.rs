//! What operators' templates see: pyconfd's `domains`, kube2lb's `Services`, `Nodes` and `Ports`,
//! and the plan itself, none of which they can change. No key and no certificate is among it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::value::Value;

use super::lazy::{list, map, record};
use crate::edge::value::{HostMatch, Hostname, PathMatch};
use crate::edge::{
    Action, Backend, Domain, EdgePlan, HttpListener, HttpRule, Listen, Listener, Server,
    ServerState, ServiceInformation,
};

/// Everything that a template sees.
pub(super) fn of(plan: &Arc<EdgePlan>, date: &str, uses_date: Arc<AtomicBool>) -> Value {
    let plan = Arc::clone(plan);
    let date: Arc<str> = date.into();
    let extra = record(&["curdate"], move |field| {
        (field == "curdate").then(|| {
            uses_date.store(true, Ordering::Relaxed);
            Value::from(&*date)
        })
    });
    record(
        &["domains", "extra", "Services", "Nodes", "Ports", "plan"],
        move |field| match field {
            "domains" => Some(domains(&plan)),
            "extra" => Some(extra.clone()),
            "Services" => Some(services(&plan)),
            "Nodes" => Some(nodes(&plan)),
            "Ports" => Some(ports(&plan)),
            "plan" => Some(whole(&plan)),
            _ => None,
        },
    )
}

fn domains(plan: &Arc<EdgePlan>) -> Value {
    let (named, asked) = (Arc::clone(plan), Arc::clone(plan));
    let keys = move || {
        let names = named.views.domains.keys();
        names.map(|name| Value::from(name.as_str())).collect()
    };
    map(keys, move |name| {
        let name = Hostname::parse(name).ok()?;
        let found = asked.views.domains.get(&name)?;
        Some(domain(&asked, found))
    })
}

fn domain(plan: &Arc<EdgePlan>, domain: &Domain) -> Value {
    let backend = plan.backends.get(&domain.backend).cloned();
    let protocol = domain.protocol.clone();
    record(&["proto", "port", "ips"], move |field| {
        let servers = || backend.iter().flat_map(|backend| active(backend));
        match field {
            "proto" => Some(Value::from(protocol.as_str())),
            // The original takes the first port of all.
            "port" => Some(
                servers()
                    .next()
                    .map_or(Value::from(()), |server| Value::from(server.port.get())),
            ),
            "ips" => Some(servers().map(|server| address(server.address)).collect()),
            _ => None,
        }
    })
}

fn active(backend: &Backend) -> impl Iterator<Item = &Server> {
    let servers = backend.servers.iter();
    servers.filter(|server| server.state == ServerState::Active && server.weight > 0)
}

/// IPv6 in brackets: a template puts a colon and a port behind it.
fn address(address: IpAddr) -> Value {
    match address {
        IpAddr::V4(address) => Value::from(address.to_string()),
        IpAddr::V6(address) => Value::from(format!("[{address}]")),
    }
}

fn services(plan: &Arc<EdgePlan>) -> Value {
    let plan = Arc::clone(plan);
    list(plan.views.services.len(), move |index| {
        let service = plan.views.services.get(index)?;
        Some(self::service(&plan, service))
    })
}

fn service(plan: &Arc<EdgePlan>, service: &ServiceInformation) -> Value {
    let backend = plan.backends.get(&service.backend).cloned();
    let service = service.clone();
    record(
        &[
            "Name",
            "Namespace",
            "Port",
            "Endpoints",
            "NodePort",
            "External",
            "Timeout",
            "ServerNames",
            "Label",
        ],
        move |field| {
            let protocol = service.protocol.to_string().to_lowercase();
            Some(match field {
                "Name" => Value::from(&*service.key.name),
                "Namespace" => Value::from(&*service.key.namespace),
                "Port" => port(service.listen, service.mode.as_str(), &protocol),
                "Endpoints" => match &backend {
                    Some(backend) => active(backend).map(endpoint).collect(),
                    None => Value::from(Vec::<Value>::new()),
                },
                "NodePort" => Value::from(service.node_port.map_or(0, std::num::NonZeroU16::get)),
                "External" => service.external.iter().map(server_name).collect(),
                "ServerNames" => service.names.iter().map(server_name).collect(),
                // Milliseconds; 0 is none.
                "Timeout" => {
                    let timeout = service.timeout.unwrap_or_default().as_millis();
                    Value::from(u64::try_from(timeout).unwrap_or(u64::MAX))
                }
                "Label" => Value::from(format!(
                    "{}_{}_{}_{protocol}_{}",
                    service.key.name, service.key.namespace, service.listen.port, service.mode
                )),
                _ => return None,
            })
        },
    )
}

fn endpoint(server: &Server) -> Value {
    let server = server.clone();
    record(&["Name", "IP", "Port", "Id"], move |field| {
        Some(match field {
            "Name" => match &server.target {
                Some(target) => Value::from(&*target.name),
                None => Value::from(server.address.to_string()),
            },
            "IP" => address(server.address),
            "Port" => Value::from(server.port.get()),
            "Id" => Value::from(server.name.as_str()),
            _ => return None,
        })
    })
}

/// A server name: `Name` is it where it is no expression, `Regexp` where it is one.
fn server_name(host: &HostMatch) -> Value {
    let (name, regex) = match host {
        HostMatch::Regex(regex) => (String::new(), Some(regex.anchored())),
        HostMatch::Exact(_) | HostMatch::Wildcard(_) | HostMatch::Any => (host.to_string(), None),
    };
    record(&["Name", "IsRegexp", "Regexp"], move |field| match field {
        "Name" => Some(Value::from(&*name)),
        "IsRegexp" => Some(Value::from(regex.is_some())),
        "Regexp" => Some(Value::from(regex.as_deref().unwrap_or_default())),
        _ => None,
    })
}

fn port(listen: Listen, mode: &str, protocol: &str) -> Value {
    let (mode, protocol) = (mode.to_owned(), protocol.to_owned());
    record(&["IP", "Port", "Mode", "Protocol", "Label"], move |field| {
        Some(match field {
            "IP" => address(listen.address),
            "Port" => Value::from(listen.port.get()),
            "Mode" => Value::from(&*mode),
            "Protocol" => Value::from(&*protocol),
            "Label" => {
                let hex = match listen.address {
                    IpAddr::V4(address) => crate::render::hex(&address.octets()),
                    IpAddr::V6(address) => crate::render::hex(&address.octets()),
                };
                Value::from(format!("{hex}_{}_{protocol}_{mode}", listen.port))
            }
            _ => return None,
        })
    })
}

fn ports(plan: &Arc<EdgePlan>) -> Value {
    let services = plan.views.services.iter();
    let ports: BTreeSet<(Listen, String, String)> = services
        .map(|service| {
            let protocol = service.protocol.to_string().to_lowercase();
            (service.listen, service.mode.to_string(), protocol)
        })
        .collect();
    ports
        .into_iter()
        .map(|(listen, mode, protocol)| port(listen, &mode, &protocol))
        .collect()
}

fn nodes(plan: &Arc<EdgePlan>) -> Value {
    let plan = Arc::clone(plan);
    list(plan.views.nodes.len(), move |index| {
        let (name, of_node) = plan.views.nodes.get(index)?.clone();
        Some(record(&["Name", "IP"], move |field| match field {
            "Name" => Some(Value::from(&*name)),
            "IP" => Some(address(of_node)),
            _ => None,
        }))
    })
}

/// The plan: `listeners` with their hosts and rules, and `backends` with their servers.
fn whole(plan: &Arc<EdgePlan>) -> Value {
    let plan = Arc::clone(plan);
    record(&["listeners", "backends"], move |field| match field {
        "listeners" => Some(
            plan.listeners
                .keys()
                .map(|listen| listener(&plan, *listen))
                .collect(),
        ),
        "backends" => {
            let (named, asked) = (Arc::clone(&plan), Arc::clone(&plan));
            let keys = move || {
                named
                    .backends
                    .keys()
                    .map(|id| Value::from(id.as_str()))
                    .collect()
            };
            Some(map(keys, move |name| asked.backends.get(name).map(backend)))
        }
        _ => None,
    })
}

fn listener(plan: &Arc<EdgePlan>, listen: Listen) -> Value {
    let plan = Arc::clone(plan);
    record(&["address", "port", "kind", "hosts"], move |field| {
        let (kind, http): (_, Option<&HttpListener>) = match plan.listeners.get(&listen)? {
            Listener::Http(http) => ("http", Some(http)),
            Listener::Tls(tls) => ("tls", Some(&tls.http)),
            Listener::Tcp(_) => ("tcp", None),
        };
        Some(match field {
            "address" => address(listen.address),
            "port" => Value::from(listen.port.get()),
            "kind" => Value::from(kind),
            "hosts" => http
                .into_iter()
                .flat_map(|http| &http.hosts)
                .map(|(host, site)| {
                    let name = server_name(host);
                    let rules: Value = site.rules.iter().map(rule).collect();
                    record(&["name", "rules"], move |field| match field {
                        "name" => Some(name.clone()),
                        "rules" => Some(rules.clone()),
                        _ => None,
                    })
                })
                .collect(),
            _ => return None,
        })
    })
}

fn rule(rule: &HttpRule) -> Value {
    let (kind, path) = match &rule.matches.path {
        PathMatch::Exact(path) => ("exact", path.to_string()),
        PathMatch::Prefix(path) => ("prefix", path.to_string()),
        PathMatch::Bytes(path) => ("bytes", path.to_string()),
        PathMatch::Regex(regex) => ("regex", regex.anchored()),
    };
    let backends: Vec<String> = match &rule.action {
        Action::Forward(forward) => forward.to.iter().map(|(id, _)| id.to_string()).collect(),
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    };
    let id = rule.id.clone();
    record(
        &["id", "path_kind", "path", "backends"],
        move |field| match field {
            "id" => Some(Value::from(id.as_str())),
            "path_kind" => Some(Value::from(kind)),
            "path" => Some(Value::from(&*path)),
            "backends" => Some(backends.iter().map(|id| Value::from(&**id)).collect()),
            _ => None,
        },
    )
}

fn backend(backend: &Arc<Backend>) -> Value {
    let backend = Arc::clone(backend);
    record(&["id", "servers"], move |field| match field {
        "id" => Some(Value::from(backend.id.as_str())),
        "servers" => Some(
            backend
                .servers
                .iter()
                .map(|server| {
                    let server = server.clone();
                    record(
                        &["name", "address", "port", "weight", "is_draining"],
                        move |field| {
                            Some(match field {
                                "name" => Value::from(server.name.as_str()),
                                "address" => address(server.address),
                                "port" => Value::from(server.port.get()),
                                "weight" => Value::from(server.weight),
                                "is_draining" => Value::from(server.state == ServerState::Draining),
                                _ => return None,
                            })
                        },
                    )
                })
                .collect(),
        ),
        _ => None,
    })
}
