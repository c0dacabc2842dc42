//! The tc programs: everything that arrives as packets.

use agent_abi::connection::ConnectionV1;
use agent_abi::counters::Counter;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::connections::{self, Opened};
use crate::forward::forward;
use crate::maps::{self, Scratch, count};
use crate::packet::Hook;
use crate::reject::reject;
use crate::rewrite::rewrite;
use crate::{kernel, packet, services};

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
    if packet::parse(skb, &mut scratch.packet).is_none() {
        return Ok(TC_ACT_UNSPEC);
    }
    let now = kernel::now();
    if let Some(connection) = connections::find(&scratch.packet, now) {
        connections::note(scratch, connection, now);
        return translate(skb, hook, scratch, connection);
    }
    let packet = &scratch.packet;
    let tuple = &packet.tuple;
    let Some(frontend) =
        services::frontend(tuple.destination, tuple.destination_port, tuple.protocol)
    else {
        connections::make_way(packet, now);
        return Ok(TC_ACT_UNSPEC);
    };
    if packet.fragmented {
        return Err(Counter::DropUnsupported);
    }
    match connections::open(skb, hook, scratch, frontend, now)? {
        Opened::Connection(connection) => translate(skb, hook, scratch, connection),
        Opened::NoEndpoint => reject(skb, hook, scratch),
    }
}

#[inline(never)]
fn translate(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    connection: &ConnectionV1,
) -> Result<i32, Counter> {
    rewrite(skb, &scratch.packet, &connection.rewrite)?;
    count(Counter::PacketsTranslated);
    forward(skb, hook, scratch, connection)
}
