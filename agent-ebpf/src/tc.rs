//! The tc programs: everything that arrives as packets.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{CONNECTION_FORWARD, CONNECTION_TUNNEL, ConnectionV3};
use agent_abi::counters::Counter;
use agent_abi::service::{FRONTEND_LOOPBACK, FrontendV2};
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::connections::{self, Opened};
use crate::forward::forward;
use crate::fragment::{self, Later};
use crate::global::global;
use crate::kernel::Mark;
use crate::maps::{self, Scratch, count};
use crate::packet::{Hook, Parsed, SYN, same_address};
use crate::police::{self, Sent, police, police_error, police_other};
use crate::reject::reject;
use crate::rewrite::rewrite;
use crate::{
    egress, fast_path, flow, global, icmp, kernel, mss, overlay, packet, route, services, tunnel,
};

/// tc ingress of an uplink: new connections from other machines, replies of remote backends.
#[classifier]
pub(crate) fn uplink_ingress(context: TcContext) -> i32 {
    verdict::<WITHOUT_POLICY>(context.skb.skb, Hook::UplinkIngress)
}

/// tc ingress of a pod's host-side interface: new connections of the pod, replies of local
/// backends.
#[classifier]
pub(crate) fn workload_ingress(context: TcContext) -> i32 {
    verdict::<WITHOUT_POLICY>(context.skb.skb, Hook::WorkloadIngress)
}

/// The same with network policy: what the pod sends is judged by the pod's egress rules.
#[classifier]
pub(crate) fn policed_ingress(context: TcContext) -> i32 {
    verdict::<WITH_POLICY>(context.skb.skb, Hook::WorkloadIngress)
}

/// tc egress of either: new connections of the node itself, replies of backends in the host's
/// network.
#[classifier]
pub(crate) fn egress(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    if kernel::is_marked(skb, Mark::Passed) {
        return TC_ACT_UNSPEC;
    }
    verdict::<WITHOUT_POLICY>(skb, Hook::Egress)
}

/// The same at a pod's host-side interface with network policy: what goes to the pod is judged by
/// the pod's ingress rules.
#[classifier]
pub(crate) fn policed_egress(context: TcContext) -> i32 {
    verdict::<WITH_POLICY>(context.skb.skb, Hook::Egress)
}

/// tc egress of the overlay's device where its packets have no Ethernet header: neither Services nor
/// masquerade see what leaves there.
#[classifier]
pub(crate) fn tunnel_egress(context: TcContext) -> i32 {
    mss::leave_bare(context.skb.skb);
    TC_ACT_UNSPEC
}

/// Bytes, with the link-layer header.
const SHORTEST_WAY: u32 = 1280 + packet::LINK_HEADER;

/// Whether network policy judges what passes.
const WITH_POLICY: bool = true;
const WITHOUT_POLICY: bool = false;

#[inline(always)]
fn verdict<const POLICED: bool>(skb: *mut __sk_buff, hook: Hook) -> i32 {
    let verdict = global::verdict(process::<POLICED>(skb, hook));
    if verdict == TC_ACT_SHOT {
        flow::tell_drop(flow::place(hook, POLICED));
    }
    #[cfg(feature = "debug")]
    crate::debug::say_verdict(skb, flow::place(hook, POLICED), verdict);
    verdict
}

/// Whether policy lets a packet pass that is in a state of [`police`]'s.
#[inline(always)]
fn may_pass<const POLICED: bool>(skb: *mut __sk_buff, hook: Hook, state: u32) -> bool {
    !POLICED || police(skb, hook as u32, state) == TC_ACT_UNSPEC
}

/// Whether the packet is of a connection that policy has let pass, and all is as it was then. `known` is
/// what policy knows of a packet from a pod.
#[inline(always)]
fn is_settled<const POLICED: bool>(
    known: Sent,
    scratch: &mut Scratch,
    hook: Hook,
    state: u32,
) -> bool {
    POLICED
        && if hook == Hook::WorkloadIngress {
            known
                == if state == police::TRANSLATED {
                    Sent::Translated
                } else {
                    Sent::AsItIs
                }
        } else {
            police::is_received_as_judged(scratch, state)
        }
}

/// The verdict on a packet that goes on as it is.
#[inline(always)]
fn go_on<const POLICED: bool>(skb: *mut __sk_buff, hook: Hook, state: u32) -> i32 {
    if POLICED {
        police(skb, hook as u32, state)
    } else {
        TC_ACT_UNSPEC
    }
}

const FOLLOWS: i32 = Later::Known as i32;
const IS_HELD: i32 = Later::Held as i32;
/// Answers of [`begin`], of which none is a verdict.
const OPENED: i32 = 100;
const REFUSED: i32 = 101;
const KNOWN: i32 = 102;

#[inline(always)]
fn process<const POLICED: bool>(skb: *mut __sk_buff, hook: Hook) -> Result<i32, Counter> {
    let scratch = maps::scratch().ok_or(Counter::DropFailed)?;
    // Read where it is wanted: kept in the frame, it would be too deep for the stack.
    scratch.read_clock();
    scratch.begun = 0;
    scratch.interface = kernel::interface(skb);
    let mut parsed = packet::parse(skb);
    let mut tunnelled = false;
    if hook == Hook::UplinkIngress && parsed == Parsed::Tunnel as i32 {
        match tunnel::tunnel_leave(skb) {
            tunnel::NOT_OURS => {}
            tunnel::LEFT => {
                tunnelled = true;
                parsed = packet::parse(skb);
            }
            verdict => return Ok(verdict),
        }
    }
    // The node's own stack sends the first one first.
    let in_order = hook == Hook::Egress;
    if in_order || kernel::is_marked(skb, Mark::Passed) {
        kernel::mark(skb, Mark::Nothing);
    }
    if !in_order && scratch.packet.is_first_fragment() && fragment::fragment_begin(skb) == 0 {
        return Err(Counter::DropFailed);
    }
    if parsed == Parsed::LaterFragment as i32 {
        match fragment::fragment_follow(skb, u32::from(!in_order)) {
            FOLLOWS => {}
            IS_HELD => return Ok(TC_ACT_SHOT),
            _ => return Ok(go_on::<POLICED>(skb, hook, police::WITHOUT_PORTS)),
        }
    } else if parsed == Parsed::Error as i32 {
        if POLICED {
            let mut answer = police_error(skb, hook as u32);
            if answer == police::UNDECIDED {
                answer = police(skb, hook as u32, police::WITHOUT_PORTS);
            }
            if answer != TC_ACT_UNSPEC {
                return Ok(TC_ACT_SHOT);
            }
        }
        let answer = icmp::translate_error(skb, hook as u32, u32::from(tunnelled));
        return Ok(tunnel::or_enter(skb, hook, answer));
    } else if parsed != Parsed::Transport as i32 {
        return Ok(if POLICED {
            police_other(skb, hook as u32)
        } else {
            egress::other(skb, hook)
        });
    }
    if !POLICED && overlay::carries(&scratch.packet, hook) {
        return Ok(TC_ACT_UNSPEC);
    }
    if POLICED && in_order && scratch.packet.is_first_fragment() {
        fragment::remember(scratch);
    }
    if !POLICED && in_order {
        mss::leave(skb, scratch);
    }
    let begins = scratch.packet.tuple.protocol == IPPROTO_TCP && scratch.packet.opens();
    let mut known = Sent::Unknown;
    let mut found = None;
    let is_judged_first = POLICED && hook == Hook::WorkloadIngress && !begins;
    if is_judged_first {
        found = connections::entry(&scratch.packet.tuple);
        known = police::sent(skb, scratch, &mut found);
        if known == Sent::AsItIs && fast_path::is_plain(scratch) {
            return Ok(pass_on::<POLICED>(skb, scratch, hook));
        }
    }
    let mut answer = KNOWN;
    let mut begins_past_services = false;
    if begins && !maps::is_the_kernels(begins) {
        if let Some(frontend) = frontend_of(scratch, hook) {
            scratch.frontend = *frontend;
            answer = begin(skb, hook as u32, u32::from(tunnelled), 1);
        } else {
            begins_past_services = true;
        }
    }
    if answer == KNOWN {
        let now = scratch.now;
        if !is_judged_first {
            found = connections::entry(&scratch.packet.tuple);
        }
        if let Some(connection) = connections::follow(scratch, found, now) {
            connections::note(scratch, connection, now);
            scratch.forward = *connection;
            let is_settled = is_settled::<POLICED>(known, scratch, hook, police::TRANSLATED);
            if !is_settled && !may_pass::<POLICED>(skb, hook, police::TRANSLATED) {
                return Ok(TC_ACT_SHOT);
            }
            return Ok(tunnel::or_enter(skb, hook, translate(skb, hook as u32)));
        }
        // Of TCP that began past every Service, which is most, no frontend need be asked for.
        let is_past_services = begins_past_services
            || POLICED
                && hook == Hook::WorkloadIngress
                && scratch.packet.tuple.protocol == IPPROTO_TCP
                && known == Sent::AsItIs;
        let frontend = if is_past_services {
            None
        } else {
            frontend_of(scratch, hook)
        };
        let Some(frontend) = frontend else {
            if in_order || !kernel::is_marked(skb, Mark::Translated) {
                connections::make_way(scratch, in_order);
            }
            if !POLICED && egress::concerns(hook, &scratch.packet) {
                return Ok(match egress::egress_open(skb, hook as u32) {
                    egress::OPENED => translate(skb, hook as u32),
                    verdict => verdict,
                });
            }
            let is_settled = is_settled::<POLICED>(known, scratch, hook, police::AS_IT_IS);
            if !is_settled && !may_pass::<POLICED>(skb, hook, police::AS_IT_IS) {
                return Ok(TC_ACT_SHOT);
            }
            if in_order {
                return Ok(TC_ACT_UNSPEC);
            }
            return Ok(pass_on::<POLICED>(skb, scratch, hook));
        };
        if maps::is_the_kernels(begins) {
            return Ok(go_on::<POLICED>(skb, hook, police::AS_IT_IS));
        }
        scratch.frontend = *frontend;
        answer = begin(skb, hook as u32, u32::from(tunnelled), 0);
    }
    match answer {
        OPENED if !may_pass::<POLICED>(skb, hook, police::TRANSLATED) => {
            account_begun(&scratch.forward, scratch.begun);
            Ok(TC_ACT_SHOT)
        }
        OPENED => {
            if !POLICED && scratch.begun != 0 {
                flow::tell_opened(hook as u32);
            }
            Ok(tunnel::or_enter(skb, hook, translate(skb, hook as u32)))
        }
        REFUSED if !may_pass::<POLICED>(skb, hook, police::REFUSED) => Ok(TC_ACT_SHOT),
        REFUSED => {
            flow::note(Counter::PacketsRejected);
            flow::tell_drop(flow::place(hook, POLICED));
            Ok(reject(skb, hook as u32))
        }
        verdict => Ok(verdict),
    }
}

/// Sends on what goes on as it came in. Of a segment that opens nothing, there is nothing else to ask where it
/// leaves: masquerade begins with a SYN, as a Service's connection does, and a tunnel has nothing to say to it.
#[inline(always)]
fn pass_on<const POLICED: bool>(skb: *mut __sk_buff, scratch: &mut Scratch, hook: Hook) -> i32 {
    let packet = &scratch.packet;
    if packet.tuple.protocol == IPPROTO_TCP
        && packet.flags & SYN == 0
        && !kernel::is_marked(skb, Mark::Translated)
    {
        kernel::mark(skb, Mark::Passed);
    }
    fast_path::or_stack::<POLICED>(skb, scratch, hook)
}

/// The frontend that a packet is for.
#[inline(always)]
fn frontend_of(scratch: &Scratch, hook: Hook) -> Option<&'static FrontendV2> {
    let tuple = &scratch.packet.tuple;
    services::frontend(tuple.destination, tuple.destination_port, tuple.protocol)
        .filter(|frontend| hook == Hook::Egress || frontend.flags & FRONTEND_LOOPBACK == 0)
}

global! {
    /// Opens a connection for the packet, to a backend of `scratch.frontend`; the answer is
    /// [`OPENED`] with the connection in `scratch.forward`, [`KNOWN`] where `may_be_known` and there is
    /// one, [`REFUSED`], or the verdict. What comes next is the caller's to call: here it would be too
    /// deep for the stack.
    fn begin(skb: *mut __sk_buff, hook: u32, tunnelled: u32, may_be_known: u32) -> i32 {
        let Some(scratch) = maps::scratch() else {
            return TC_ACT_SHOT;
        };
        match connections::open(skb, hook.into(), scratch, tunnelled != 0, may_be_known != 0) {
            Ok(Opened::Connection) => OPENED,
            Ok(Opened::Known) => KNOWN,
            Ok(Opened::NoEndpoint) => REFUSED,
            Err(reason) => global::verdict(Err(reason)),
        }
    }

    /// Sends the packet on as `scratch.forward` says; the answer is the verdict, or [`tunnel::ENTER`].
    fn translate(skb: *mut __sk_buff, hook: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        global::verdict(scratch.and_then(|scratch| send_on(skb, hook.into(), scratch)))
    }
}

#[inline(always)]
fn send_on(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Result<i32, Counter> {
    if scratch.packet.is_first_fragment() {
        fragment::remember(scratch);
    }
    if scratch.packet.later {
        count(Counter::FragmentsTranslated);
    }
    if may_be_too_long(skb, hook, scratch) && is_too_long(skb, scratch)? {
        return Ok(tunnel::TOO_LONG);
    }
    account(skb, &scratch.forward, scratch.begun);
    if scratch.forward.flags & CONNECTION_TUNNEL != 0 {
        return Ok(tunnel::ENTER);
    }
    mss::answer(skb, scratch, &scratch.forward);
    rewrite(skb, scratch)?;
    let is_leaving = hook == Hook::Egress;
    kernel::mark(
        skb,
        if is_leaving {
            Mark::Nothing
        } else {
            Mark::Translated
        },
    );
    count(Counter::PacketsTranslated);
    forward(skb, hook, scratch)
}

/// Whether the stack could not tell the sender that the packet does not fit its way: it is to leave under an
/// address of this node, and the stack takes none of those for a sender's. No way is shorter than IPv6's
/// shortest, and an error answers no later fragment (RFC 1122 §3.2.2).
#[inline(always)]
fn may_be_too_long(skb: *mut __sk_buff, hook: Hook, scratch: &Scratch) -> bool {
    let Scratch {
        packet, forward, ..
    } = scratch;
    hook == Hook::UplinkIngress
        && kernel::length(skb) > SHORTEST_WAY
        && kernel::segment_size(skb) == 0
        && !packet.later
        && !same_address(&packet.tuple.source, &forward.rewrite.source)
}

#[inline(always)]
fn is_too_long(skb: *mut __sk_buff, scratch: &mut Scratch) -> Result<bool, Counter> {
    let route = route::look_up(skb, scratch.packet.family, scratch).ok_or(Counter::DropFailed)?;
    let (is_too_narrow, longest) = (route.is_too_narrow(), route.mtu);
    scratch.longest = longest;
    Ok(is_too_narrow && longest != 0)
}

/// Counts the connections that a packet has begun that goes no further.
#[inline(always)]
fn account_begun(connection: &ConnectionV3, begun: u64) {
    if let Some(traffic) = maps::traffic(connection.service) {
        traffic.connections += begun;
    }
}

/// Counts a packet for its Service, and the connections that it begins.
#[inline(always)]
pub(crate) fn account(skb: *mut __sk_buff, connection: &ConnectionV3, begun: u64) {
    let Some(traffic) = maps::traffic(connection.service) else {
        return;
    };
    let packets = u64::from(kernel::segments(skb));
    let bytes = u64::from(kernel::length(skb).saturating_sub(packet::LINK_HEADER));
    if connection.flags & CONNECTION_FORWARD != 0 {
        traffic.connections += begun;
        traffic.packets_in += packets;
        traffic.bytes_in += bytes;
    } else {
        traffic.packets_out += packets;
        traffic.bytes_out += bytes;
    }
}
