//! Ingress and IngressClass, reduced.

use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{Annotations, ObjectKey, PortName};

/// `networking.k8s.io/v1/Ingress`. Hosts and paths are text as it was written: what an edge may do
/// with it is for the edge to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
    /// `metadata.annotations`.
    pub annotations: Annotations,
    /// `spec.ingressClassName`.
    pub class_name: Option<Arc<str>>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<IngressBackend>,
    /// `spec.tls`.
    pub tls: Vec<IngressTls>,
    /// `spec.rules`; a path that makes no sense is left out and reported.
    pub rules: Vec<IngressRule>,
}

/// One entry of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressTls {
    /// `hosts`; empty is every host of the rules.
    pub hosts: Vec<Arc<str>>,
    /// `secretName`, in the Ingress's namespace.
    pub secret: Option<Arc<str>>,
}

/// One entry of `spec.rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRule {
    /// `host`; `None` is every host.
    pub host: Option<Arc<str>>,
    /// `http.paths`.
    pub paths: Vec<IngressPath>,
}

/// One entry of `http.paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPath {
    /// Which of the list it is: entries that make no sense are left out.
    pub index: usize,
    /// `path`, `/` where absent.
    pub path: Arc<str>,
    /// `pathType`.
    pub path_type: PathType,
    /// `backend.service`.
    pub backend: IngressBackend,
}

/// `pathType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathType {
    /// This path alone.
    Exact,
    /// This path and what is below it.
    Prefix,
    /// As the controller likes.
    ImplementationSpecific,
}

/// `backend.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressBackend {
    /// `name`, in the Ingress's namespace.
    pub service: Arc<str>,
    /// `port`.
    pub port: ServicePortRef,
}

/// A Service's port, by one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePortRef {
    /// `port.number`.
    Number(NonZeroU16),
    /// `port.name`.
    Name(PortName),
}

/// `networking.k8s.io/v1/IngressClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressClass {
    /// Name; the namespace is empty.
    pub key: ObjectKey,
    /// `spec.controller`.
    pub controller: Arc<str>,
    /// Annotation `ingressclass.kubernetes.io/is-default-class` is `"true"`.
    pub is_default: bool,
}
