//! Where the API server serves each kind, and what RBAC calls it.

use model::Kind;
use model::k8s::Detail;

/// All objects of a kind, or those that are asked for.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    /// In all namespaces.
    pub(super) path: String,
    /// Other versions at which clusters may serve the kind, the next to try first.
    others: Vec<String>,
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
            others: Resource::versions(kind)
                .skip(1)
                .map(Resource::path)
                .collect(),
            selector: node.map(|node| format!("spec.nodeName={node}")),
            detail,
        }
    }

    /// How many versions there are to try.
    pub(super) fn versions(&self) -> usize {
        1 + self.others.len()
    }

    /// Goes on with the next version, after the last with the first.
    pub(super) fn next_version(&mut self) {
        if !self.others.is_empty() {
            let next = self.others.remove(0);
            self.others.push(std::mem::replace(&mut self.path, next));
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
        Self::versions(kind).next().unwrap_or(Self {
            group: "",
            version: "v1",
            plural: "",
        })
    }

    /// Every version at which clusters may serve a kind with the fields that are read, the newest
    /// first. Bundles of Gateway API before 1.5 have no other TLSRoute than those of alpha versions,
    /// and later ones of the standard channel none of these.
    pub(crate) fn versions(kind: Kind) -> impl Iterator<Item = Self> {
        let versions: &[&str] = match kind {
            Kind::ClusterNetworkPolicy => &["v1alpha2"],
            Kind::TlsRoute => &["v1", "v1alpha3", "v1alpha2"],
            Kind::TcpRoute => &["v1alpha2", "v1"],
            Kind::ReferenceGrant => &["v1beta1", "v1"],
            Kind::BackendTlsPolicy => &["v1", "v1alpha3"],
            Kind::Service
            | Kind::EndpointSlice
            | Kind::Node
            | Kind::Pod
            | Kind::Namespace
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::Endpoints
            | Kind::Ingress
            | Kind::IngressClass
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::HttpRoute
            | Kind::ConfigMap => &["v1"],
        };
        let gateway_api = "gateway.networking.k8s.io";
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
            Kind::GatewayClass => (gateway_api, "gatewayclasses"),
            Kind::Gateway => (gateway_api, "gateways"),
            Kind::HttpRoute => (gateway_api, "httproutes"),
            Kind::TlsRoute => (gateway_api, "tlsroutes"),
            Kind::TcpRoute => (gateway_api, "tcproutes"),
            Kind::ReferenceGrant => (gateway_api, "referencegrants"),
            Kind::BackendTlsPolicy => (gateway_api, "backendtlspolicies"),
            Kind::ConfigMap => ("", "configmaps"),
        };
        versions.iter().map(move |version| Self {
            group,
            version,
            plural,
        })
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

    /// The collection of an object's namespace, or of the cluster.
    pub(crate) fn path_of(self, key: &model::ObjectKey) -> String {
        let all = self.path();
        if key.namespace.is_empty() {
            return all;
        }
        let root = all.strip_suffix(self.plural).unwrap_or(&all);
        format!("{root}namespaces/{}/{}", key.namespace, self.plural)
    }

    /// The rule of a ClusterRole that lacks.
    pub(crate) fn rule(self, verbs: &str) -> String {
        let Self { group, plural, .. } = self;
        format!(r#"{{apiGroups: ["{group}"], resources: ["{plural}"], verbs: [{verbs}]}}"#)
    }
}
