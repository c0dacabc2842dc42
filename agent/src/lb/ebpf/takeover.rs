//! Connections that come from another proxy; `handback` is the other direction.
//!
//! kube-proxy, and kube-router with `vs/conntrack`, translate by the kernel's connection tracking.
//! When the agent starts beside them for the first time, [`begin`] lets packets of unknown
//! connections pass to the kernel, the programs are attached, and [`finish`] makes the kernel's
//! connections the agent's: same backend, same addresses and ports. New connections are the
//! agent's from the first moment.
//!
//! What the node's own processes have begun stays with the kernel: it translates before the
//! programs see the packet, and goes on doing so for as long as the connection lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use agent_abi::Address;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_FORWARD, CONNECTION_PAD, CONNECTIONS_MAP, ConnectionV3,
    EPOCH_UNJUDGED, TupleV1,
};
use agent_abi::egress::{
    EGRESS_KEEP, EGRESS_MAP, EGRESS_POD, EGRESS_SERVICE, EgressAddressV1, has_backends,
};
use agent_abi::service::{BackendV2, FRONTENDS_MAP, FrontendKeyV1, FrontendV2};
use agent_abi::settings::{TAKEOVER_MAP, TAKING_OVER};

use super::entries::address;
use super::layout::{self, ConvertError};
use super::maps::Maps;
use crate::sys::clock;
use crate::sys::conntrack::{self, Flow, Tuple};
use crate::sys::map::{List, Table, TableError, Trie};

/// Why connections stay where they are.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The kernel's connections.
    #[error(transparent)]
    Conntrack(#[from] conntrack::Error),
    /// The agent's.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// While some packets of a connection pass the kernel and others do not, it sees gaps in TCP's
/// sequence numbers; without this it would no longer know the connection.
pub const LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";

/// Bits of a whole key of the map of egress.
const WHOLE_ADDRESS: u32 = 128;

/// Lets packets of unknown connections pass to the kernel from now on.
///
/// # Errors
/// Where the map is not there.
pub fn begin(pins: &Path) -> Result<(), TableError> {
    List::<u32>::open(pins, TAKEOVER_MAP)?.set(0, TAKING_OVER)
}

/// Takes the kernel's connections to Services over, and those of pods that left the cluster under the
/// node's address, and ends what [`begin`] began. The answer is
/// their number. `own` are the node's addresses.
///
/// # Errors
/// Where they cannot be read or written; what was begun is ended in any case.
pub fn finish(pins: &Path, own: &[IpAddr]) -> Result<usize, TakeoverError> {
    let taken = take_over(pins, own);
    List::<u32>::open(pins, TAKEOVER_MAP)?.set(0, 0)?;
    taken
}

fn take_over(pins: &Path, own: &[IpAddr]) -> Result<usize, TakeoverError> {
    let flows = match conntrack::dump() {
        // A kernel without connection tracking has nothing to hand over.
        Err(conntrack::Error::Unsupported(_)) => Vec::new(),
        flows => flows?,
    };
    let translated =
        |flow: &&Flow| flow.is_translated() && !own.contains(&flow.original.source.ip());
    let flows: Vec<&Flow> = flows.iter().filter(translated).collect();
    if flows.is_empty() {
        return Ok(0);
    }
    let targets = Targets::read(pins)?;
    let egress = Trie::<EgressAddressV1>::open(pins, EGRESS_MAP)?;
    let now = clock::monotonic_nanoseconds();
    let mut connections: Table<TupleV1, ConnectionV3> = Table::open_lru(pins, CONNECTIONS_MAP)?;
    let mut taken = 0;
    for flow in flows {
        let pair = if flow.has_dnat() {
            targets.pair(flow, now)
        } else {
            leaves(&egress, flow)?.then(|| pair_of(flow, 0, EGRESS_SERVICE, now))
        };
        let Some(pair) = pair else {
            continue;
        };
        // The reply's first: until its other half is there, the kernel goes on with the forward
        // direction.
        for (key, value) in pair.into_iter().rev() {
            connections.put(key, value)?;
        }
        taken += 1;
    }
    Ok(taken)
}

/// Whether a connection whose source alone was translated is a pod's that has left the cluster.
fn leaves(egress: &Trie<EgressAddressV1>, flow: &Flow) -> Result<bool, TableError> {
    let bits = |at: IpAddr| {
        let key = EgressAddressV1 {
            address: address(at),
        };
        Ok::<u32, TableError>(egress.get(WHOLE_ADDRESS, key)?.unwrap_or_default())
    };
    let (source, destination) = (flow.original.source.ip(), flow.original.destination.ip());
    Ok(bits(source)? & EGRESS_POD != 0 && bits(destination)? & EGRESS_KEEP == 0)
}

/// The entries of a connection of the kernel's.
fn pair_of(flow: &Flow, backend: u32, service: u32, now: u64) -> [(TupleV1, ConnectionV3); 2] {
    let (original, reply) = (tuple(&flow.original), tuple(&flow.reply));
    let forward = ConnectionV3 {
        rewrite: reply.reversed(),
        backend,
        flags: CONNECTION_FORWARD | CONNECTION_ANSWERED,
        host_interface: 0,
        host_mac: [0; 6],
        _pad: [0; CONNECTION_PAD],
        service,
        last_seen: now,
        epoch: EPOCH_UNJUDGED,
        interface: 0,
    };
    let back = ConnectionV3 {
        rewrite: original.reversed(),
        flags: CONNECTION_ANSWERED,
        ..forward
    };
    [(original, forward), (reply, back)]
}

/// Copies the connections of other builds. The answer is their number.
///
/// # Errors
/// Where they cannot be read or written.
pub fn convert(pins: &Path) -> Result<usize, ConvertError> {
    layout::convert(pins, &Targets::read(pins)?)
}

/// What the service tables lead to.
#[derive(Debug, Default)]
pub(super) struct Targets {
    frontends: BTreeMap<FrontendKeyV1, u32>,
    backends: BTreeMap<(u32, Address, [u8; 2]), u32>,
}

impl Targets {
    fn read(pins: &Path) -> Result<Self, TableError> {
        let maps = Maps::open(pins)?;
        Ok(Self::new(
            maps.frontends.entries()?,
            maps.backends.entries()?,
        ))
    }

    fn new(frontends: Vec<(FrontendKeyV1, FrontendV2)>, backends: Vec<(u32, BackendV2)>) -> Self {
        Self {
            frontends: frontends
                .into_iter()
                .map(|(key, value)| (key, value.service))
                .collect(),
            backends: backends
                .into_iter()
                .map(|(id, value)| ((value.service, value.address, value.port), id))
                .collect(),
        }
    }

    /// An entry of another build, whose ids mean nothing here.
    pub(super) fn convert(&self, key: &TupleV1, value: ConnectionV3) -> ConnectionV3 {
        // It has no ids.
        if !has_backends(value.service) {
            return value;
        }
        // The tuple clients use, and the one the backend knows.
        let (client, backend) = if value.flags & CONNECTION_FORWARD != 0 {
            (*key, value.rewrite)
        } else {
            (value.rewrite.reversed(), key.reversed())
        };
        let service = self.service(&client);
        let target = (
            service.unwrap_or(0),
            backend.destination,
            backend.destination_port,
        );
        ConnectionV3 {
            service: service.unwrap_or(0),
            // Backends' ids begin at 1: a flow without one finds another on its next packet.
            backend: self.backends.get(&target).copied().unwrap_or(0),
            ..value
        }
    }

    fn service(&self, client: &TupleV1) -> Option<u32> {
        let frontend = FrontendKeyV1 {
            address: client.destination,
            port: client.destination_port,
            protocol: client.protocol,
            _pad: 0,
        };
        self.frontends.get(&frontend).copied()
    }

    /// The entries of a connection to a Service; `None` for any other, and for one to an endpoint
    /// that the Service does not have.
    fn pair(&self, flow: &Flow, now: u64) -> Option<[(TupleV1, ConnectionV3); 2]> {
        let (original, reply) = (tuple(&flow.original), tuple(&flow.reply));
        if !flow.has_dnat() {
            return None;
        }
        let service = self.service(&original)?;
        let backend = *self
            .backends
            .get(&(service, reply.source, reply.source_port))?;
        Some(pair_of(flow, backend, service, now))
    }
}

/// As the tables have it.
pub fn tuple(tuple: &Tuple) -> TupleV1 {
    TupleV1 {
        source: address(tuple.source.ip()),
        destination: address(tuple.destination.ip()),
        source_port: tuple.source.port().to_be_bytes(),
        destination_port: tuple.destination.port().to_be_bytes(),
        protocol: tuple.protocol,
        _pad: [0; 3],
    }
}

pub(super) fn tuple_of(tuple: &TupleV1) -> Tuple {
    let socket = |address: Address, port| {
        let address = Ipv6Addr::from(address).to_canonical();
        SocketAddr::new(address, u16::from_be_bytes(port))
    };
    Tuple {
        source: socket(tuple.source, tuple.source_port),
        destination: socket(tuple.destination, tuple.destination_port),
        protocol: tuple.protocol,
    }
}

/// Whether no agent with these tables has been here.
pub fn is_first_start(pins: &Path) -> bool {
    !pins.join(FRONTENDS_MAP).exists()
}

/// Whether the kernel's connections are to be taken over: on the first start, and where that was
/// interrupted. Where another build has been, it has done so.
///
/// # Errors
/// Where a map cannot be read.
pub fn is_due(pins: &Path) -> Result<bool, ConvertError> {
    if pins.join(TAKEOVER_MAP).exists() && !is_first_start(pins) {
        return Ok(List::<u32>::open(pins, TAKEOVER_MAP)?.get(0)? != 0);
    }
    Ok(!layout::is_due(pins)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use agent_abi::service::BackendV2;

    use super::*;

    fn tuple_from(source: &str, destination: &str) -> Tuple {
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Tuple::TCP,
        }
    }

    fn targets() -> Targets {
        let frontend = tuple(&tuple_from("0.0.0.0:0", "10.96.0.10:80"));
        let key = FrontendKeyV1 {
            address: frontend.destination,
            port: frontend.destination_port,
            protocol: 6,
            _pad: 0,
        };
        let backend = BackendV2 {
            address: address("10.244.2.7".parse().unwrap()),
            port: 8080_u16.to_be_bytes(),
            flags: 0,
            service: 3,
            node: [0; 16],
        };
        Targets::new(
            vec![(
                key,
                FrontendV2 {
                    service: 3,
                    flags: 0,
                },
            )],
            vec![(9, backend)],
        )
    }

    fn kernels(original: (&str, &str), reply: (&str, &str)) -> Flow {
        Flow::established(
            tuple_from(original.0, original.1),
            tuple_from(reply.0, reply.1),
            Duration::from_secs(60),
        )
    }

    #[test]
    fn a_connection_keeps_its_backend_addresses_and_ports_both_ways() {
        let flow = kernels(
            ("10.244.1.5:4000", "10.96.0.10:80"),
            ("10.244.2.7:8080", "172.31.0.1:61000"),
        );
        let pair = targets().pair(&flow, 7).unwrap();
        assert_eq!(pair[0].0, tuple(&flow.original));
        assert_eq!(pair[0].1.rewrite, tuple(&flow.reply.reversed()));
        assert_eq!(pair[1].0, tuple(&flow.reply));
        assert_eq!(pair[1].1.rewrite, tuple(&flow.original.reversed()));
        assert_eq!((pair[0].1.backend, pair[0].1.service), (9, 3));
    }

    #[test]
    fn a_pods_connection_out_of_the_cluster_keeps_the_kernels_port_and_needs_no_ids() {
        let flow = kernels(
            ("10.244.1.5:4000", "198.51.100.9:443"),
            ("198.51.100.9:443", "172.31.0.1:61000"),
        );
        let pair = pair_of(&flow, 0, EGRESS_SERVICE, 7);
        assert_eq!(pair[0].0, tuple(&flow.original));
        assert_eq!(pair[0].1.rewrite, tuple(&flow.reply.reversed()));
        assert_eq!(pair[1].1.rewrite, tuple(&flow.original.reversed()));
        for (key, value) in pair {
            assert_eq!(Targets::default().convert(&key, value), value);
        }
    }

    #[test]
    fn entries_of_another_build_get_the_ids_of_this_one_in_both_directions() {
        let flow = kernels(
            ("10.244.1.5:4000", "10.96.0.10:80"),
            ("10.244.2.7:8080", "172.31.0.1:61000"),
        );
        for (key, value) in targets().pair(&flow, 7).unwrap() {
            let old = ConnectionV3 {
                backend: 77,
                service: 0,
                ..value
            };
            assert_eq!(targets().convert(&key, old), value);
            // Its Service is gone: it goes on as it is, and finds another backend.
            let ids = Targets::default().convert(&key, old);
            assert_eq!(
                (ids.rewrite, ids.backend, ids.service),
                (value.rewrite, 0, 0)
            );
        }
    }

    #[test]
    fn what_leads_to_no_service_or_to_a_strange_endpoint_stays_with_the_kernel() {
        for (original, reply) in [
            (
                ("10.244.1.5:4000", "10.96.0.11:80"),
                ("10.244.2.7:8080", "10.244.1.5:4000"),
            ),
            (
                ("10.244.1.5:4000", "10.96.0.10:80"),
                ("10.244.2.8:8080", "10.244.1.5:4000"),
            ),
            (
                ("10.244.1.5:4000", "10.96.0.10:80"),
                ("10.96.0.10:80", "10.244.1.5:4000"),
            ),
        ] {
            assert_eq!(
                targets().pair(&kernels(original, reply), 7),
                None,
                "{original:?}"
            );
        }
    }
}
