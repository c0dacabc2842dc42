//! The tc programs: everything that arrives as packets.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{CONNECTION_FORWARD, CONNECTION_TUNNEL, ConnectionV2};
use agent_abi::counters::Counter;
use agent_abi::service::FRONTEND_LOOPBACK;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::connections::{self, Opened};
use crate::forward::forward;
use crate::maps::{self, Scratch, count};
use crate::packet::{Hook, Parsed};
use crate::reject::reject;
use crate::rewrite::rewrite;
use crate::{fragment, icmp, kernel, packet, services, tunnel};

/// tc ingress of an uplink: new connections from other machines, replies of remote backends.
#[classifier]
pub(crate) fn uplink_ingress(context: TcContext) -> i32 {
    verdict(context.skb.skb, Hook::UplinkIngress)
}

/// tc ingress of a pod's host-side interface: new connections of the pod, replies of local
/// backends.
#[classifier]
pub(crate) fn workload_ingress(context: TcContext) -> i32 {
    verdict(context.skb.skb, Hook::WorkloadIngress)
}

/// tc egress of either: new connections of the node itself, replies of backends in the host's
/// network.
#[classifier]
pub(crate) fn egress(context: TcContext) -> i32 {
    verdict(context.skb.skb, Hook::Egress)
}

/// Turns the outcome into a verdict, and counts a drop by its reason. `TC_ACT_UNSPEC` lets the
/// next program, or the stack, have the packet.
#[inline(always)]
fn verdict(skb: *mut __sk_buff, hook: Hook) -> i32 {
    match process(skb, hook) {
        Ok(verdict) => verdict,
        Err(reason) => {
            count(reason);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn process(skb: *mut __sk_buff, hook: Hook) -> Result<i32, Counter> {
    let scratch = maps::scratch().ok_or(Counter::DropFailed)?;
    let mut parsed = packet::parse(skb, &mut scratch.packet);
    let tunnelled =
        parsed == Parsed::Tunnel && hook == Hook::UplinkIngress && tunnel::is_ours(&scratch.packet);
    if tunnelled {
        tunnel::leave(skb, scratch.packet.family)?;
        parsed = packet::parse(skb, &mut scratch.packet);
    }
    match parsed {
        Parsed::Transport => {}
        Parsed::LaterFragment => {
            if fragment::recall(scratch).is_none() {
                return Ok(TC_ACT_UNSPEC);
            }
            count(Counter::FragmentsTranslated);
        }
        Parsed::Error => return icmp::translate(skb, hook, scratch),
        Parsed::Tunnel | Parsed::Other => return Ok(TC_ACT_UNSPEC),
    }
    let now = kernel::now();
    if let Some(connection) = connections::find(scratch, now) {
        connections::note(scratch, connection, now);
        return translate(skb, hook, scratch, connection);
    }
    let packet = &scratch.packet;
    let tuple = &packet.tuple;
    let Some(frontend) =
        services::frontend(tuple.destination, tuple.destination_port, tuple.protocol)
            .filter(|frontend| hook == Hook::Egress || frontend.flags & FRONTEND_LOOPBACK == 0)
    else {
        connections::make_way(packet, now);
        return Ok(TC_ACT_UNSPEC);
    };
    let begins = tuple.protocol == IPPROTO_TCP && packet.opens();
    if maps::is_the_kernels(begins) {
        return Ok(TC_ACT_UNSPEC);
    }
    match connections::open(skb, hook, scratch, frontend, tunnelled, now)? {
        Opened::Connection(connection) => translate(skb, hook, scratch, connection),
        Opened::NoEndpoint => reject(skb, hook, scratch),
    }
}

#[inline(never)]
fn translate(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    connection: &ConnectionV2,
) -> Result<i32, Counter> {
    if scratch.packet.fragmented && !scratch.packet.later {
        fragment::remember(scratch);
    }
    account(skb, connection);
    if connection.flags & CONNECTION_TUNNEL != 0 {
        return tunnel::enter(skb, hook, scratch, connection);
    }
    rewrite(skb, &scratch.packet, &connection.rewrite)?;
    count(Counter::PacketsTranslated);
    scratch.forward = *connection;
    forward(skb, hook, scratch)
}

/// Counts a packet for its Service.
#[inline(always)]
fn account(skb: *mut __sk_buff, connection: &ConnectionV2) {
    let Some(traffic) = maps::traffic(connection.service) else {
        return;
    };
    let packets = u64::from(kernel::segments(skb));
    let bytes = u64::from(kernel::length(skb).saturating_sub(packet::LINK_HEADER));
    if connection.flags & CONNECTION_FORWARD != 0 {
        traffic.packets_in += packets;
        traffic.bytes_in += bytes;
    } else {
        traffic.packets_out += packets;
        traffic.bytes_out += bytes;
    }
}
