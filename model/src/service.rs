//! A Service, reduced to what balancing uses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::{ObjectKey, PortName, Protocol, ServiceEdge};

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
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` of those that ask nodes to balance (`ipMode: VIP`, which
    /// is the default; KEP-1860).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: SourceRanges,
    /// `spec.sessionAffinity`.
    pub session_affinity: SessionAffinity,
    /// `spec.internalTrafficPolicy`, for cluster IPs.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`, for every other address.
    pub external_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<NonZeroU16>,
    /// `spec.trafficDistribution`.
    pub distribution: TrafficDistribution,
    /// What annotations ask for.
    pub tuning: Option<Box<Tuning>>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready_addresses: bool,
    /// Label `service.kubernetes.io/service-proxy-name`: the Service belongs to another proxy.
    pub proxy_name: Option<Arc<str>>,
    /// What only edge proxies read, where it is asked for.
    pub edge: Option<Box<ServiceEdge>>,
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

/// `spec.loadBalancerSourceRanges`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceRanges {
    /// Not given: everybody.
    Everybody,
    /// These. A range that makes no sense is left out, so it allows nobody.
    Only(Vec<IpNet>),
}

/// `spec.sessionAffinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionAffinity {
    /// Every connection is chosen for by itself.
    None,
    /// Connections of one client address go to one backend.
    ClientIp {
        /// Until the client has been silent for this long; 3 hours where not given.
        timeout: Duration,
    },
}

/// `spec.internalTrafficPolicy` and `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// To every endpoint.
    Cluster,
    /// To endpoints of the node alone; dropped where it has none.
    Local,
}

/// `spec.trafficDistribution` (KEP-4444, KEP-3015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// Not given: only the slices' hints count.
    Hints,
    /// `PreferSameZone` or its older name `PreferClose`.
    PreferSameZone,
    /// `PreferSameNode`.
    PreferSameNode,
}

/// What annotations of a Service ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// `kube-router.io/service.scheduler` with `…schedflags`, or `fairlead.io/scheduler`.
    pub scheduler: Option<Scheduler>,
    /// Numbers of the flags in `kube-router.io/service.schedflags`, 1 to 3.
    pub scheduler_flags: BTreeSet<u8>,
    /// `kube-router.io/service.dsr` or `fairlead.io/dsr`: replies of external addresses go to the
    /// client directly.
    pub direct_return: bool,
    /// `fairlead.io/weights`.
    pub weights: Vec<(WeightedPeer, u16)>,
}

/// How a backend is chosen for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheduler {
    /// `rr`: in turn.
    RoundRobin,
    /// `lc`: the backend with the fewest connections.
    LeastConnections,
    /// `sh`: by the client's address.
    SourceHash,
    /// `dh`: by the Service's address.
    DestinationHash,
    /// `mh`: Maglev hashing by the client's address.
    Maglev {
        /// `flag-2` (`mh-port`): by its port too.
        with_port: bool,
    },
    /// `random`, which only `fairlead.io/scheduler` can say.
    Random,
}

/// Whose weight an entry of `fairlead.io/weights` sets; the first that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightedPeer {
    /// `ADDRESS`: one endpoint.
    Address(IpAddr),
    /// `node/NAME`: the endpoints of a node.
    Node(Arc<str>),
    /// `zone/NAME`: the endpoints of a zone.
    Zone(Arc<str>),
    /// `*`: every other endpoint.
    Rest,
}
