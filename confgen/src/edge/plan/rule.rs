//! What a host does with requests: its rules, in order.

use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;

use super::{Origin, Unknown};
use crate::edge::value::{
    ApiKey, HeaderName, HeaderValue, Hostname, Id, Method, PathMatch, UrlPath,
};

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualHost {
    /// How its TLS ends here; `None` in clear text.
    pub tls: Option<HostTls>,
    /// Rules in order of precedence: the first whose match takes the request decides.
    pub rules: Vec<HttpRule>,
    /// What a request gets that no rule takes.
    pub unknown_path: Unknown,
}

/// TLS of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTls {
    /// Its certificate and key, in [`EdgePlan::certificates`].
    pub certificate: Id,
    /// What clients must show.
    pub clients: Option<ClientCertificates>,
    /// Who gave it.
    pub origin: Origin,
}

impl HostTls {
    /// TLS that nothing can end, as what it needs is missing: the host is closed.
    pub fn closed(origin: Origin) -> Self {
        let missing = Id::of(&["missing"]);
        Self {
            certificate: missing.clone(),
            clients: Some(ClientCertificates {
                authorities: missing,
                is_required: true,
            }),
            origin,
        }
    }
}

/// What clients must show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientCertificates {
    /// Authorities, in [`EdgePlan::certificates`].
    pub authorities: Id,
    /// Whether a client without any is refused.
    pub is_required: bool,
}

/// One rule of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Generated; unique in the plan, and stable while the rule is.
    pub id: Id,
    /// Which requests.
    pub matches: RequestMatch,
    /// Who may.
    pub access: Access,
    /// What is changed on the way.
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub action: Action,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Largest request body; `None` is any.
    pub max_body_bytes: Option<u64>,
    /// Who asked for it.
    pub origin: Origin,
}

/// Which requests. Everything given must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestMatch {
    /// Path, without the query.
    pub path: PathMatch,
    /// Method; `None` is any.
    pub method: Option<Method>,
    /// Headers and what they must be.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters and what they must be.
    pub query: Vec<(HeaderName, ValueMatch)>,
}

impl RequestMatch {
    /// By the path alone.
    pub fn path(path: PathMatch) -> Self {
        Self {
            path,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

/// What a header or a parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(HeaderValue),
    /// Matched somewhere by this expression (RE2 syntax that is PCRE too).
    Regex(HeaderValue),
    /// There, whatever it is.
    Present,
}

/// Who may use a rule. Everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A header and the value that it must have; without one nobody gets in, which is how a missing
    /// Secret fails closed.
    pub api_key: Option<(HeaderName, Option<ApiKey>)>,
    /// Networks that may; empty is everybody.
    pub allowed_sources: Vec<IpNet>,
    /// Networks that may not.
    pub denied_sources: Vec<IpNet>,
    /// Basic authentication: names and `crypt(3)` hashes; empty lets nobody in.
    pub basic_users: Option<Vec<(HeaderValue, HeaderValue)>>,
}

/// A change on the way. Applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A header towards the backend.
    RequestHeader(HeaderChange),
    /// A header towards the client.
    ResponseHeader(HeaderChange),
    /// Another `Host` towards the backend.
    RewriteHost(Hostname),
    /// Another path towards the backend.
    RewritePath(PathRewrite),
    /// A copy to another backend, whose answer is dropped.
    Mirror(Id),
}

/// A change of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// In place of any there are.
    Set(HeaderName, HeaderValue),
    /// Beside any there are.
    Add(HeaderName, HeaderValue),
    /// None any more.
    Remove(HeaderName),
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// This one, whatever it was.
    Full(UrlPath),
    /// The matched prefix becomes this one.
    Prefix(UrlPath),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To backends.
    Forward(Forward),
    /// Back to the client, which asks elsewhere.
    Redirect(Redirect),
    /// An answer with this status.
    Respond(u16),
}

/// To backends by weight; none at all answers 500 (Gateway API), and 503 where servers lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Backends in [`EdgePlan::backends`] and their weights; 0 gets nothing.
    pub to: Vec<(Id, u32)>,
}

impl Forward {
    /// All to one backend.
    pub fn to(backend: Id) -> Self {
        Self {
            to: vec![(backend, 1)],
        }
    }
}

/// Elsewhere; what is not given stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme: whether https.
    pub to_https: Option<bool>,
    /// Host.
    pub host: Option<Hostname>,
    /// Port; absent with a scheme it is the scheme's own.
    pub port: Option<NonZeroU16>,
    /// Path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// How long something may take; what is not given is the configuration's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a server accepts a connection.
    pub connect: Option<Duration>,
    /// Between two bytes of a server's answer.
    pub server: Option<Duration>,
    /// For the whole answer.
    pub request: Option<Duration>,
}
