//! Hosts as servers, paths as locations.

use std::collections::BTreeSet;

use super::Lowering;
use crate::edge::value::{HostMatch, Id};
use crate::edge::{HostTls, HttpListener, HttpRule, Listen, TlsListener, Unknown, VirtualHost};
use crate::nginx::view::{Body, Location, LocationChoice, Named, ServerBlock};
use crate::render::host_text;
use crate::route::{Candidates, Routes};

/// Statuses by which a location returns into a named one; servers never see them.
const FIRST_CODE: u16 = 560;
/// nginx takes codes up to 599 for `error_page`.
const MAX_CHOICES: usize = 40;

/// Where a listener's servers listen.
pub(super) struct Place {
    pub(super) listen: String,
    pub(super) is_unix: bool,
    pub(super) is_tls: bool,
    pub(super) accepts_proxy: bool,
    /// Of URLs, where it is not the scheme's own.
    pub(super) port: String,
    /// Shown to clients that ask for no known host.
    pub(super) unknown_host: Option<Id>,
}

impl Place {
    pub(super) fn open(listen: Listen, listener: &HttpListener, tls: Option<&TlsListener>) -> Self {
        Self {
            listen: listen.to_string(),
            is_unix: false,
            is_tls: tls.is_some(),
            accepts_proxy: listener.accepts_proxy_protocol,
            port: port(listen, tls.is_some()),
            unknown_host: tls.and_then(|tls| tls.unknown_host.clone()),
        }
    }

    fn server(&self) -> ServerBlock {
        ServerBlock {
            listen: self.listen.clone(),
            is_unix: self.is_unix,
            is_tls: self.is_tls,
            accepts_proxy: self.accepts_proxy,
            ..ServerBlock::default()
        }
    }
}

pub(super) fn port(listen: Listen, is_tls: bool) -> String {
    match (is_tls, listen.port.get()) {
        (true, 443) | (false, 80) => String::new(),
        (_, port) => port.to_string(),
    }
}

impl Lowering<'_> {
    pub(super) fn http(&mut self, place: &Place, listener: &HttpListener) {
        for (host, site) in &listener.hosts {
            let mut server = place.server();
            match host {
                HostMatch::Exact(name) => server.names.push(host_text(name)),
                HostMatch::Wildcard(suffix) => server.names.push(format!("*.{suffix}")),
                HostMatch::Regex(regex) => server.patterns.push(regex.anchored()),
                HostMatch::Any => server.is_default = true,
            }
            if place.is_tls && !self.certificate(site.tls.as_ref(), &mut server) {
                server.rejects_handshake = true;
                let closed = self.unknown(&Unknown::Close);
                server.locations.push(everything(Vec::new(), closed));
                self.servers.push(server);
                continue;
            }
            if server.is_default {
                server.status_path = None;
            }
            self.site(site, place, &mut server);
            self.servers.push(server);
        }
        let has_default = self
            .servers
            .iter()
            .any(|server| server.is_default && server.listen == place.listen);
        if !has_default {
            let plan = self.plan;
            let shown = place.unknown_host.as_ref();
            let shown = shown.and_then(|id| plan.certificates.get_key_value(id));
            let certificate = shown.map(|(id, shown)| self.files.add_pem(id, shown));
            let body = self.unknown(&listener.unknown_host);
            self.servers.push(ServerBlock {
                is_default: true,
                rejects_handshake: place.is_tls && certificate.is_none(),
                certificate,
                status_path: listener.status_path.as_ref().map(ToString::to_string),
                locations: vec![everything(Vec::new(), body)],
                ..place.server()
            });
        }
    }

    /// Whether the host can be served.
    fn certificate(&mut self, tls: Option<&HostTls>, server: &mut ServerBlock) -> bool {
        let Some(tls) = tls else {
            return false;
        };
        let plan = self.plan;
        let refused = "TLS connections for the host are refused";
        let Some(certificate) = plan.certificates.get(&tls.certificate) else {
            self.problem(&tls.origin, "the host's certificate is missing", refused);
            return false;
        };
        if let Some(clients) = &tls.clients {
            let Some(authorities) = plan.certificates.get(&clients.authorities) else {
                let message = "the authorities of its clients' certificates are missing";
                self.problem(&tls.origin, message, refused);
                return false;
            };
            let file = self
                .files
                .add_authorities(&clients.authorities, authorities);
            server.authorities = Some(file);
            server.is_required = clients.is_required;
        }
        server.certificate = Some(self.files.add_pem(&tls.certificate, certificate));
        true
    }

    fn site(&mut self, site: &VirtualHost, place: &Place, server: &mut ServerBlock) {
        let routes = Routes::of(site, &mut self.problems);
        let bodies: Vec<Body> = site
            .rules
            .iter()
            .map(|rule| self.body(rule, &place.port))
            .collect();
        let unknown = self.unknown(&site.unknown_path);
        let mut named = BTreeSet::new();
        let Routes {
            exact,
            prefix,
            otherwise,
        } = routes;
        let mut has_root = false;
        let tables = [(true, exact), (false, prefix)];
        for (is_exact, table) in tables {
            for (path, candidates) in table {
                has_root |= !is_exact && path == "/";
                let location = self.location(is_exact, path, &candidates, site, &bodies, &unknown);
                let rules = location.choices.iter().map(|choice| choice.named.clone());
                named.extend(rules);
                server.locations.push(location);
            }
        }
        if !has_root {
            let path = "/".to_owned();
            let location = self.location(false, path, &otherwise, site, &bodies, &unknown);
            named.extend(location.choices.iter().map(|choice| choice.named.clone()));
            server.locations.push(location);
        }
        let mut mirrors = BTreeSet::new();
        for (rule, body) in site.rules.iter().zip(bodies) {
            mirrors.extend(body.mirrors.iter().cloned());
            if let Some(name) = &body.named_answer {
                server.named.push(Named {
                    name: name.clone(),
                    is_answer: true,
                    body: body.clone(),
                });
            }
            let name = format!("rule_{}", rule.id);
            if named.contains(&name) {
                server.named.push(Named {
                    name,
                    is_answer: false,
                    body,
                });
            }
        }
        server.mirrors = mirrors.into_iter().collect();
    }

    fn location(
        &mut self,
        is_exact: bool,
        path: String,
        candidates: &Candidates,
        site: &VirtualHost,
        bodies: &[Body],
        unknown: &Body,
    ) -> Location {
        let rest = candidates.rest.and_then(|index| bodies.get(index));
        let body = rest.unwrap_or(unknown).clone();
        let mut choices = Vec::new();
        let rules = candidates.conditional.iter();
        let rules = rules.filter_map(|index| site.rules.get(*index));
        for rule in rules {
            if choices.len() == MAX_CHOICES {
                self.too_many(rule);
                continue;
            }
            if let Some(variable) = self.choice(rule) {
                choices.push(LocationChoice {
                    code: FIRST_CODE + u16::try_from(choices.len()).unwrap_or_default(),
                    named: format!("rule_{}", rule.id),
                    variable,
                });
            }
        }
        Location {
            is_exact,
            path,
            choices,
            body,
        }
    }

    fn too_many(&mut self, rule: &HttpRule) {
        let message = format!("more than {MAX_CHOICES} rules with conditions have one path");
        self.problem(&rule.origin, message, "the rule takes no request there");
    }
}

fn everything(choices: Vec<LocationChoice>, body: Body) -> Location {
    Location {
        is_exact: false,
        path: "/".to_owned(),
        choices,
        body,
    }
}
