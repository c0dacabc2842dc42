//! Where the API server serves each kind, and what RBAC calls it.

use model::Kind;

/// A served resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource {
    /// Empty for the core group, as in a ClusterRole's `apiGroups`.
    pub(super) group: &'static str,
    /// As in a ClusterRole's `resources`.
    pub(super) plural: &'static str,
}

impl Resource {
    pub(super) fn of(kind: Kind) -> Self {
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

    /// The collection in all namespaces.
    pub(super) fn path(self) -> String {
        let Self { group, plural } = self;
        if group.is_empty() {
            format!("/api/v1/{plural}")
        } else {
            format!("/apis/{group}/v1/{plural}")
        }
    }

    /// The rule of a ClusterRole that lacks.
    pub(super) fn rule(self, verbs: &str) -> String {
        let Self { group, plural } = self;
        format!(r#"{{apiGroups: ["{group}"], resources: ["{plural}"], verbs: [{verbs}]}}"#)
    }
}
