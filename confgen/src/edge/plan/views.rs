//! What operators' templates see beside the plan: the models of the originals.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use model::ObjectKey;

use super::{Listen, Origin};
use crate::edge::value::{HeaderName, HostMatch, Hostname, Id};

/// What operators' templates see beside the plan: the models of the originals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// pyconfd's `domains`, by domain.
    pub domains: BTreeMap<Hostname, Domain>,
    /// kube2lb's services, in order.
    pub services: Vec<ServiceInformation>,
    /// kube2lb's nodes: names and addresses, in order.
    pub nodes: Vec<(Arc<str>, IpAddr)>,
}

/// pyconfd's view of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `proto`: `http`, `https`, or a word that a template looks for.
    pub protocol: HeaderName,
    /// The backend that has its servers, in [`EdgePlan::backends`].
    pub backend: Id,
    /// Who asked for it.
    pub origin: Origin,
}

/// kube2lb's view of one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInformation {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Where the edge listens for it.
    pub listen: Listen,
    /// `http`, `tcp`, or a word that a template looks for.
    pub mode: HeaderName,
    /// `tcp` or `udp`.
    pub protocol: model::Protocol,
    /// `nodePort`.
    pub node_port: Option<NonZeroU16>,
    /// Server names made of the configured templates, then the annotation's.
    pub names: Vec<HostMatch>,
    /// Those of the annotation alone.
    pub external: Vec<HostMatch>,
    /// `kube2lb/backend-timeout`.
    pub timeout: Option<Duration>,
    /// The backend that has its servers, in [`EdgePlan::backends`].
    pub backend: Id,
}
