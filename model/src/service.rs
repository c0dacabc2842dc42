//! A Service, reduced to what balancing uses.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{ObjectKey, PortName, Protocol};

/// `v1/Service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp` in seconds since 1970, 0 where absent. The older of two
    /// Services that claim one address and port wins.
    pub created_unix_seconds: i64,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.clusterIPs` (or `spec.clusterIP`).
    pub cluster_ips: ClusterIps,
    /// `spec.ports`; a port that makes no sense is left out and reported.
    pub ports: Vec<ServicePort>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready_addresses: bool,
    /// Label `service.kubernetes.io/service-proxy-name`: the Service belongs to another proxy.
    pub proxy_name: Option<Arc<str>>,
}

/// `spec.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable on its cluster IPs.
    ClusterIp,
    /// And on a port of every node.
    NodePort,
    /// And through a load balancer.
    LoadBalancer,
    /// A DNS alias; nothing to balance.
    ExternalName,
}

/// Cluster IPs; Kubernetes makes "none, on purpose" and "not assigned yet" differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterIps {
    /// `clusterIP: None`, or the label `service.kubernetes.io/headless`.
    Headless,
    /// Not assigned yet.
    Pending,
    /// One or two addresses, the primary family first.
    Assigned(Vec<IpAddr>),
}

/// One entry of `spec.ports`. The target port does not appear: EndpointSlices carry it resolved,
/// under the same port name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, unique within the Service.
    pub name: PortName,
    /// `protocol`, TCP where absent.
    pub protocol: Protocol,
    /// `port`.
    pub port: NonZeroU16,
    /// `nodePort`, where one is assigned.
    pub node_port: Option<NonZeroU16>,
}
