//! An EndpointSlice, reduced to what balancing uses.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{IpFamily, ObjectKey, PortName, Protocol};

/// `discovery.k8s.io/v1/EndpointSlice`. A Service may have several; an endpoint may be in two of
/// them while the controller moves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Label `kubernetes.io/service-name`, in the slice's namespace; `None` where absent.
    pub service: Option<ObjectKey>,
    /// `addressType`; slices of type FQDN are left out of the model.
    pub family: IpFamily,
    /// `ports`.
    pub ports: Vec<EndpointPort>,
    /// `endpoints`, one entry for each address.
    pub endpoints: Vec<Endpoint>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`, in microseconds since 1970:
    /// when a pod or the Service changed.
    pub triggered_unix_micros: Option<i64>,
}

/// One entry of `ports`: applies to every endpoint of the slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// `name`, equal to the name of the Service port.
    pub name: PortName,
    /// `protocol`, TCP where absent.
    pub protocol: Protocol,
    /// `port`; `None` means "all ports" to Kubernetes and is of no use to a proxy.
    pub port: Option<NonZeroU16>,
}

/// One address of one entry of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, of the slice's family.
    pub address: IpAddr,
    /// `conditions`, with the API's defaults for absent values.
    pub conditions: EndpointConditions,
    /// Where it runs; endpoints of a slice that run alike share it.
    pub placement: Arc<Placement>,
}

/// Where an endpoint runs, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// `nodeName`.
    pub node_name: Option<Arc<str>>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
    /// `hints` (KEP-2433, KEP-3015); `None` where they are absent or name nobody.
    pub hints: Option<Hints>,
}

/// For whom an endpoint is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hints {
    /// `forZones[].name`.
    pub zones: Vec<Arc<str>>,
    /// `forNodes[].name`.
    pub nodes: Vec<Arc<str>>,
}

/// Conditions of an endpoint (KEP-1672, KEP-1669). The API's defaults: absent `ready` means
/// ready, absent `serving` means the same as `ready`, absent `terminating` means not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointConditions {
    /// May get new connections.
    pub ready: bool,
    /// Answers, even while it terminates.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
}
