//! What a source says.

use std::sync::Arc;

use crate::{
    BackendTlsPolicy, ClusterNetworkPolicy, ConfigMap, EndpointSlice, EndpointsAnnotations,
    Gateway, GatewayClass, HttpRoute, Ingress, IngressClass, Kind, Namespace, NetworkPolicy, Node,
    ObjectKey, Pod, Problem, ReferenceGrant, Secret, Service, StreamRoute,
};

/// One object of any kind, reduced. Variants share the object, never copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
    /// A Pod.
    Pod(Arc<Pod>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A NetworkPolicy.
    NetworkPolicy(Arc<NetworkPolicy>),
    /// A ClusterNetworkPolicy.
    ClusterNetworkPolicy(Arc<ClusterNetworkPolicy>),
    /// A Secret.
    Secret(Arc<Secret>),
    /// Annotations of an Endpoints object.
    Endpoints(Arc<EndpointsAnnotations>),
    /// An Ingress.
    Ingress(Arc<Ingress>),
    /// An IngressClass.
    IngressClass(Arc<IngressClass>),
    /// A GatewayClass.
    GatewayClass(Arc<GatewayClass>),
    /// A Gateway.
    Gateway(Arc<Gateway>),
    /// An HTTPRoute.
    HttpRoute(Arc<HttpRoute>),
    /// A TLSRoute.
    TlsRoute(Arc<StreamRoute>),
    /// A TCPRoute.
    TcpRoute(Arc<StreamRoute>),
    /// A ReferenceGrant.
    ReferenceGrant(Arc<ReferenceGrant>),
    /// A BackendTLSPolicy.
    BackendTlsPolicy(Arc<BackendTlsPolicy>),
    /// A ConfigMap.
    ConfigMap(Arc<ConfigMap>),
}

impl Object {
    /// Its name.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Service(object) => &object.key,
            Self::EndpointSlice(object) => &object.key,
            Self::Node(object) => &object.key,
            Self::Pod(object) => &object.key,
            Self::Namespace(object) => &object.key,
            Self::NetworkPolicy(object) => &object.key,
            Self::ClusterNetworkPolicy(object) => &object.key,
            Self::Secret(object) => &object.key,
            Self::Endpoints(object) => &object.key,
            Self::Ingress(object) => &object.key,
            Self::IngressClass(object) => &object.key,
            Self::GatewayClass(object) => &object.key,
            Self::Gateway(object) => &object.key,
            Self::HttpRoute(object) => &object.key,
            Self::TlsRoute(object) => &object.key,
            Self::TcpRoute(object) => &object.key,
            Self::ReferenceGrant(object) => &object.key,
            Self::BackendTlsPolicy(object) => &object.key,
            Self::ConfigMap(object) => &object.key,
        }
    }
}

/// What a source says, in order. A kind is complete from its first `Replaced` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A list of one kind ended: these objects and problems are all there are of the kind.
    Replaced {
        /// The kind.
        kind: Kind,
        /// Every object of the kind that makes sense.
        objects: Vec<Object>,
        /// Problems of the kind's objects.
        problems: Vec<Problem>,
    },
    /// An object is new or changed. `object` is `None` where nothing of it makes sense; `problems`
    /// replace all that were known of this object.
    Applied {
        /// The kind.
        kind: Kind,
        /// Its name.
        key: ObjectKey,
        /// The reduced object.
        object: Option<Object>,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
    /// An object is gone, with its problems.
    Deleted {
        /// The kind.
        kind: Kind,
        /// Its name.
        key: ObjectKey,
    },
    /// How well the source hears of one kind.
    Source {
        /// The kind.
        kind: Kind,
        /// State of its list and watch.
        state: SourceState,
    },
}

/// State of the list and watch of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not listed yet.
    Listing,
    /// Listed and followed.
    Watching,
    /// Something is wrong; the last known objects stay in force.
    Degraded {
        /// What was tried, what was answered, what is tried next.
        reason: String,
    },
}
