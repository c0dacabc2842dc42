//! Routes of Gateway API, reduced.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::{ObjectKey, ObjectRef};

/// `gateway.networking.k8s.io/v1/HTTPRoute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.parentRefs`.
    pub parents: Vec<ParentRef>,
    /// `spec.hostnames`; empty is every host of the listener.
    pub hostnames: Vec<Arc<str>>,
    /// `spec.rules`; one that makes no sense is left out and reported.
    pub rules: Vec<HttpRouteRule>,
}

/// TLSRoute or TCPRoute: bytes to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRoute {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.parentRefs`.
    pub parents: Vec<ParentRef>,
    /// `spec.hostnames` of a TLSRoute; empty is every host of the listener.
    pub hostnames: Vec<Arc<str>>,
    /// Backends of the first of `spec.rules`.
    pub backends: Vec<RouteBackend>,
}

/// One entry of `spec.parentRefs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParentRef {
    /// The parent.
    pub target: ObjectRef,
    /// `sectionName`: a listener.
    pub section_name: Option<Arc<str>>,
    /// `port`: listeners of this port.
    pub port: Option<NonZeroU16>,
}

/// One entry of `backendRefs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBackend {
    /// Which of the list it is.
    pub index: usize,
    /// The backend.
    pub target: ObjectRef,
    /// `port`, which a Service needs.
    pub port: Option<NonZeroU16>,
    /// `weight`, 1 where absent.
    pub weight: u32,
    /// `filters`, for this backend alone.
    pub filters: Vec<HttpRouteFilter>,
}

/// One entry of `spec.rules` of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRouteRule {
    /// Which of the list it is.
    pub index: usize,
    /// `matches`, any of which takes a request; never empty.
    pub matches: Vec<HttpRouteMatch>,
    /// `filters`.
    pub filters: Vec<HttpRouteFilter>,
    /// `backendRefs`.
    pub backends: Vec<RouteBackend>,
    /// `timeouts.request`; zero is none.
    pub request_timeout: Option<Duration>,
    /// `timeouts.backendRequest`; zero is none.
    pub backend_timeout: Option<Duration>,
}

/// One entry of `matches`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRouteMatch {
    /// `path`.
    pub path: HttpPath,
    /// `headers`.
    pub headers: Vec<HttpValueMatch>,
    /// `queryParams`.
    pub query: Vec<HttpValueMatch>,
    /// `method`.
    pub method: Option<Arc<str>>,
}

/// `path` of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpPath {
    /// `Exact`.
    Exact(Arc<str>),
    /// `PathPrefix`.
    Prefix(Arc<str>),
    /// `RegularExpression`.
    Regex(Arc<str>),
}

/// One entry of `headers` or `queryParams` of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpValueMatch {
    /// `name`.
    pub name: Arc<str>,
    /// `value`.
    pub value: Arc<str>,
    /// `type` is RegularExpression, else Exact.
    pub is_regex: bool,
}

/// One entry of `filters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpRouteFilter {
    /// `RequestHeaderModifier`.
    RequestHeaders(HeaderModifier),
    /// `ResponseHeaderModifier`.
    ResponseHeaders(HeaderModifier),
    /// `RequestRedirect`.
    Redirect(HttpRedirect),
    /// `URLRewrite`.
    Rewrite {
        /// `hostname`.
        hostname: Option<Arc<str>>,
        /// `path`.
        path: Option<PathModifier>,
    },
    /// `RequestMirror`.
    Mirror(RouteBackend),
    /// Another type, or one that cannot be read: what it was to do is not done.
    Unknown(Arc<str>),
}

/// `requestHeaderModifier` and `responseHeaderModifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    /// `set`: name and value.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// `add`: name and value.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// `remove`.
    pub remove: Vec<Arc<str>>,
}

/// `requestRedirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRedirect {
    /// `scheme` is https, where it is given.
    pub to_https: Option<bool>,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `path`.
    pub path: Option<PathModifier>,
    /// `port`.
    pub port: Option<NonZeroU16>,
    /// `statusCode`, 302 where absent.
    pub status: u16,
}

/// `path` of a redirect or rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// `ReplaceFullPath`.
    Full(Arc<str>),
    /// `ReplacePrefixMatch`.
    Prefix(Arc<str>),
}
