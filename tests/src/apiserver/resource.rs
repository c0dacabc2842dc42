//! Which path is which collection. Written from the Kubernetes API reference, not shared with the
//! source under test.

use model::Kind;

/// A collection that a request names.
pub(super) struct Collection {
    pub(super) kind: Kind,
    /// Only of this namespace.
    pub(super) namespace: Option<String>,
}

impl Collection {
    /// `/api/v1/pods`, `/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices`, ...
    pub(super) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<_> = path.trim_matches('/').split('/').collect();
        let (api_version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, plural) = match rest {
            [plural] => (None, *plural),
            ["namespaces", namespace, plural] => (Some((*namespace).to_owned()), *plural),
            _ => return None,
        };
        let kind = Kind::ALL.into_iter().find(|kind| {
            self::api_version(*kind) == api_version && self::plural(*kind) == plural
        })?;
        (namespace.is_none() || is_namespaced(kind)).then_some(Self { kind, namespace })
    }
}

/// `apiVersion` of the kind.
pub(super) fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::NetworkPolicy | Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
        Kind::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
        Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute | Kind::BackendTlsPolicy => {
            "gateway.networking.k8s.io/v1"
        }
        Kind::ReferenceGrant => "gateway.networking.k8s.io/v1beta1",
        // Not the newest: clusters with an older bundle have no other.
        Kind::TlsRoute | Kind::TcpRoute => "gateway.networking.k8s.io/v1alpha2",
        Kind::Service
        | Kind::Node
        | Kind::Pod
        | Kind::Namespace
        | Kind::Secret
        | Kind::Endpoints
        | Kind::ConfigMap => "v1",
    }
}

/// Name of the collection.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Node => "nodes",
        Kind::Pod => "pods",
        Kind::Namespace => "namespaces",
        Kind::NetworkPolicy => "networkpolicies",
        Kind::ClusterNetworkPolicy => "clusternetworkpolicies",
        Kind::Secret => "secrets",
        Kind::Endpoints => "endpoints",
        Kind::Ingress => "ingresses",
        Kind::IngressClass => "ingressclasses",
        Kind::GatewayClass => "gatewayclasses",
        Kind::Gateway => "gateways",
        Kind::HttpRoute => "httproutes",
        Kind::TlsRoute => "tlsroutes",
        Kind::TcpRoute => "tcproutes",
        Kind::ReferenceGrant => "referencegrants",
        Kind::BackendTlsPolicy => "backendtlspolicies",
        Kind::ConfigMap => "configmaps",
    }
}

pub(super) fn is_namespaced(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Node
            | Kind::Namespace
            | Kind::ClusterNetworkPolicy
            | Kind::IngressClass
            | Kind::GatewayClass
    )
}
