//! What conventions forward to.

use model::{Cluster, ObjectKey, PortName, Protocol};

use crate::edge::claim::{BackendSpec, Members};
use crate::edge::plan::{Backend, BackendProtocol, Balance, Origin, Timeouts};
use crate::edge::value::Id;

/// A backend with nothing special about it.
pub(super) fn backend(
    id: Id,
    protocol: BackendProtocol,
    balance: Balance,
    origin: Origin,
    members: Members,
) -> BackendSpec {
    BackendSpec {
        backend: Backend {
            id,
            protocol,
            balance,
            servers: Vec::new(),
            health: None,
            timeouts: Timeouts::default(),
            sticky: None,
            sends_proxy_protocol: false,
            origin,
        },
        members,
    }
}

/// The port of a Service that is meant where none is named: one named as the protocol, else the
/// first. `None` where there is no Service: it may have slices all the same.
pub(super) fn port_for(cluster: &Cluster, service: &ObjectKey, protocol: &str) -> Option<PortName> {
    let wanted = PortName::new(Some(protocol));
    let ports = &cluster.service(service)?.ports;
    let ports = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let mut names = ports.map(|port| &port.name);
    let first = names.next()?;
    let named = (*first != wanted).then(|| names.find(|name| **name == wanted));
    Some(named.flatten().unwrap_or(first).clone())
}
