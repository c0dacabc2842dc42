//! A Node, reduced to what the dataplane uses.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Labels, ObjectKey};

/// `v1/Node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name; the namespace is empty.
    pub key: ObjectKey,
    /// `status.addresses`, without host names.
    pub addresses: Vec<NodeAddress>,
    /// `spec.podCIDRs` (or `spec.podCIDR`), or what kube-router's annotations say in its place.
    pub pod_cidrs: Vec<IpNet>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created_unix_seconds: i64,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Condition `Ready` of `status.conditions`: whether it is `True` or there is none. The dataplane
    /// does not ask, and does not read it.
    pub is_ready: bool,
}

/// One entry of `status.addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// `type`.
    pub address_type: NodeAddressType,
    /// `address`.
    pub address: IpAddr,
}

/// `status.addresses[].type`, without the host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeAddressType {
    /// Reachable within the cluster.
    InternalIp,
    /// Reachable from outside.
    ExternalIp,
}
