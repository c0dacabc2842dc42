//! The flows seen lately: those of the table of connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use agent_abi::connection::TupleV1;
use agent_abi::policy::{EPOCH_NEVER, POLICY_CONNECTION_FROM_POD, PolicyConnectionV1};
use agent_abi::settings::SettingsV2;
use agent_abi::{Address, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};
use model::{Direction, Protocol};

use super::{Flow, Seen};
use crate::desired::policy::Traffic;

/// What connections say; `now` is the clock that they are dated by. Those that are forgotten by now
/// are left out.
pub fn of_connections(
    connections: &[(TupleV1, PolicyConnectionV1)],
    settings: &SettingsV2,
    now: u64,
) -> BTreeMap<Flow, Seen> {
    let mut flows: BTreeMap<Flow, Seen> = BTreeMap::new();
    for (key, value) in connections {
        let idle = Duration::from_nanos(now.saturating_sub(value.last_seen));
        let seconds = match key.protocol {
            IPPROTO_TCP => settings.tcp_seconds,
            _ => settings.udp_seconds,
        };
        let from_pod = value.flags & POLICY_CONNECTION_FROM_POD != 0;
        // What a pod has begun is judged once; this one was refused before that, by a Service
        // without an endpoint.
        let is_refused = from_pod && value.epoch == EPOCH_NEVER;
        if idle > Duration::from_secs(seconds.into()) || is_refused {
            continue;
        }
        flows
            .entry(flow(key, value, from_pod))
            .or_default()
            .add(idle);
    }
    flows
}

fn flow(key: &TupleV1, value: &PolicyConnectionV1, from_pod: bool) -> Flow {
    let (direction, port) = if from_pod {
        (Direction::Egress, value.peer_port)
    } else {
        (Direction::Ingress, key.source_port)
    };
    let port = u16::from_be_bytes(port);
    Flow {
        pod: ip(&key.source),
        direction,
        peer: ip(&value.peer),
        traffic: match key.protocol {
            IPPROTO_TCP => Traffic::Port(Protocol::Tcp, port),
            IPPROTO_UDP => Traffic::Port(Protocol::Udp, port),
            IPPROTO_SCTP => Traffic::Port(Protocol::Sctp, port),
            IPPROTO_ICMP | IPPROTO_ICMPV6 => Traffic::Icmp,
            _ => Traffic::Other,
        },
    }
}

fn ip(address: &Address) -> IpAddr {
    Ipv6Addr::from(*address).to_canonical()
}
