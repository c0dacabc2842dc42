//! Names of objects. Keys are structured: two objects never share one.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

thread_local! {
    /// The namespace of the last key: objects come sorted, and thousands share one.
    static LAST: RefCell<Arc<str>> = RefCell::new(Arc::from(""));
}

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// Namespace, or empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key of a namespaced object.
    pub fn new(namespace: &str, name: &str) -> Self {
        let namespace = LAST.with_borrow_mut(|last| {
            if **last != *namespace {
                *last = namespace.into();
            }
            Arc::clone(last)
        });
        Self {
            namespace,
            name: name.into(),
        }
    }

    /// A key of a cluster-scoped object.
    pub fn cluster_scoped(name: &str) -> Self {
        Self::new("", name)
    }
}

/// By namespace, then by name. Keys that share their namespace's text, as most do, compare without
/// reading it.
impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let namespaces = if Arc::ptr_eq(&self.namespace, &other.namespace) {
            Ordering::Equal
        } else {
            self.namespace.cmp(&other.namespace)
        };
        namespaces.then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds of objects the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1/Service`
    Service,
    /// `discovery.k8s.io/v1/EndpointSlice`
    EndpointSlice,
    /// `v1/Node`
    Node,
    /// `v1/Pod`
    Pod,
    /// `v1/Namespace`
    Namespace,
    /// `networking.k8s.io/v1/NetworkPolicy`
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2/ClusterNetworkPolicy`
    ClusterNetworkPolicy,
    /// `v1/Secret`, watched only when asked for
    Secret,
    /// `v1/Endpoints`, of which only the annotations matter (confgen)
    Endpoints,
    /// `networking.k8s.io/v1/Ingress` (confgen)
    Ingress,
    /// `networking.k8s.io/v1/IngressClass` (confgen)
    IngressClass,
    /// `gateway.networking.k8s.io/v1/GatewayClass` (confgen)
    GatewayClass,
    /// `gateway.networking.k8s.io/v1/Gateway` (confgen)
    Gateway,
    /// `gateway.networking.k8s.io/v1/HTTPRoute` (confgen)
    HttpRoute,
    /// `gateway.networking.k8s.io/v1/TLSRoute` (confgen)
    TlsRoute,
    /// `gateway.networking.k8s.io/v1alpha2/TCPRoute` (confgen)
    TcpRoute,
    /// `gateway.networking.k8s.io/v1beta1/ReferenceGrant` (confgen)
    ReferenceGrant,
    /// `gateway.networking.k8s.io/v1/BackendTLSPolicy` (confgen)
    BackendTlsPolicy,
    /// `v1/ConfigMap`, of which only authorities matter (confgen)
    ConfigMap,
}

impl Kind {
    /// Every kind, in the order in which tables show them.
    pub const ALL: [Self; 19] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Node,
        Self::Pod,
        Self::Namespace,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::Secret,
        Self::Endpoints,
        Self::Ingress,
        Self::IngressClass,
        Self::GatewayClass,
        Self::Gateway,
        Self::HttpRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::ReferenceGrant,
        Self::BackendTlsPolicy,
        Self::ConfigMap,
    ];

    /// Whether its objects live in namespaces.
    pub fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Self::Node
                | Self::Namespace
                | Self::ClusterNetworkPolicy
                | Self::IngressClass
                | Self::GatewayClass
        )
    }

    /// Whether clusters may do without it: its CRD need not be installed.
    pub fn is_optional(self) -> bool {
        matches!(
            self,
            Self::ClusterNetworkPolicy
                | Self::GatewayClass
                | Self::Gateway
                | Self::HttpRoute
                | Self::TlsRoute
                | Self::TcpRoute
                | Self::ReferenceGrant
                | Self::BackendTlsPolicy
        )
    }

    /// The `kind` of a manifest, as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::Secret => "Secret",
            Self::Endpoints => "Endpoints",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The kinds a process asks its source for.
pub type KindSet = std::collections::BTreeSet<Kind>;
