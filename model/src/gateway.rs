//! Gateway API, reduced. What a Gateway or a policy says; routes are in [`crate::route`].
//!
//! Names, hosts and words of the API are text as it was written: what an edge may do with it, and
//! which status it gets, is for the edge to say.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{LabelSelector, ObjectKey};

/// `gateway.networking.k8s.io/v1/GatewayClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// Name; the namespace is empty.
    pub key: ObjectKey,
    /// `metadata.generation`, which conditions carry as `observedGeneration`.
    pub generation: i64,
    /// `spec.controllerName`.
    pub controller: Arc<str>,
}

/// `gateway.networking.k8s.io/v1/Gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.gatewayClassName`.
    pub class_name: Arc<str>,
    /// `spec.addresses`; empty where it names none.
    pub addresses: Vec<GatewayAddress>,
    /// `spec.listeners`; one that makes no sense is left out and reported.
    pub listeners: Vec<GatewayListener>,
    /// `spec.tls` asks for more than a listener's certificate: for clients' certificates.
    pub validates_clients: bool,
}

/// One entry of `spec.addresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayAddress {
    /// `type: IPAddress`.
    Ip(IpAddr),
    /// Another type.
    Other(Arc<str>),
}

/// One entry of `spec.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayListener {
    /// Which of the list it is.
    pub index: usize,
    /// `name`.
    pub name: Arc<str>,
    /// `hostname`; `None` is every host.
    pub hostname: Option<Arc<str>>,
    /// `port`.
    pub port: NonZeroU16,
    /// `protocol`: HTTP, HTTPS, TLS, TCP, or another word.
    pub protocol: Arc<str>,
    /// `tls`.
    pub tls: Option<ListenerTls>,
    /// `allowedRoutes`.
    pub allowed: AllowedRoutes,
}

/// `tls` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// `mode`: Terminate, or Passthrough.
    pub is_passthrough: bool,
    /// `certificateRefs`.
    pub certificates: Vec<ObjectRef>,
    /// `frontendValidation` asks for clients' certificates.
    pub validates_clients: bool,
}

/// `allowedRoutes` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedRoutes {
    /// `namespaces`.
    pub namespaces: RouteNamespaces,
    /// `kinds`, group and kind; empty is what the protocol allows.
    pub kinds: Vec<(Arc<str>, Arc<str>)>,
}

/// Namespaces whose routes a listener takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteNamespaces {
    /// The Gateway's.
    Same,
    /// Every one.
    All,
    /// Those with labels.
    Selector(LabelSelector),
    /// None: what was asked for cannot be read.
    None,
}

/// A reference to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// `group`; empty is the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`; `None` is the referring object's.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
}

/// `gateway.networking.k8s.io/v1/ReferenceGrant`: its namespace lets others refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `spec.from`: group, kind and namespace.
    pub from: Vec<(Arc<str>, Arc<str>, Arc<str>)>,
    /// `spec.to`.
    pub to: Vec<GrantTo>,
}

/// One entry of `spec.to` of a ReferenceGrant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTo {
    /// `group`; empty is the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`, where one alone is meant.
    pub name: Option<Arc<str>>,
}

/// `gateway.networking.k8s.io/v1/BackendTLSPolicy`: how a Service's endpoints speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent.
    pub created_unix_seconds: i64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.targetRefs`, in its own namespace, and the port's name where one alone is meant.
    pub targets: Vec<(ObjectRef, Option<Arc<str>>)>,
    /// `spec.validation.hostname`: SNI, and the name that the certificate must have.
    pub hostname: Arc<str>,
    /// `spec.validation.caCertificateRefs`, in its own namespace.
    pub authorities: Vec<ObjectRef>,
    /// What of `spec.validation` is asked for beside these, by its field's name.
    pub others: Vec<Arc<str>>,
}

/// `v1/ConfigMap`, of which only certificates of authorities matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `data["ca.crt"]`.
    pub authorities: Arc<str>,
}
