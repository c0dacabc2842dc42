//! The watched cluster as plain values.
//!
//! `model-watch` turns what an API server or a directory of manifests says into [`Event`]s;
//! [`Cluster`] applies them and tells which keys changed ([`ChangeSet`]). Consumers (the agent,
//! confgen) read the cluster and compute from it.
//!
//! This crate does no I/O and cannot fail: an object that makes no sense becomes a [`Problem`]
//! that names it, and every other object is unaffected.

#![warn(missing_docs)]

mod cluster;
mod edge;
mod endpoints;
mod event;
mod gateway;
mod ingress;
mod key;
mod net;
mod node;
mod parallel;
mod policy;
mod problem;
mod route;
mod selector;
mod service;
mod status;
mod workload;

pub mod k8s;

pub use cluster::{ChangeSet, Cluster};
pub use edge::{
    Annotations, ContainerPort, PodEdge, PodProbe, ProbeAction, ProbePort, ServiceEdge,
};
pub use endpoints::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice, Hints, Placement};
pub use event::{Event, Object, SourceState};
pub use gateway::{
    AllowedRoutes, BackendTlsPolicy, ConfigMap, Gateway, GatewayAddress, GatewayClass,
    GatewayListener, GrantTo, ListenerTls, ObjectRef, ReferenceGrant, RouteNamespaces,
};
pub use ingress::{
    Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, IngressTls, PathType,
    ServicePortRef,
};
pub use key::{Kind, KindSet, ObjectKey};
pub use net::{IpFamily, PortName, Protocol};
pub use node::{Node, NodeAddress, NodeAddressType};
pub use parallel::in_parallel;
pub use policy::{
    ClusterNetworkPolicy, ClusterPolicyRule, Direction, LabelSelector, NetworkPolicy,
    PeerSelection, PolicyMode, PolicyPeer, PolicyPort, PolicyRule, PortSelection, Requirement,
    RuleAction, Subject, Tier,
};
pub use problem::{Problem, Reason};
pub use route::{
    HeaderModifier, HttpPath, HttpRedirect, HttpRoute, HttpRouteFilter, HttpRouteMatch,
    HttpRouteRule, HttpValueMatch, ParentRef, PathModifier, RouteBackend, StreamRoute,
};
pub use service::{
    ClusterIps, Scheduler, Service, ServicePort, ServiceType, SessionAffinity, SourceRanges,
    TrafficDistribution, TrafficPolicy, Tuning, WeightedPeer,
};
pub use status::{Condition, ListenerStatus, ObjectStatus, Status};
pub use workload::{EndpointsAnnotations, HostPort, Labels, Namespace, Pod, PodUid, Secret};
