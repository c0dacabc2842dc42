//! Pods and namespaces with JSON annotations (dispatcher).
//!
//! A namespace names its hosts, its pods name the paths that they serve on each of them, and its
//! routing Secret has the key that requests must carry and the TLS material of the hosts. What a
//! namespace's Secret lacks closes what needs it, and nothing of another namespace.

mod annotations;
mod secret;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Cluster, Kind, Namespace, ObjectKey, Pod, PodEdge, PodProbe, PortName, ProbeAction, ProbePort,
};

use self::annotations::{HostOptions, Place, PodPath};
use self::secret::RoutingSecret;
use super::target;
use crate::edge::claim::{Claims, HttpClaim, Members, PodMember, TlsClaim};
use crate::edge::plan::{
    Access, Action, BackendProtocol, Filter, Forward, HealthCheck, HttpRule, Listen, Origin,
    PathRewrite, Probe, Redirect, RequestMatch, Timeouts,
};
use crate::edge::value::{HostMatch, Hostname, Id, PathMatch, UrlPath};
use crate::edge::{EdgeConfig, PodsConvention};

/// What annotated pods and namespaces claim.
pub(super) fn claims(
    cluster: &Cluster,
    convention: &PodsConvention,
    config: &EdgeConfig,
) -> Claims {
    let mut claims = Claims::default();
    for (key, namespace) in cluster.namespaces() {
        if convention.selector.selects(&namespace.labels) {
            let of_namespace = OfNamespace {
                cluster,
                convention,
                config,
                namespace,
                name: &key.name,
            };
            of_namespace.claim(&mut claims);
        }
    }
    claims
}

struct OfNamespace<'a> {
    cluster: &'a Cluster,
    convention: &'a PodsConvention,
    config: &'a EdgeConfig,
    namespace: &'a Namespace,
    name: &'a Arc<str>,
}

type Upstreams<'a> = BTreeMap<Place, Upstream<'a>>;

/// Pods of one path.
#[derive(Default)]
struct Upstream<'a> {
    target: Option<UrlPath>,
    members: Vec<PodMember>,
    health: Option<HealthCheck>,
    first: Option<&'a ObjectKey>,
}

impl OfNamespace<'_> {
    fn claim(&self, claims: &mut Claims) {
        let hosts = annotations::hosts(self.namespace, self.convention, &mut claims.problems);
        if hosts.is_empty() {
            return;
        }
        let upstreams = self.upstreams(&hosts, claims);
        let secret = RoutingSecret::find(self.cluster, self.convention, self.name);
        let access = Access {
            api_key: secret.api_key(self.convention),
            ..Access::default()
        };
        for (host, options) in &hosts {
            self.host(host, options, &secret, &upstreams, &access, claims);
        }
        for (place, upstream) in upstreams {
            let id = self.backend_id(&place);
            let origin = self.origin(&upstream);
            let members = Members::Pods(upstream.members);
            let balance = self.config.defaults.balance;
            let protocol = BackendProtocol::Http;
            let mut spec = target::backend(id.clone(), protocol, balance, origin, members);
            spec.backend.health = upstream.health;
            spec.backend.sends_proxy_protocol = self.convention.sends_proxy_protocol;
            claims.backends.insert(id, spec);
        }
    }

    fn backend_id(&self, place: &Place) -> Id {
        let mut parts = vec!["pods", &self.convention.name, self.name];
        parts.push(place.base.as_str());
        parts.extend(place.host.as_ref().map(Hostname::as_str));
        Id::of(&parts)
    }

    /// The oldest pod of a path stands for it; as old as the namespace, whose the hosts are.
    fn origin(&self, upstream: &Upstream<'_>) -> Origin {
        let annotation = &self.convention.paths_annotation;
        Origin {
            created_unix_seconds: self.namespace.created_unix_seconds,
            key: upstream.first.unwrap_or(&self.namespace.key).clone(),
            kind: Kind::Pod,
            field: format!("metadata.annotations.{annotation}").into(),
        }
    }

    /// Pods by the paths they serve, the oldest pod first.
    fn upstreams(
        &self,
        hosts: &BTreeMap<Hostname, HostOptions>,
        claims: &mut Claims,
    ) -> Upstreams<'_> {
        let pods = self.cluster.pods_in(self.name);
        let pods = pods.filter(|(_, pod)| self.convention.selector.selects(&pod.labels));
        let mut pods: Vec<_> = pods.collect();
        pods.sort_by_key(|(key, pod)| (pod.created_unix_seconds, *key));
        let mut upstreams: Upstreams<'_> = BTreeMap::new();
        for (key, pod) in pods {
            let Some(edge) = pod.edge.as_ref().filter(|edge| edge.is_running) else {
                continue;
            };
            let problems = &mut claims.problems;
            let paths = annotations::paths(pod, edge, hosts, self.convention, problems);
            for path in paths {
                let upstream = upstreams.entry(path.place.clone()).or_default();
                if upstream.first.is_none() {
                    upstream.first = Some(key);
                    upstream.target.clone_from(&path.target);
                    upstream.health = self.health(edge, pod, &path);
                } else if upstream.target != path.target {
                    claims
                        .problems
                        .push(annotations::other_target(pod, self.convention, &path));
                }
                if edge.is_ready || edge.is_terminating {
                    upstream.members.push(PodMember {
                        pod: key.clone(),
                        addresses: pod.addresses.as_slice().into(),
                        port: path.port,
                        weight: path.weight,
                        is_draining: edge.is_terminating,
                    });
                }
            }
        }
        upstreams
    }

    fn health(&self, edge: &PodEdge, pod: &Pod, path: &PodPath) -> Option<HealthCheck> {
        let declared = edge.ports.iter().find(|port| port.port == path.port)?;
        let probe = declared
            .probe
            .as_ref()
            .filter(|_| self.convention.health_checks)?;
        Some(health_check(probe, pod, path.port))
    }

    fn host(
        &self,
        host: &Hostname,
        options: &HostOptions,
        secret: &RoutingSecret<'_>,
        upstreams: &Upstreams<'_>,
        access: &Access,
        claims: &mut Claims,
    ) {
        let matched = HostMatch::Exact(host.clone());
        let mut listen = self.convention.http;
        if let Some(tls) = &options.tls {
            let Some(https) = self.convention.https else {
                claims
                    .problems
                    .push(secret.no_tls_listener(self.namespace, self.convention, host));
                return;
            };
            match secret.tls(self.namespace, self.convention, host, tls) {
                Ok((tls, certificates)) => {
                    claims.certificates.extend(certificates);
                    claims.tls.push(TlsClaim {
                        listen: https,
                        owner: Arc::clone(self.name),
                        host: matched.clone(),
                        tls,
                    });
                }
                Err(problem) => {
                    claims.problems.push(*problem);
                    return;
                }
            }
            listen = https;
            if self.convention.redirects_to_tls {
                claims.http.push(self.to_tls(&matched, https));
            }
        }
        for (place, upstream) in upstreams {
            if !is_served(place, host, upstreams) {
                continue;
            }
            let path = &place.base;
            let rewrite = upstream.target.clone().map(PathRewrite::Prefix);
            let rule = HttpRule {
                id: Id::of(&[
                    "pods",
                    &self.convention.name,
                    self.name,
                    host.as_str(),
                    path.as_str(),
                ]),
                matches: RequestMatch::path(PathMatch::Bytes(path.clone())),
                access: access.clone(),
                filters: rewrite.into_iter().map(Filter::RewritePath).collect(),
                action: Action::Forward(Forward::to(self.backend_id(place))),
                timeouts: Timeouts::default(),
                max_body_bytes: self.config.defaults.max_body_bytes,
                origin: self.origin(upstream),
            };
            claims.http.push(HttpClaim {
                listen,
                owner: Arc::clone(self.name),
                is_tls: options.tls.is_some(),
                host: matched.clone(),
                rule,
                unknown_path: self.convention.unknown_path.clone(),
            });
        }
    }
}

impl OfNamespace<'_> {
    /// Sends a host's clear text to its TLS.
    fn to_tls(&self, host: &HostMatch, https: Listen) -> HttpClaim {
        let annotation = &self.convention.hosts_annotation;
        let redirect = Redirect {
            to_https: Some(true),
            host: None,
            port: (https.port.get() != 443).then_some(https.port),
            path: None,
            status: 308,
        };
        let name = [&*self.convention.name, self.name, &host.to_string()];
        HttpClaim {
            listen: self.convention.http,
            owner: Arc::clone(self.name),
            is_tls: false,
            host: host.clone(),
            rule: HttpRule {
                id: Id::of(&[&["pods", "to_tls"], &name[..]].concat()),
                matches: RequestMatch::path(PathMatch::all()),
                access: Access::default(),
                filters: Vec::new(),
                action: Action::Redirect(redirect),
                timeouts: Timeouts::default(),
                max_body_bytes: None,
                origin: Origin {
                    created_unix_seconds: self.namespace.created_unix_seconds,
                    key: self.namespace.key.clone(),
                    kind: Kind::Namespace,
                    field: format!("metadata.annotations.{annotation}").into(),
                },
            },
            unknown_path: self.convention.unknown_path.clone(),
        }
    }
}

/// A path that names the host stands in place of the same path for every host.
fn is_served(place: &Place, host: &Hostname, upstreams: &Upstreams<'_>) -> bool {
    match &place.host {
        Some(of) => of == host,
        None => !upstreams.contains_key(&Place {
            host: Some(host.clone()),
            ..place.clone()
        }),
    }
}

/// As the kubelet asks: period, timeout and thresholds are the probe's. A probe that a proxy cannot
/// ask (`exec`), or whose path is none, becomes a connection.
fn health_check(probe: &PodProbe, pod: &Pod, served: NonZeroU16) -> HealthCheck {
    let number = |port: &ProbePort| match port {
        ProbePort::Number(number) => Some(*number),
        ProbePort::Name(name) => named(pod, name),
    };
    let (asked, port) = match &probe.action {
        ProbeAction::Http { path, port, is_tls } => match UrlPath::parse(path) {
            Ok(path) => {
                let http = Probe::Http {
                    path,
                    host: None,
                    is_tls: *is_tls,
                };
                (http, number(port))
            }
            Err(_) => (Probe::Tcp, number(port)),
        },
        ProbeAction::Tcp(port) => (Probe::Tcp, number(port)),
        ProbeAction::Other => (Probe::Tcp, None),
    };
    HealthCheck {
        probe: asked,
        port: port.filter(|port| *port != served),
        interval: probe.period.max(Duration::from_secs(1)),
        timeout: probe.timeout,
        rise: probe.successes,
        fall: probe.failures,
    }
}

fn named(pod: &Pod, name: &PortName) -> Option<NonZeroU16> {
    let mut ports = pod.ports.iter();
    ports.find(|(of, ..)| of == name).map(|(.., port)| *port)
}
