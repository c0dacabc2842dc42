//! Where the API server serves each kind, and what RBAC calls it.

use model::Kind;
use model::k8s::Detail;

/// All objects of a kind, or those that are asked for.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    /// In all namespaces.
    pub(super) path: String,
    /// `fieldSelector` of lists and watches.
    pub(super) selector: Option<String>,
    /// How much of each object is kept.
    pub(super) detail: Detail,
}

impl Collection {
    /// Every object of a kind; of pods, those of the node where one is given.
    pub(super) fn of(kind: Kind, pods_of_node: Option<&str>, detail: Detail) -> Self {
        let node = pods_of_node.filter(|_| kind == Kind::Pod);
        Self {
            path: Resource::of(kind).path(),
            selector: node.map(|node| format!("spec.nodeName={node}")),
            detail,
        }
    }
}

/// A served resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource {
    /// Empty for the core group, as in a ClusterRole's `apiGroups`.
    pub(crate) group: &'static str,
    /// Version within the group.
    pub(crate) version: &'static str,
    /// As in a ClusterRole's `resources`.
    pub(crate) plural: &'static str,
}

impl Resource {
    pub(crate) fn of(kind: Kind) -> Self {
        let version = match kind {
            Kind::ClusterNetworkPolicy => "v1alpha2",
            Kind::Service
            | Kind::EndpointSlice
            | Kind::Node
            | Kind::Pod
            | Kind::Namespace
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::Endpoints
            | Kind::Ingress
            | Kind::IngressClass => "v1",
        };
        let (group, plural) = match kind {
            Kind::Service => ("", "services"),
            Kind::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
            Kind::Node => ("", "nodes"),
            Kind::Pod => ("", "pods"),
            Kind::Namespace => ("", "namespaces"),
            Kind::NetworkPolicy => ("networking.k8s.io", "networkpolicies"),
            Kind::ClusterNetworkPolicy => ("policy.networking.k8s.io", "clusternetworkpolicies"),
            Kind::Secret => ("", "secrets"),
            Kind::Endpoints => ("", "endpoints"),
            Kind::Ingress => ("networking.k8s.io", "ingresses"),
            Kind::IngressClass => ("networking.k8s.io", "ingressclasses"),
        };
        Self {
            group,
            version,
            plural,
        }
    }

    /// As in an object's `apiVersion`.
    pub(crate) fn api_version(self) -> String {
        let Self { group, version, .. } = self;
        if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        }
    }

    /// The collection in all namespaces.
    pub(crate) fn path(self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}/{}", self.api_version(), self.plural)
    }

    /// The rule of a ClusterRole that lacks.
    pub(crate) fn rule(self, verbs: &str) -> String {
        let Self { group, plural, .. } = self;
        format!(r#"{{apiGroups: ["{group}"], resources: ["{plural}"], verbs: [{verbs}]}}"#)
    }
}
