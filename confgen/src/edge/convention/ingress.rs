//! Ingress v1, with the common annotations of ingress-nginx.
//!
//! An annotation that is not known is told. One whose absence would open something (authentication
//! that cannot be had) closes the Ingress; raw snippets are never taken.

mod annotations;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    Cluster, Ingress, IngressBackend, IngressPath, Kind, ObjectKey, PathType, PortName, Problem,
    ServicePortRef,
};

use self::annotations::Options;
use super::{invalid, spoken, target};
use crate::edge::claim::{Claims, HttpClaim, Members};
use crate::edge::plan::{
    Action, BackendProtocol, Forward, HttpRule, Listen, Origin, Redirect, RequestMatch,
};
use crate::edge::value::{HostMatch, Id, PathMatch, PathRegex, UrlPath};
use crate::edge::{EdgeConfig, IngressConvention};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NOT_SERVED: &str = "this path is not served, the others are";

/// What Ingresses of our classes claim.
pub(super) fn claims(
    cluster: &Cluster,
    convention: &IngressConvention,
    config: &EdgeConfig,
) -> Claims {
    let mut claims = Claims::default();
    let ours: Vec<_> = ours(cluster, convention).collect();
    let each = ours.iter().map(|(key, ingress)| OfIngress {
        cluster,
        config,
        key,
        ingress,
        options: Options::read(cluster, convention, ingress, &mut claims.problems),
    });
    let each: Vec<OfIngress<'_>> = each.collect();
    let mut canaries = Canaries::default();
    for ingress in each
        .iter()
        .filter(|ingress| ingress.options.canary.is_some())
    {
        ingress.canary(&mut canaries, &mut claims);
    }
    for ingress in each
        .iter()
        .filter(|ingress| ingress.options.canary.is_none())
    {
        ingress.claim(&canaries, &mut claims);
    }
    claims
}

/// Ingresses of our classes.
pub(in crate::edge) fn ours<'a>(
    cluster: &'a Cluster,
    convention: &'a IngressConvention,
) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<Ingress>)> {
    let all = cluster.ingresses();
    all.filter(move |(_, ingress)| is_ours(cluster, convention, ingress))
}

/// Whether an Ingress is for this edge: by its class's controller, by the class's name, or without
/// a class where those are ours.
fn is_ours(cluster: &Cluster, convention: &IngressConvention, ingress: &Ingress) -> bool {
    let named = ingress.class_name.as_ref();
    let named = named.or_else(|| ingress.annotations.get(CLASS_ANNOTATION));
    let is_our_class = |class: &model::IngressClass| class.controller == convention.controller;
    let Some(name) = named else {
        let mut classes = cluster.ingress_classes();
        let is_default = classes.any(|(_, class)| class.is_default && is_our_class(class));
        return convention.takes_classless || is_default;
    };
    let class = cluster.ingress_class(&ObjectKey::cluster_scoped(name));
    class.map_or(convention.class_name.as_ref() == Some(name), |class| {
        is_our_class(class)
    })
}

/// Shares of canaries, by namespace, host and path of the Ingress they stand beside.
type Canaries = BTreeMap<(Arc<str>, HostMatch, Arc<str>), Vec<(Id, u32)>>;

struct OfIngress<'a> {
    cluster: &'a Cluster,
    config: &'a EdgeConfig,
    key: &'a ObjectKey,
    ingress: &'a Ingress,
    options: Options,
}

impl OfIngress<'_> {
    fn origin(&self, field: String) -> Origin {
        Origin {
            created_unix_seconds: self.ingress.created_unix_seconds,
            key: self.key.clone(),
            kind: Kind::Ingress,
            field: field.into(),
        }
    }

    fn problem(&self, field: &str, message: impl Into<String>, effect: &str) -> Problem {
        Problem::new(Kind::Ingress, self.key.clone(), field, message, effect)
    }

    /// Hosts and paths, each with the field that says it.
    fn paths(&self, claims: &mut Claims) -> Vec<(HostMatch, &IngressPath, String)> {
        let mut paths = Vec::new();
        for (index, rule) in self.ingress.rules.iter().enumerate() {
            let field = format!("spec.rules[{index}]");
            let host = rule
                .host
                .as_deref()
                .map_or(Ok(HostMatch::Any), HostMatch::parse);
            let host = match host {
                Ok(host) => host,
                Err(what) => {
                    let object = (Kind::Ingress, self.key);
                    let effect = "this rule is not served, the others are";
                    claims
                        .problems
                        .push(invalid(object, format!("{field}.host"), &what, effect));
                    continue;
                }
            };
            let aliases = self.options.aliases.iter().filter(|_| index == 0);
            let hosts: Vec<HostMatch> = [host].into_iter().chain(aliases.cloned()).collect();
            for path in &rule.paths {
                let field = format!("{field}.http.paths[{}]", path.index);
                let of_host = hosts.iter().map(|host| (host.clone(), path, field.clone()));
                paths.extend(of_host);
            }
        }
        paths
    }

    fn claim(&self, canaries: &Canaries, claims: &mut Claims) {
        let tls = self.tls(claims);
        for (host, path, field) in self.paths(claims) {
            let Some(matched) = self.matched(path, &field, claims) else {
                continue;
            };
            let mut forward = self.forward(&path.backend, &field, claims);
            let at = (
                Arc::clone(&self.key.namespace),
                host.clone(),
                Arc::clone(&path.path),
            );
            if let (Some(canaries), Some((_, share))) = (canaries.get(&at), forward.to.first_mut())
            {
                let taken: u32 = canaries.iter().map(|(_, weight)| weight).sum();
                *share = 100_u32.saturating_sub(taken);
                forward.to.extend(canaries.iter().cloned());
            }
            let rule = self.rule(&host, matched, &path.path, Action::Forward(forward), &field);
            self.serve(host, rule, &tls, claims);
        }
        if let Some(backend) = &self.ingress.default_backend {
            let field = "spec.defaultBackend".to_owned();
            let forward = self.forward(backend, &field, claims);
            let matched = RequestMatch::path(PathMatch::all());
            let rule = self.rule(
                &HostMatch::Any,
                matched,
                "",
                Action::Forward(forward),
                &field,
            );
            self.serve(HostMatch::Any, rule, &tls, claims);
        }
    }

    /// A canary is a share of the Ingress beside it, or a rule of its own for a header.
    fn canary(&self, canaries: &mut Canaries, claims: &mut Claims) {
        let tls = self.tls(claims);
        let Some(canary) = &self.options.canary else {
            return;
        };
        for (host, path, field) in self.paths(claims) {
            let forward = self.forward(&path.backend, &field, claims);
            if let (Some(weight), Some((id, _))) = (canary.weight, forward.to.first()) {
                let at = (
                    Arc::clone(&self.key.namespace),
                    host.clone(),
                    Arc::clone(&path.path),
                );
                canaries.entry(at).or_default().push((id.clone(), weight));
            }
            if let Some(header) = &canary.header
                && let Some(mut matched) = self.matched(path, &field, claims)
            {
                matched.headers.push(header.clone());
                let action = Action::Forward(forward);
                let rule = self.rule(&host, matched, &path.path, action, &field);
                self.serve(host, rule, &tls, claims);
            }
        }
    }

    fn matched(
        &self,
        path: &IngressPath,
        field: &str,
        claims: &mut Claims,
    ) -> Option<RequestMatch> {
        let of_url = |make: fn(UrlPath) -> PathMatch| UrlPath::parse(&path.path).map(make);
        let matched = match path.path_type {
            PathType::Exact => of_url(PathMatch::Exact),
            PathType::Prefix => of_url(PathMatch::Prefix),
            PathType::ImplementationSpecific if self.options.uses_regex => {
                // The customary groups for a rewrite are no more than a prefix.
                match annotations::prefix_of(&path.path) {
                    Some(prefix) => Ok(PathMatch::Prefix(prefix)),
                    None => PathRegex::parse(&path.path).map(PathMatch::Regex),
                }
            }
            PathType::ImplementationSpecific => of_url(PathMatch::Prefix),
        };
        let path = matched.map_err(|what| {
            let object = (Kind::Ingress, self.key);
            claims
                .problems
                .push(invalid(object, format!("{field}.path"), &what, NOT_SERVED));
        });
        path.ok().map(RequestMatch::path)
    }

    /// To the Service's endpoints; a Service or port that is not there answers 503.
    fn forward(&self, backend: &IngressBackend, field: &str, claims: &mut Claims) -> Forward {
        let service = ObjectKey::new(&self.key.namespace, &backend.service);
        let (port, shown) = match &backend.port {
            ServicePortRef::Name(name) => (Some(name.clone()), name.to_string()),
            ServicePortRef::Number(number) => {
                let known = self.cluster.service(&service);
                let mut ports = known.iter().flat_map(|service| &service.ports);
                let port = ports.find(|port| port.port == *number);
                (port.map(|port| port.name.clone()), number.to_string())
            }
        };
        if port.is_none() {
            let message = format!("is Service {service} port {shown}, which is not there");
            let field = format!("{field}.backend");
            let effect = "requests are answered with 503";
            claims.problems.push(self.problem(&field, message, effect));
        }
        let id = Id::of(&[
            "ingress",
            &self.key.namespace,
            &self.key.name,
            &backend.service,
            &shown,
        ]);
        // No endpoint has a port of this name: names have no blanks.
        let port = Some(port.unwrap_or_else(|| PortName::new(Some(" "))));
        let members = Members::Endpoints { service, port };
        let protocol = self
            .options
            .protocol
            .clone()
            .unwrap_or(BackendProtocol::Http);
        let balance = self.options.balance.unwrap_or(self.config.defaults.balance);
        let origin = self.origin(format!("{field}.backend"));
        let mut spec = target::backend(id.clone(), protocol, balance, origin, members);
        spec.backend.timeouts = self.options.timeouts.clone();
        spec.backend.sticky.clone_from(&self.options.sticky);
        let asked = self.options.protocol.clone();
        spoken::put(&mut spec, self.cluster, &mut claims.problems);
        // What the Ingress asks for stands before what the Service says.
        spec.backend.protocol = asked.unwrap_or(spec.backend.protocol);
        claims.backends.insert(id.clone(), spec);
        Forward::to(id)
    }

    fn rule(
        &self,
        host: &HostMatch,
        matches: RequestMatch,
        path: &str,
        action: Action,
        field: &str,
    ) -> HttpRule {
        let action = match (&self.options.closed, &self.options.redirect) {
            (true, _) => Action::Respond(503),
            (false, Some(redirect)) => Action::Redirect(redirect.clone()),
            (false, None) => action,
        };
        let host = host.to_string();
        let kind = format!("{:?}", matches.path);
        let parts = [
            "ingress",
            &self.key.namespace,
            &self.key.name,
            &host,
            path,
            &kind,
        ];
        HttpRule {
            id: Id::of(&parts),
            access: self.options.access.clone(),
            filters: self.options.filters_for(path),
            action,
            timeouts: self.options.timeouts.clone(),
            max_body_bytes: self
                .options
                .max_body_bytes
                .or(self.config.defaults.max_body_bytes),
            origin: self.origin(field.to_owned()),
            matches,
        }
    }

    /// At every listener. A host with a certificate is served in TLS, and in clear text sends
    /// clients there.
    fn serve(&self, host: HostMatch, rule: HttpRule, tls: &tls::Hosts, claims: &mut Claims) {
        let claim = |listen: &Listen, is_tls, rule| HttpClaim {
            listen: *listen,
            owner: Arc::clone(&self.key.namespace),
            is_tls,
            host: host.clone(),
            rule,
            unknown_path: self.config.defaults.unknown_path.clone(),
        };
        let is_in_tls = tls.contains(&host);
        let clear = if is_in_tls && self.options.redirects_to_tls || self.options.forces_tls {
            HttpRule {
                action: Action::Redirect(to_tls()),
                access: crate::edge::Access::default(),
                filters: Vec::new(),
                ..rule.clone()
            }
        } else {
            rule.clone()
        };
        let listen = &self.config.listen;
        claims
            .http
            .extend(listen.http.iter().map(|at| claim(at, false, clear.clone())));
        if is_in_tls {
            claims
                .http
                .extend(listen.https.iter().map(|at| claim(at, true, rule.clone())));
        }
        if let Some(root) = self
            .options
            .app_root
            .as_ref()
            .filter(|_| rule.origin.field.ends_with("paths[0]"))
        {
            let matches = RequestMatch::path(PathMatch::Exact(UrlPath::root()));
            let redirect = HttpRule {
                id: Id::of(&[rule.id.as_str(), "app-root"]),
                matches,
                action: Action::Redirect(root.clone()),
                filters: Vec::new(),
                ..rule
            };
            claims.http.extend(
                listen
                    .http
                    .iter()
                    .map(|at| claim(at, false, redirect.clone())),
            );
            if is_in_tls {
                claims.http.extend(
                    listen
                        .https
                        .iter()
                        .map(|at| claim(at, true, redirect.clone())),
                );
            }
        }
    }
}

/// 308 keeps the method, as ingress-nginx does.
fn to_tls() -> Redirect {
    Redirect {
        to_https: Some(true),
        host: None,
        port: None,
        path: None,
        status: 308,
    }
}
