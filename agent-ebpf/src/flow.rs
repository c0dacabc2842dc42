//! Telling of drops, and on request of connections that pass (`agent_abi::flow`).
//!
//! Nothing here runs for a packet of an established connection. What a drop is about is in the
//! scratch space when the program ends, and [`note`] has said why it is one.

use agent_abi::counters::Counter;
use agent_abi::flow::{
    FLOW_ALLOWED, FLOW_AUDITED, FLOW_DROPPED, FLOW_REJECTED, HOOK_CONNECT, HOOK_FROM_POD,
    HOOK_TO_POD, HOOK_XDP, LIMIT_BURST, LIMIT_INTERVAL, LimitKeyV1, LimitV1, peer_of_cgroup,
};
use agent_abi::policy::RuleKeyV1;
use agent_abi::{Address, IPPROTO_TCP, is_v4, mapped_v4};
use aya_ebpf::bindings::__sk_buff;

use crate::global::global;
use crate::maps::{self, FLOW_LIMITS_V1, FLOWS_V1, Scratch, count};
use crate::packet::{Hook, UNREADABLE};
use crate::{connections, kernel};

const INGRESS: u32 = Counter::DropPolicyIngress as u32;
const EGRESS: u32 = Counter::DropPolicyEgress as u32;
const AUDITED: u32 = Counter::PolicyAudited as u32;
const OPENED: u32 = Counter::PacketConnections as u32;
const NO_BACKEND: u32 = Counter::DropNoBackend as u32;
const NO_LOCAL: u32 = Counter::DropNoLocalEndpoint as u32;
const SOURCE_RANGE: u32 = Counter::DropSourceRange as u32;
const NO_PORT: u32 = Counter::DropNoPort as u32;
const TABLE_FULL: u32 = Counter::DropTableFull as u32;
const NO_ROUTE: u32 = Counter::DropNoRoute as u32;
const TOO_BIG: u32 = Counter::DropTooBig as u32;
const REJECTED: u32 = Counter::PacketsRejected as u32;

/// A bucket that is full later than this from now has no room.
const TOLERANCE: u64 = (LIMIT_BURST - 1) * LIMIT_INTERVAL;

/// The place of `edge`.
pub(crate) const IN_DRIVER: u32 = HOOK_XDP as u32;

/// Where a packet is seen, as events say it.
#[inline(always)]
pub(crate) fn place(hook: Hook, policed: bool) -> u32 {
    match hook {
        Hook::Egress if policed => u32::from(HOOK_TO_POD),
        hook => hook as u32,
    }
}

/// Notes why the packet is about to be dropped, or to be answered with an error.
#[inline(always)]
pub(crate) fn note(reason: Counter) {
    if let Some(scratch) = maps::scratch() {
        scratch.drop = reason as u32;
    }
}

/// Whether a drop was noted that nobody has told of.
#[inline(always)]
pub(crate) fn is_noted() -> bool {
    maps::scratch().is_some_and(|scratch| scratch.drop != 0)
}

global! {
    /// Index of the interface the packet is at. Where a program asks several times, LLVM computes the
    /// field's address once, and the verifier takes no address in the context but its beginning.
    fn interface_of(skb: *mut __sk_buff) -> i32 {
        kernel::interface(skb) as i32
    }

    /// Tells of the drop that was noted, if one was. The answer says nothing.
    fn tell_drop(place: u32) -> i32 {
        if let Some(scratch) = maps::scratch() {
            let reason = scratch.drop;
            scratch.drop = 0;
            let stopped = scratch.stopped;
            scratch.stopped = 0;
            let place = if stopped == 0 { place } else { u32::from(HOOK_TO_POD) };
            dropped(scratch, place, reason);
        }
        0
    }

    /// Counts a connection that policy lets pass, and tells of it where somebody asks, or where it is
    /// audited. The answer says nothing.
    fn tell_pass(place: u32, audited: u32) -> i32 {
        if let Some(scratch) = maps::scratch() {
            passed(scratch, place, audited != 0);
        }
        0
    }

    /// Tells of a connection through a Service, where somebody asks. The answer says nothing.
    fn tell_opened(place: u32) -> i32 {
        if let Some(scratch) = maps::scratch()
            && scratch.now < maps::flows_asked_until()
        {
            let service = scratch.forward.service;
            let event = Event { place, service, ..Event::opened(About::Backend) };
            tell(scratch, &event);
        }
        0
    }
}

/// What an event is about, beside the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// Nothing.
    Packet,
    /// The backend that it goes to.
    Backend,
    /// What policy has judged.
    Policy,
}

/// What an event says that is not in the scratch space.
struct Event {
    place: u32,
    about: About,
    verdict: u8,
    reason: u32,
    service: u32,
    suppressed: u32,
}

impl Event {
    #[inline(always)]
    fn opened(about: About) -> Self {
        Self {
            place: 0,
            about,
            verdict: FLOW_ALLOWED,
            reason: OPENED,
            service: 0,
            suppressed: 0,
        }
    }
}

#[inline(always)]
fn dropped(scratch: &mut Scratch, place: u32, reason: u32) {
    let (about, service) = match reason {
        // A copy of a fragment that is held goes.
        0 => return,
        INGRESS | EGRESS => (About::Policy, scratch.decided.service),
        NO_BACKEND | NO_LOCAL | SOURCE_RANGE | NO_PORT | TABLE_FULL | REJECTED => {
            (About::Packet, scratch.frontend.service)
        }
        NO_ROUTE | TOO_BIG => (About::Packet, scratch.forward.service),
        _ => (About::Packet, 0),
    };
    if about == About::Policy
        && let Some(rule) = maps::rule(&rule_key(scratch))
    {
        rule.dropped += 1;
    }
    let verdict = match reason {
        REJECTED | TOO_BIG => FLOW_REJECTED,
        _ => FLOW_DROPPED,
    };
    let event = Event {
        place,
        about,
        verdict,
        reason,
        service,
        suppressed: 0,
    };
    tell_limited(scratch, event);
}

#[inline(always)]
fn passed(scratch: &mut Scratch, place: u32, audited: bool) {
    if let Some(rule) = maps::rule(&rule_key(scratch)) {
        if audited {
            rule.audited += 1;
        } else {
            rule.allowed += 1;
        }
    }
    let event = Event {
        place,
        service: scratch.decided.service,
        ..Event::opened(About::Policy)
    };
    if audited {
        let event = Event {
            verdict: FLOW_AUDITED,
            reason: AUDITED,
            ..event
        };
        tell_limited(scratch, event);
    } else if is_asked(scratch) {
        tell(scratch, &event);
    }
}

/// Whether connections that pass are told of. Nobody asks, mostly, and then no clock is read.
#[inline(always)]
fn is_asked(scratch: &Scratch) -> bool {
    let until = maps::flows_asked_until();
    scratch.now < until && kernel::now() < until
}

/// Tells of a process that is refused as it connects to a Service. It has no address yet; its cgroup says
/// who it is. Nothing of the scratch space is used, since packets interrupt a process.
#[inline(always)]
pub(crate) fn tell_refused(destination: &Address, port: [u8; 2], service: u32) {
    let now = kernel::now();
    let process = peer_of_cgroup(kernel::cgroup());
    // Containers and Services are few, so each pair has a bucket at once.
    let key = LimitKeyV1 {
        address: process,
        reason: Counter::SocketRejected as u32,
        interface: service,
    };
    let known = FLOW_LIMITS_V1.get_ptr_mut(&key).map(kernel::limit);
    let suppressed = if let Some(bucket) = known {
        let Some(suppressed) = take(bucket, now) else {
            return;
        };
        suppressed
    } else {
        let fresh = LimitV1 {
            full_at: now + LIMIT_INTERVAL,
            suppressed: 0,
        };
        // Where it cannot be kept, the next event seems to be the first again.
        let _kept = FLOW_LIMITS_V1.insert(&key, &fresh, 0);
        0
    };
    let Some(mut room) = FLOWS_V1.reserve(0) else {
        count(Counter::FlowsLost);
        return;
    };
    let flow = kernel::empty_flow(&mut room);
    flow.time = now;
    flow.reason = Counter::SocketRejected as u32;
    flow.suppressed = suppressed;
    flow.service = service;
    flow.peer = process;
    flow.hook = HOOK_CONNECT;
    flow.verdict = FLOW_REJECTED;
    flow.tuple.protocol = IPPROTO_TCP;
    if is_v4(destination) {
        flow.tuple.source = mapped_v4([0; 4]);
    }
    flow.tuple.destination = *destination;
    flow.tuple.destination_port = port;
    room.submit(0);
}

#[inline(always)]
fn rule_key(scratch: &Scratch) -> RuleKeyV1 {
    RuleKeyV1 {
        rule: scratch.decided.rule,
        begun_by_pod: u32::from(scratch.decided.begun_by_pod),
    }
}

/// Tells of an event while its bucket has room.
#[inline(always)]
fn tell_limited(scratch: &mut Scratch, mut event: Event) {
    let Scratch {
        packet,
        limit,
        interface,
        ..
    } = scratch;
    let address = if event.place == u32::from(HOOK_FROM_POD) {
        &packet.tuple.source
    } else {
        &packet.tuple.destination
    };
    limit.reason = event.reason;
    limit.interface = *interface;
    limit.address = *address;
    let now = kernel::now();
    let known = FLOW_LIMITS_V1.get_ptr_mut(&*limit).map(kernel::limit);
    if let Some(bucket) = known {
        let Some(suppressed) = take(bucket, now) else {
            return;
        };
        event.suppressed = suppressed;
    } else {
        let fresh = LimitV1 {
            full_at: now + LIMIT_INTERVAL,
            suppressed: 0,
        };
        // A sender may claim a new address with each packet, so new buckets come from a bucket.
        limit.address = [0; 16];
        let of_new = FLOW_LIMITS_V1.get_ptr_mut(&*limit).map(kernel::limit);
        if let Some(bucket) = of_new {
            let Some(suppressed) = take(bucket, now) else {
                return;
            };
            event.suppressed = suppressed;
        } else {
            // Where it cannot be kept, the next event seems to be the first again.
            let _kept = FLOW_LIMITS_V1.insert(&*limit, &fresh, 0);
        }
        limit.address = *address;
        let _kept = FLOW_LIMITS_V1.insert(&*limit, &fresh, 0);
    }
    tell(scratch, &event);
}

/// Takes an event's room from a bucket; the answer is what was not told since the last one.
#[inline(always)]
fn take(bucket: &mut LimitV1, now: u64) -> Option<u32> {
    let full_at = bucket.full_at.max(now);
    if full_at - now > TOLERANCE {
        bucket.suppressed += 1;
        return None;
    }
    bucket.full_at = full_at + LIMIT_INTERVAL;
    let suppressed = bucket.suppressed;
    bucket.suppressed = 0;
    Some(suppressed.min(u64::from(u32::MAX)) as u32)
}

#[inline(always)]
fn tell(scratch: &Scratch, event: &Event) {
    let Some(mut room) = FLOWS_V1.reserve(0) else {
        count(Counter::FlowsLost);
        return;
    };
    let flow = kernel::empty_flow(&mut room);
    flow.time = kernel::now();
    flow.interface = scratch.interface;
    flow.reason = event.reason;
    flow.suppressed = event.suppressed;
    flow.service = event.service;
    flow.hook = event.place as u8;
    flow.verdict = event.verdict;
    flow.tuple.protocol = scratch.packet.tuple.protocol;
    // Of what cannot be read, the scratch space has the addresses of an earlier packet.
    if scratch.packet.tuple.protocol != UNREADABLE {
        if event.about == About::Policy {
            flow.rule = scratch.decided.rule;
            flow.begun_by_pod = u8::from(scratch.decided.begun_by_pod);
            flow.peer = scratch.policy.peer;
            flow.peer_port = scratch.policy.peer_port;
            if event.place == u32::from(HOOK_FROM_POD) {
                flow.tuple = scratch.policy_key;
            } else {
                connections::reverse(&scratch.policy_key, &mut flow.tuple);
            }
        } else {
            flow.tuple = scratch.packet.tuple;
        }
        if event.about == About::Backend {
            flow.peer = scratch.forward.rewrite.destination;
            flow.peer_port = scratch.forward.rewrite.destination_port;
        }
    }
    room.submit(0);
}
