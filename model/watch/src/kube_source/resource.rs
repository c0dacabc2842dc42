//! Where the API server serves each kind, and what RBAC calls it.

use model::Kind;

/// All objects of a kind, or those that are asked for.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    /// In all namespaces.
    pub(super) path: String,
    /// `fieldSelector` of lists and watches.
    pub(super) selector: Option<String>,
}

impl Collection {
    /// Every object of a kind; of pods, those of the node where one is given.
    pub(super) fn of(kind: Kind, pods_of_node: Option<&str>) -> Self {
        let node = pods_of_node.filter(|_| kind == Kind::Pod);
        Self {
            path: Resource::of(kind).path(),
            selector: node.map(|node| format!("spec.nodeName={node}")),
        }
    }
}

/// A served resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resource {
    /// Empty for the core group, as in a ClusterRole's `apiGroups`.
    pub(crate) group: &'static str,
    /// As in a ClusterRole's `resources`.
    pub(crate) plural: &'static str,
}

impl Resource {
    pub(crate) fn of(kind: Kind) -> Self {
        let (group, plural) = match kind {
            Kind::Service => ("", "services"),
            Kind::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
            Kind::Node => ("", "nodes"),
            Kind::Pod => ("", "pods"),
            Kind::Namespace => ("", "namespaces"),
            Kind::NetworkPolicy => ("networking.k8s.io", "networkpolicies"),
            Kind::Secret => ("", "secrets"),
            Kind::Endpoints => ("", "endpoints"),
        };
        Self { group, plural }
    }

    /// As in an object's `apiVersion`.
    pub(crate) fn api_version(self) -> String {
        let Self { group, plural: _ } = self;
        if group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{group}/v1")
        }
    }

    /// The collection in all namespaces.
    pub(crate) fn path(self) -> String {
        let Self { group, plural } = self;
        if group.is_empty() {
            format!("/api/v1/{plural}")
        } else {
            format!("/apis/{group}/v1/{plural}")
        }
    }

    /// The rule of a ClusterRole that lacks.
    pub(crate) fn rule(self, verbs: &str) -> String {
        let Self { group, plural } = self;
        format!(r#"{{apiGroups: ["{group}"], resources: ["{plural}"], verbs: [{verbs}]}}"#)
    }
}
