//! What objects ask for, before it is known who gets it.
//!
//! Each convention reads its objects and returns [`Claims`]; `resolve` makes listeners of them.
//! Backends are specifications here: their servers change far more often than anything else and are
//! filled in last.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{ObjectKey, PortName, Problem};

use super::plan::{
    Backend, Certificate, Forward, HostTls, HttpRule, Listen, Origin, Unknown, Views,
};
use super::value::{HostMatch, Id};

/// Everything that one convention's objects ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Rules of HTTP hosts.
    pub(crate) http: Vec<HttpClaim>,
    /// TLS of hosts.
    pub(crate) tls: Vec<TlsClaim>,
    /// Hosts passed through by SNI.
    pub(crate) sni: Vec<SniClaim>,
    /// Whole ports.
    pub(crate) tcp: Vec<TcpClaim>,
    /// What the claims forward to.
    pub(crate) backends: BTreeMap<Id, BackendSpec>,
    /// What the claims' TLS uses.
    pub(crate) certificates: BTreeMap<Id, Certificate>,
    /// What operators' templates see.
    pub(crate) views: Views,
    /// What is wrong with the objects.
    pub(crate) problems: Vec<Problem>,
}

/// A rule for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpClaim {
    pub(crate) listen: Listen,
    /// The namespace that has the host if this claim wins it: its claims alone are served there.
    /// Routes of a Gateway share the Gateway's.
    pub(crate) owner: Arc<str>,
    /// Whether the host is served in TLS there: it then needs a [`TlsClaim`] as well.
    pub(crate) is_tls: bool,
    pub(crate) host: HostMatch,
    pub(crate) rule: HttpRule,
    /// What the host answers where no rule takes a request; the oldest claim's counts.
    pub(crate) unknown_path: Unknown,
}

/// A certificate for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsClaim {
    pub(crate) listen: Listen,
    pub(crate) owner: Arc<str>,
    pub(crate) host: HostMatch,
    pub(crate) tls: HostTls,
}

/// A host passed through by SNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SniClaim {
    pub(crate) listen: Listen,
    pub(crate) owner: Arc<str>,
    pub(crate) host: HostMatch,
    pub(crate) forward: Forward,
    pub(crate) origin: Origin,
}

/// A whole port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpClaim {
    pub(crate) listen: Listen,
    pub(crate) forward: Forward,
    pub(crate) origin: Origin,
}

/// A backend without its servers, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendSpec {
    /// `servers` is empty.
    pub(crate) backend: Backend,
    pub(crate) members: Members,
}

/// Who a backend's servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// Endpoints of a Service's port, from its EndpointSlices.
    Endpoints {
        service: ObjectKey,
        /// Its name; `None` is each slice's first.
        port: Option<PortName>,
    },
    /// Nodes, at a port that each of them has.
    Nodes { node_port: NonZeroU16 },
    /// These pods.
    Pods(Vec<PodMember>),
    /// These addresses, which are not of the cluster.
    Addresses(Vec<IpAddr>, NonZeroU16),
}

/// One pod as a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodMember {
    pub(crate) pod: ObjectKey,
    pub(crate) addresses: Arc<[IpAddr]>,
    pub(crate) port: NonZeroU16,
    pub(crate) weight: u16,
    pub(crate) is_draining: bool,
}
