//! The flows seen lately: those of the table of connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use agent_abi::connection::{
    CONNECTION_FORWARD, ConnectionV3, EPOCH_NEVER, EPOCH_UNJUDGED, TupleV1,
};
use agent_abi::settings::SettingsV2;
use agent_abi::{Address, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};
use model::{Direction, Protocol};

use super::{Flow, Seen};
use crate::desired::policy::Traffic;

/// What connections say; `now` is the clock that they are dated by. Those that are forgotten by now
/// are left out, and those that policy has not been asked about.
pub fn of_connections(
    connections: &[(TupleV1, ConnectionV3)],
    settings: &SettingsV2,
    now: u64,
) -> BTreeMap<Flow, Seen> {
    let mut flows: BTreeMap<Flow, Seen> = BTreeMap::new();
    for (key, value) in connections {
        let idle = Duration::from_nanos(now.saturating_sub(value.last_seen));
        let seconds = match key.protocol {
            IPPROTO_TCP | IPPROTO_SCTP => settings.tcp_seconds,
            _ => settings.udp_seconds,
        };
        let from_pod = value.flags & CONNECTION_FORWARD != 0;
        // What a pod has begun is judged once; this one was refused before that, by a Service
        // without an endpoint.
        let is_refused = from_pod && value.epoch == EPOCH_NEVER;
        let is_judged = value.epoch != EPOCH_UNJUDGED && !is_refused;
        if idle > Duration::from_secs(seconds.into()) || !is_judged {
            continue;
        }
        flows
            .entry(flow(key, value, from_pod))
            .or_default()
            .add(idle);
    }
    flows
}

fn flow(key: &TupleV1, value: &ConnectionV3, from_pod: bool) -> Flow {
    let (direction, port) = if from_pod {
        (Direction::Egress, value.rewrite.destination_port)
    } else {
        (Direction::Ingress, key.source_port)
    };
    let port = u16::from_be_bytes(port);
    Flow {
        pod: ip(&key.source),
        direction,
        peer: ip(&value.rewrite.destination),
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
