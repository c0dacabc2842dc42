//! Annotations of ingress-nginx, each with its type. Values are read once; what makes no sense, is
//! not known, or is raw text for a configuration is told.

mod read;
mod rewrite;

use std::time::Duration;

use model::{Cluster, Ingress, Kind, ObjectKey, Problem};

use self::read::Reader;
use self::rewrite::Rewrite;
pub(super) use self::rewrite::prefix_of;
use super::OfIngress;
use crate::edge::IngressConvention;
use crate::edge::certificate;
use crate::edge::claim::Claims;
use crate::edge::plan::{
    Access, BackendProtocol, BackendTls, Balance, ClientCertificates, Filter, Redirect,
    StickyCookie, Timeouts, ValueMatch,
};
use crate::edge::value::{HeaderName, HeaderValue, HostMatch, Hostname};

/// What annotations of one Ingress ask for.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) uses_regex: bool,
    pub(super) aliases: Vec<HostMatch>,
    pub(super) redirects_to_tls: bool,
    pub(super) forces_tls: bool,
    pub(super) app_root: Option<Redirect>,
    pub(super) redirect: Option<Redirect>,
    pub(super) protocol: Option<BackendProtocol>,
    pub(super) balance: Option<Balance>,
    pub(super) timeouts: Timeouts,
    pub(super) max_body_bytes: Option<u64>,
    pub(super) access: Access,
    pub(super) sticky: Option<StickyCookie>,
    pub(super) canary: Option<Canary>,
    /// Something that was to protect the Ingress cannot be had.
    pub(super) closed: bool,
    rewrite: Option<Rewrite>,
    host: Option<Hostname>,
    pub(super) client_authorities: Option<(ObjectKey, bool)>,
}

/// An Ingress beside another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Canary {
    /// In percent.
    pub(super) weight: Option<u32>,
    pub(super) header: Option<(HeaderName, ValueMatch)>,
}

/// What ingress-nginx could do and this cannot, without which something would stand open.
const PROTECTING: [&str; 6] = [
    "auth-url",
    "auth-signin",
    "enable-modsecurity",
    "modsecurity-snippet",
    "enable-owasp-core-rules",
    "enable-global-auth",
];

/// Has no effect here, and none is missed.
const NEEDLESS: [&str; 4] = [
    "use-http2",
    "proxy-buffering",
    "service-upstream",
    "websocket-services",
];

impl Options {
    pub(super) fn read(
        cluster: &Cluster,
        convention: &IngressConvention,
        ingress: &Ingress,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut reader = Reader::new(convention, ingress, problems);
        let mut options = Self {
            redirects_to_tls: true,
            ..Self::default()
        };
        for (name, value) in reader.annotations() {
            options.annotation(&mut reader, &name, &value);
        }
        options.basic_users(cluster, &mut reader);
        options.canary_of(&mut reader);
        options.cookie(&mut reader);
        options
    }

    fn annotation(&mut self, reader: &mut Reader<'_>, name: &str, value: &str) {
        match name {
            "use-regex" => self.uses_regex = reader.flag(name, value),
            "ssl-redirect" => self.redirects_to_tls = reader.flag(name, value),
            "force-ssl-redirect" => self.forces_tls = reader.flag(name, value),
            "server-alias" => {
                let parts = value
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                for part in parts {
                    self.aliases
                        .extend(reader.checked(name, HostMatch::parse(part)));
                }
            }
            "app-root" => self.app_root = reader.redirect_to_path(name, value),
            "permanent-redirect" => {
                let status = reader.number("permanent-redirect-code").unwrap_or(301);
                self.redirect = reader.redirect_to_url(name, value, status);
            }
            "temporal-redirect" => {
                let status = reader.number("temporal-redirect-code").unwrap_or(302);
                self.redirect = reader.redirect_to_url(name, value, status);
            }
            "rewrite-target" => match Rewrite::parse(value) {
                Ok(rewrite) => self.rewrite = Some(rewrite),
                Err(what) => {
                    let effect = "the Ingress answers 503: unchanged paths would mean others";
                    reader.problem(name, what, effect);
                    self.closed = true;
                }
            },
            "backend-protocol" => self.protocol = reader.protocol(name, value),
            "load-balance" => match value {
                "round_robin" => self.balance = Some(Balance::RoundRobin),
                "ewma" | "least_conn" => self.balance = Some(Balance::LeastConnections),
                other => reader.problem(name, format!("is {other:?}"), read::IGNORED),
            },
            "upstream-hash-by" => match value.trim_start_matches('$') {
                "remote_addr" | "binary_remote_addr" => self.balance = Some(Balance::Source),
                other => reader.problem(name, format!("is {other:?}"), read::IGNORED),
            },
            "proxy-connect-timeout" => self.timeouts.connect = reader.seconds(name, value),
            "proxy-read-timeout" | "proxy-send-timeout" => {
                let seconds = reader.seconds(name, value);
                self.timeouts.server = self.timeouts.server.max(seconds);
            }
            "proxy-body-size" => self.max_body_bytes = reader.size(name, value),
            "whitelist-source-range" | "allowlist-source-range" => {
                let networks = reader.networks(name, value, "it lets nobody in");
                self.closed |= networks.iter().flatten().next().is_none();
                let allowed = networks.into_iter().flatten();
                self.access.allowed_sources.extend(allowed);
            }
            "denylist-source-range" => {
                let effect = "the Ingress answers 503: serving it without would open it";
                let networks = reader.networks(name, value, effect);
                self.closed |= networks.contains(&None);
                let denied = networks.into_iter().flatten();
                self.access.denied_sources.extend(denied);
            }
            "upstream-vhost" => self.host = reader.checked(name, Hostname::parse(value)),
            "auth-tls-secret" => self.client_certificates(reader, name, value),
            _ if PROTECTING.contains(&name) => {
                let effect = "the Ingress answers 503: serving it without would open it";
                reader.problem(name, "is not done by this edge", effect);
                self.closed = true;
            }
            _ if name.ends_with("-snippet") => {
                let message = "is raw text for a configuration, which no tenant can give";
                reader.problem(name, message, read::IGNORED);
            }
            _ if NEEDLESS.contains(&name) || read::ELSEWHERE.contains(&name) => {}
            _ => reader.problem(name, "is not translated", read::IGNORED),
        }
    }

    fn client_certificates(&mut self, reader: &mut Reader<'_>, name: &str, value: &str) {
        let key = value
            .split_once('/')
            .map(|(namespace, name)| ObjectKey::new(namespace, name));
        // Another namespace's authorities are that one's to use.
        match key.filter(|key| key.namespace == reader.namespace()) {
            Some(key) => {
                let verify = reader.get("auth-tls-verify-client");
                let is_required = verify.as_deref() != Some("optional");
                self.client_authorities = Some((key, is_required));
            }
            None => {
                let effect = "the Ingress answers 503: serving it without would open it";
                reader.problem(name, "is not a Secret of the Ingress's namespace", effect);
                self.closed = true;
            }
        }
    }

    /// What clients must show; `Err` where the Secret cannot be used, so that nobody gets in.
    pub(super) fn clients(
        &self,
        ingress: &OfIngress<'_>,
        claims: &mut Claims,
    ) -> Result<Option<ClientCertificates>, Box<Problem>> {
        let Some((secret, is_required)) = &self.client_authorities else {
            return Ok(None);
        };
        let chain = ingress.cluster.secret(secret);
        let chain = chain.and_then(|secret| secret.data.get("ca.crt"));
        let chain = chain.map(AsRef::as_ref).unwrap_or_default();
        let origin = ingress.origin("metadata.annotations".to_owned());
        let read = certificate::authorities(chain, origin).map_err(|what| {
            let message = format!("names Secret {secret}, whose ca.crt {what}");
            let effect = "its hosts are closed in TLS: without it they would be open";
            Box::new(ingress.problem("metadata.annotations.auth-tls-secret", message, effect))
        });
        let (authorities, certificate) = read?;
        claims.certificates.insert(authorities.clone(), certificate);
        Ok(Some(ClientCertificates {
            authorities,
            is_required: *is_required,
        }))
    }

    /// Users of a Secret in `htpasswd` form, field `auth`; none lets nobody in.
    fn basic_users(&mut self, cluster: &Cluster, reader: &mut Reader<'_>) {
        let Some(kind) = reader.get("auth-type") else {
            return;
        };
        let effect = "nobody is let in";
        self.access.basic_users = Some(Vec::new());
        if kind != "basic" {
            reader.problem("auth-type", format!("is {kind:?}, not basic"), effect);
            return;
        }
        let name = reader.get("auth-secret").unwrap_or_default();
        let secret = ObjectKey::new(&reader.namespace(), &name);
        let users = cluster.secret(&secret);
        let users = users.and_then(|secret| secret.data.get("auth"));
        let users = users.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let Some(users) = users else {
            let message = format!("is Secret {secret}, which has no field auth");
            reader.problem("auth-secret", message, effect);
            return;
        };
        let lines = users.lines().filter_map(|line| line.split_once(':'));
        let users = lines.filter_map(|(name, hash)| {
            let hash = HeaderValue::parse(hash.trim()).ok()?;
            Some((HeaderValue::parse(name).ok()?, hash))
        });
        self.access.basic_users = Some(users.collect());
    }

    fn canary_of(&mut self, reader: &mut Reader<'_>) {
        if reader.get("canary").as_deref() != Some("true") {
            return;
        }
        let weight = reader.number("canary-weight").map(u32::from);
        let header = reader.get("canary-by-header");
        let header =
            header.and_then(|name| reader.checked("canary-by-header", HeaderName::parse(&name)));
        let value = reader
            .get("canary-by-header-value")
            .unwrap_or_else(|| "always".to_owned());
        let value = reader.checked("canary-by-header-value", HeaderValue::parse(&value));
        self.canary = Some(Canary {
            weight: weight.map(|weight| weight.min(100)),
            header: header
                .zip(value)
                .map(|(name, value)| (name, ValueMatch::Exact(value))),
        });
    }

    fn cookie(&mut self, reader: &mut Reader<'_>) {
        if reader.get("affinity").as_deref() != Some("cookie") {
            return;
        }
        let name = reader
            .get("session-cookie-name")
            .unwrap_or_else(|| "INGRESSCOOKIE".to_owned());
        let age = reader.get("session-cookie-max-age");
        let age = age.and_then(|text| reader.seconds("session-cookie-max-age", &text));
        let name = reader.checked("session-cookie-name", HeaderName::parse(&name));
        self.sticky = name.map(|name| StickyCookie {
            name,
            max_age: age.filter(|age| *age > Duration::ZERO),
        });
    }

    /// What is changed on the way of a path.
    pub(super) fn filters_for(&self, path: &str) -> Vec<Filter> {
        let rewrite = self.rewrite.as_ref().and_then(|rewrite| rewrite.of(path));
        let rewrite = rewrite.map(Filter::RewritePath);
        let host = self.host.clone().map(Filter::RewriteHost);
        rewrite.into_iter().chain(host).collect()
    }
}

/// `HTTPS` to servers is not verified, as in ingress-nginx without `proxy-ssl-verify`.
fn unverified() -> BackendProtocol {
    BackendProtocol::Https(BackendTls {
        server_name: None,
        authorities: None,
    })
}

/// Where a problem is told.
fn field(convention: &IngressConvention, name: &str) -> String {
    format!(
        "metadata.annotations.{}/{name}",
        convention.annotation_prefix
    )
}

/// A problem of one annotation.
fn problem(ingress: &Ingress, field: String, message: impl Into<String>, effect: &str) -> Problem {
    Problem::new(Kind::Ingress, ingress.key.clone(), field, message, effect)
}
