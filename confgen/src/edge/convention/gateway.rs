//! Gateway API: GatewayClass, Gateway, HTTPRoute, TLSRoute, TCPRoute, ReferenceGrant and
//! BackendTLSPolicy.
//!
//! [`read`] decides once what becomes of each object; [`claims`] hands on what is served, and
//! `edge::status` tells the objects. A part that cannot be done answers 500 or is not served: it is
//! never served as if it were not there.

mod attach;
mod backend;
mod grants;
mod http;
mod listener;
mod stream;

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Cluster, GatewayClass, Kind, ObjectKey, ParentRef, Problem};

use self::attach::{Route, Served};
use self::backend::Backends;
pub(in crate::edge) use self::listener::{OfGateway, OfListener, Speech};
use crate::edge::claim::{Claims, HttpClaim, TlsClaim};
use crate::edge::plan::{
    Access, Action, HttpRule, Listen, Origin, RequestMatch, Timeouts, Unknown,
};
use crate::edge::value::{HostMatch, Id, PathMatch};
use crate::edge::{EdgeConfig, GatewayConvention, host_claims};

/// Of every kind here.
pub(in crate::edge) const GROUP: &str = "gateway.networking.k8s.io";

/// Why something is not as it was asked for: a reason of the specification, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edge) struct Fault {
    pub(in crate::edge) reason: &'static str,
    pub(in crate::edge) message: String,
}

impl Fault {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What becomes of the objects of our classes.
#[derive(Debug, Default)]
pub(in crate::edge) struct Outcome<'a> {
    pub(in crate::edge) classes: Vec<&'a GatewayClass>,
    pub(in crate::edge) gateways: Vec<OfGateway<'a>>,
    pub(in crate::edge) routes: Vec<OfRoute<'a>>,
    claims: Claims,
}

/// What becomes of a route.
#[derive(Debug)]
pub(in crate::edge) struct OfRoute<'a> {
    pub(in crate::edge) kind: Kind,
    pub(in crate::edge) key: &'a ObjectKey,
    pub(in crate::edge) generation: i64,
    /// At each parent that is ours.
    pub(in crate::edge) parents: Parents<'a>,
    /// The first of its references that leads nowhere.
    pub(in crate::edge) unresolved: Option<Fault>,
    /// The first of its parts that cannot be done, and whether none of its rules can.
    pub(in crate::edge) unsupported: Option<(Fault, bool)>,
}

/// References to Gateways of ours, and whether the route is attached there.
pub(in crate::edge) type Parents<'a> = Vec<(&'a ParentRef, Result<(), Fault>)>;

/// What Gateways and routes claim.
pub(super) fn claims(
    cluster: &Cluster,
    convention: &GatewayConvention,
    config: &EdgeConfig,
) -> Claims {
    let Outcome {
        gateways,
        routes,
        mut claims,
        ..
    } = read(cluster, convention, config);
    for gateway in &gateways {
        gateway.report(&mut claims.problems);
    }
    for route in &routes {
        route.report(&mut claims.problems);
    }
    claims
}

/// Decides about everything of our classes.
pub(in crate::edge) fn read<'a>(
    cluster: &'a Cluster,
    convention: &GatewayConvention,
    config: &EdgeConfig,
) -> Outcome<'a> {
    let mut outcome = Outcome::default();
    let grants = grants::Grants::of(cluster);
    let classes = cluster.gateway_classes().map(|(_, class)| &**class);
    outcome
        .classes
        .extend(classes.filter(|class| class.controller == convention.controller));
    for (_, gateway) in cluster.gateways() {
        let mut classes = outcome.classes.iter();
        if classes.any(|class| class.key.name == gateway.class_name) {
            let claims = &mut outcome.claims.certificates;
            let read = OfGateway::read(cluster, convention, &grants, gateway, claims);
            outcome.gateways.push(read);
        }
    }
    let mut backends = Backends::new(cluster, config, &grants);
    for (_, route) in cluster.http_routes() {
        let head = Route::of_http(route);
        outcome.route(cluster, &head, |outcome, served| {
            http::serve(outcome, &mut backends, config, route, served)
        });
    }
    for (kind, route) in cluster
        .tls_routes()
        .map(|(_, route)| (Kind::TlsRoute, route))
        .chain(
            cluster
                .tcp_routes()
                .map(|(_, route)| (Kind::TcpRoute, route)),
        )
    {
        let head = Route::of_stream(kind, route);
        outcome.route(cluster, &head, |outcome, served| {
            stream::serve(outcome, &mut backends, kind, route, served)
        });
    }
    backends.put_into(&mut outcome.claims);
    outcome.fill(config);
    outcome
}

/// What of a route's references and parts is wrong.
#[derive(Debug, Default)]
struct Findings {
    unresolved: Option<Fault>,
    unsupported: Option<Fault>,
    /// Whether a rule is served as it was asked for.
    is_any_served: bool,
}

impl<'a> Outcome<'a> {
    /// Attaches a route where it may be, and hands those places on to be served.
    fn route(
        &mut self,
        cluster: &Cluster,
        route: &Route<'a>,
        serve: impl FnOnce(&mut Self, &[Served]) -> Findings,
    ) {
        let (parents, served) = route.attach(cluster, &mut self.gateways);
        if parents.is_empty() {
            return;
        }
        let Findings {
            unresolved,
            unsupported,
            is_any_served,
        } = serve(self, &served);
        self.routes.push(OfRoute {
            kind: route.kind,
            key: route.key,
            generation: route.generation,
            parents,
            unresolved,
            unsupported: unsupported.map(|fault| (fault, !is_any_served)),
        });
    }

    /// Claims a host in HTTP or in TLS at every address of a listener.
    fn claim(&mut self, at: (usize, usize), host: &HostMatch, rule: impl Fn(Listen) -> HttpRule) {
        let gateway = &self.gateways[at.0];
        let listener = &gateway.listeners[at.1];
        let owner = &gateway.gateway.key.namespace;
        for listen in gateway.listens(listener) {
            self.claims.http.push(HttpClaim {
                listen,
                owner: Arc::clone(owner),
                is_tls: listener.speech == Some(Speech::Https),
                host: host.clone(),
                rule: rule(listen),
                unknown_path: Unknown::Status(404),
            });
            self.claims
                .tls
                .extend(listener.tls.iter().map(|tls| TlsClaim {
                    listen,
                    owner: Arc::clone(owner),
                    host: host.clone(),
                    tls: tls.clone(),
                }));
        }
    }

    /// Hosts of listeners to which no route is attached answer 404, and are not taken by a wider
    /// listener beside them.
    fn fill(&mut self, config: &EdgeConfig) {
        let claimed: BTreeSet<(Listen, &HostMatch)> = self
            .claims
            .http
            .iter()
            .map(|claim| (claim.listen, &claim.host))
            .collect();
        let mut wanted = Vec::new();
        for (index, gateway) in self.gateways.iter().enumerate() {
            for (at, listener) in gateway.listeners.iter().enumerate() {
                let speaks_http = matches!(listener.speech, Some(Speech::Http | Speech::Https));
                let namespace = &gateway.gateway.key.namespace;
                let is_allowed = host_claims::allow(config, namespace, &listener.host);
                let mut listens = gateway.listens(listener);
                let has_claim = listens.any(|listen| claimed.contains(&(listen, &listener.host)));
                if listener.is_served() && speaks_http && is_allowed && !has_claim {
                    wanted.push((index, at, listener.host.clone()));
                }
            }
        }
        for (index, at, host) in wanted {
            let gateway = &self.gateways[index];
            let origin = Origin {
                // Whoever asks for the host, or for its root, was there before this answer.
                created_unix_seconds: i64::MAX,
                ..gateway.origin(gateway.listeners[at].listener)
            };
            self.claim((index, at), &host, |listen| HttpRule {
                id: Id::of(&["gateway-none", &shown(listen), &host.to_string()]),
                matches: RequestMatch::path(PathMatch::all()),
                access: Access::default(),
                filters: Vec::new(),
                action: Action::Respond(404),
                timeouts: Timeouts::default(),
                max_body_bytes: None,
                origin: origin.clone(),
            });
        }
    }
}

impl OfRoute<'_> {
    fn report(&self, problems: &mut Vec<Problem>) {
        let mut tell = |field: &str, fault: &Fault, effect: &str| {
            let message = format!("{} ({})", fault.message, fault.reason);
            problems.push(Problem::new(
                self.kind,
                self.key.clone(),
                field,
                message,
                effect,
            ));
        };
        for (parent, accepted) in &self.parents {
            if let Err(fault) = accepted {
                let field = format!("spec.parentRefs[{}]", parent.target.name);
                tell(&field, fault, "the route is not attached there");
            }
        }
        if let Some(fault) = &self.unresolved {
            tell("spec.rules", fault, "its share of requests is not served");
        }
        if let Some((fault, _)) = &self.unsupported {
            tell("spec.rules", fault, "what it is about is not served");
        }
    }
}

fn shown(listen: Listen) -> String {
    std::net::SocketAddr::new(listen.address, listen.port.get()).to_string()
}
