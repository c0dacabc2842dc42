//! From an event's numbers to names.

use std::net::{IpAddr, Ipv6Addr};

use agent_abi::counters::COUNTERS;
use agent_abi::flow::{
    FLOW_ALLOWED, FLOW_AUDITED, FLOW_REJECTED, FlowV1, HOOK_CONNECT, HOOK_EGRESS, HOOK_FROM_POD,
    HOOK_TO_POD, HOOK_UPLINK, HOOK_XDP,
};
use agent_abi::{Address, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};
use jiff::Timestamp;
use model::ObjectKey;

use super::record::{End, Flow, PolicyOf, ServiceOf, Verdict};
use crate::desired::LbServiceKey;
use crate::desired::policy::Reason;

/// Who has a number or an address at this moment.
pub trait Lookups {
    /// The pod at an address.
    fn pod(&self, address: IpAddr) -> Option<ObjectKey>;
    /// The name of the node at an address.
    fn node(&self, address: IpAddr) -> Option<String>;
    /// A Service by its number.
    fn service(&self, id: u32) -> Option<LbServiceKey>;
    /// What decides by the number of a rule.
    fn rule(&self, rule: u32) -> Option<Reason>;
    /// The pod of a process, by the number of its cgroup.
    fn process(&self, cgroup: u64) -> Option<ObjectKey>;
    /// Name of an interface.
    fn interface(&self, index: u32) -> Option<String>;
}

/// Names what an event is about; `time` is when it was.
pub fn resolve(event: &FlowV1, time: Timestamp, names: &impl Lookups) -> Flow {
    let tuple = &event.tuple;
    let has_ports = matches!(tuple.protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP);
    let end = |address: &Address, port: [u8; 2]| {
        let address = Ipv6Addr::from(*address).to_canonical();
        let pod = names.pod(address);
        End {
            address,
            port: has_ports.then_some(u16::from_be_bytes(port)),
            node: match pod {
                None => names.node(address),
                Some(_) => None,
            },
            pod: pod.map(|pod| pod.to_string()),
        }
    };
    let mut source = end(&tuple.source, tuple.source_port);
    if event.hook == HOOK_CONNECT {
        source.port = None;
        source.pod = names.process(event.cgroup()).map(|pod| pod.to_string());
    }
    let destination = end(&tuple.destination, tuple.destination_port);
    let has_peer = event.hook != HOOK_CONNECT && event.peer != [0; 16];
    let peer = has_peer.then(|| end(&event.peer, event.peer_port));
    let is_shown = |peer: &End| peer.address == source.address || *peer == destination;
    let reason = usize::try_from(event.reason).ok();
    let reason = reason.and_then(|index| COUNTERS.get(index));
    let reason = reason.map_or("unknown", |(_, name)| name);
    let by_policy = ["drop_policy_ingress", "drop_policy_egress"].contains(&reason);
    let direction = (by_policy || event.rule != 0).then_some(match event.begun_by_pod {
        0 => "ingress",
        _ => "egress",
    });
    Flow {
        time: format!("{time:.3}"),
        verdict: match event.verdict {
            FLOW_ALLOWED => Verdict::Allowed,
            FLOW_AUDITED => Verdict::Audited,
            FLOW_REJECTED => Verdict::Rejected,
            _ => Verdict::Dropped,
        },
        reason: reason.strip_prefix("drop_").unwrap_or(reason).to_owned(),
        direction: direction.map(str::to_owned),
        hook: match event.hook {
            HOOK_UPLINK => "uplink",
            HOOK_FROM_POD => "from-pod",
            HOOK_EGRESS => "egress",
            HOOK_XDP => "xdp",
            HOOK_TO_POD => "to-pod",
            HOOK_CONNECT => "connect",
            _ => "unknown",
        }
        .to_owned(),
        interface: match event.hook {
            HOOK_CONNECT => String::new(),
            _ => names
                .interface(event.interface)
                .unwrap_or_else(|| event.interface.to_string()),
        },
        protocol: match tuple.protocol {
            IPPROTO_TCP => "tcp".to_owned(),
            IPPROTO_UDP => "udp".to_owned(),
            IPPROTO_SCTP => "sctp".to_owned(),
            IPPROTO_ICMP => "icmp".to_owned(),
            IPPROTO_ICMPV6 => "icmpv6".to_owned(),
            255 => "unreadable".to_owned(),
            other => other.to_string(),
        },
        peer: peer.filter(|peer| !is_shown(peer)),
        source,
        destination,
        service: names.service(event.service).map(|key| ServiceOf {
            name: key.owner.key().to_string(),
            kind: key.owner.kind().to_string(),
            port: key.port.to_string(),
        }),
        policy: names.rule(event.rule).and_then(policy),
        suppressed: event.suppressed,
    }
}

fn policy(reason: Reason) -> Option<PolicyOf> {
    let (policy, rule) = match &reason {
        Reason::Rule(policy, index) => (policy, Some(*index)),
        Reason::Isolated(policy) => (policy, None),
        Reason::NoPolicy => return None,
    };
    Some(PolicyOf {
        kind: policy.kind().to_string(),
        name: policy.key.to_string(),
        rule,
    })
}
