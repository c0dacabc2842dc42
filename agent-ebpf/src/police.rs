//! Network policy at a pod's host-side interface: which packets pass.
//!
//! A connection is judged when it begins, by who is really at its ends, whatever translation
//! happened; its packets and replies then pass by one look-up in the table of connections, which is that
//! of their translation. The key is the five-tuple on the pod's own wire, so it is known before a packet is
//! translated and after.
//! A connection is judged again when the tables have changed or its backend has, at the next packet
//! of the side that began it; what is forbidden then is cut.
//!
//! What is no IP passes, since no router forwards it; but not a tag, behind which IP may be.

mod known;
mod other;
mod settled;

use agent_abi::connection::{
    CONNECTION_CUT, CONNECTION_DIRECT, CONNECTION_FORWARD, CONNECTION_PEER, CONNECTION_PLAIN,
    CONNECTION_TUNNEL, EPOCH_NEVER, EPOCH_UNJUDGED, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::policy::NO_RULE;
use agent_abi::{Address, IPPROTO_TCP};
use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};

use self::known::{State, cut, is_alive, is_same_peer, keep, let_through};
use self::other::{judge_error, judge_other};
pub(crate) use self::settled::{Sent, is_received_as_judged, remember, sent};
use crate::connections;
use crate::flow;
use crate::global::{global, verdict};
use crate::kernel;
use crate::maps::{self, Decided, Scratch, count};
use crate::packet::{Hook, same_address};
use crate::policy::{Decision, decide_as_before, traffic};
use crate::source_check::source_may_come;

const SECOND: u64 = 1_000_000_000;

/// What is known of a packet that is asked about, as a number for [`police`].
pub(crate) const AS_IT_IS: u32 = 0;
/// It leaves as `scratch.forward` says.
pub(crate) const TRANSLATED: u32 = 1;
/// It is about to be refused, and who sent it is told so.
pub(crate) const REFUSED: u32 = 2;
/// A later fragment without its first one: its ports are not known, and nothing is to follow it.
pub(crate) const WITHOUT_PORTS: u32 = 3;
/// It goes as it is by the fast path to `scratch.fast_out`.
pub(crate) const DIRECT: u32 = 4;
/// Answer of [`police_error`], which is no verdict.
pub(crate) const UNDECIDED: i32 = 107;

global! {
    /// Whether policy lets the packet in the scratch space pass: the answer is `TC_ACT_UNSPEC`, or
    /// the verdict of a drop.
    fn police(skb: *mut __sk_buff, hook: u32, state: u32) -> i32 {
        let hook = Hook::from(hook);
        verdict(maps::scratch().ok_or(Counter::DropFailed).and_then(|scratch| {
            let packet = &scratch.packet;
            let begins = state == WITHOUT_PORTS
                || (packet.tuple.protocol == IPPROTO_TCP && packet.opens());
            judge(skb, scratch, hook == Hook::WorkloadIngress, state, begins)
        }))
    }

    /// The same for a packet that has no ports.
    fn police_other(skb: *mut __sk_buff, hook: u32) -> i32 {
        let from_pod = Hook::from(hook) == Hook::WorkloadIngress;
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| judge_other(skb, scratch, from_pod)))
    }

    /// The same for an ICMP error: it passes with the connection that it is about. Where that is not
    /// known, the answer is [`UNDECIDED`]: asking [`police`] from here would be too deep for the stack.
    fn police_error(skb: *mut __sk_buff, hook: u32) -> i32 {
        let from_pod = Hook::from(hook) == Hook::WorkloadIngress;
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| judge_error(skb, scratch, from_pod)))
    }
}

/// `begins` says that the packet can be no answer, and is to be judged in any case.
#[inline(always)]
fn judge(
    skb: *mut __sk_buff,
    scratch: &mut Scratch,
    from_pod: bool,
    state: u32,
    begins: bool,
) -> Result<i32, Counter> {
    let now = scratch.read_clock();
    let Scratch {
        packet,
        forward,
        reply: room,
        policy_key: key,
        policy: entry,
        decided,
        policy_flags,
        fast_out,
        sender_epoch,
        ..
    } = scratch;
    *policy_flags = 0;
    if from_pod {
        *key = packet.tuple;
    } else if state == TRANSLATED {
        connections::reverse(&forward.rewrite, key);
    } else {
        connections::reverse(&packet.tuple, key);
    }
    let epoch = maps::policy_epoch();
    entry.epoch = epoch;
    entry.peer = key.destination;
    entry.peer_port = key.destination_port;
    if from_pod && state == TRANSLATED {
        entry.peer = forward.rewrite.destination;
        entry.peer_port = forward.rewrite.destination_port;
    }
    // Of what begins here, what was known does not count.
    let known = if begins && (from_pod || state != AS_IT_IS) {
        None
    } else {
        connections::entry(key)
    };
    let opening = matches!(&known, Some((_, true)));
    let known = known.map(|(known, _)| known);
    // The fast path knows that the pod's address is behind the interface that it leads to.
    entry.interface = if state == DIRECT { *fast_out } else { 0 };
    if from_pod {
        entry.interface = kernel::interface(skb);
        // What a connection's packets come by is looked up once.
        if !matches!(&known, Some(known) if known.interface == entry.interface)
            && source_may_come(skb) == 0
        {
            *decided = Decided::default();
            return Err(Counter::DropSpoofed);
        }
    }
    if state == REFUSED {
        entry.epoch = EPOCH_NEVER;
        entry.flags = 0;
        let_through(key, entry, &State::AsItIs, room, from_pod, now);
        return Ok(TC_ACT_UNSPEC);
    }
    // On its way here by the fast path it was judged, and had to wait for the pod's link-layer address.
    let waited = matches!(&known, Some(known) if state == AS_IT_IS
        && !from_pod
        && known.flags & (CONNECTION_DIRECT | CONNECTION_CUT) == CONNECTION_DIRECT
        && now < known.last_seen.wrapping_add(SECOND));
    if waited && matches!(&known, Some(known) if known.epoch == epoch) {
        return Ok(TC_ACT_UNSPEC);
    }
    let mut begun_by_pod = from_pod;
    let mut is_known = false;
    // The tables may have changed while it waited; the connection goes by the fast path all the same.
    entry.flags = if state == DIRECT || waited {
        CONNECTION_DIRECT
    } else {
        0
    };
    if let Some(known) = known.filter(|_| !begins)
        && is_alive(key, known, now)
    {
        is_known = known.epoch != EPOCH_UNJUDGED;
        entry.flags = known.flags & CONNECTION_DIRECT;
        let is_answer = (known.flags & CONNECTION_FORWARD != 0) != from_pod;
        let is_settled = if is_answer {
            known.epoch == epoch || known.epoch == EPOCH_NEVER
        } else {
            known.epoch == epoch && (!from_pod || is_same_peer(known, entry))
        } && is_known;
        // What was cut is asked about again: a report of the drop names the rule.
        let is_cut = known.flags & CONNECTION_CUT != 0;
        if is_settled && !is_cut {
            if known.interface == 0 {
                known.interface = entry.interface;
            }
            // What it need not ask for is to be found anew.
            known.flags &= !(CONNECTION_PLAIN | CONNECTION_PEER);
            *policy_flags = known.flags;
            if opening && !connections::is_translated(known) {
                connections::proceed(key, known, packet, is_answer);
            }
            return Ok(TC_ACT_UNSPEC);
        }
        if is_answer {
            // It is judged as what it answers was.
            begun_by_pod = !from_pod;
            entry.peer = known.rewrite.destination;
            entry.peer_port = known.rewrite.destination_port;
        }
    }
    decided.rule = NO_RULE;
    decided.service = if state == TRANSLATED {
        forward.service
    } else {
        0
    };
    decided.begun_by_pod = begun_by_pod;
    let is_answer = begun_by_pod != from_pod;
    if !from_pod && !is_answer {
        let is_itself = !find_real_peer(key, &mut entry.peer, &mut decided.service);
        // The sender's policy lets it pass as well: so does it the answers.
        if is_itself && begins && state == DIRECT && *sender_epoch == epoch {
            entry.flags |= CONNECTION_PLAIN | CONNECTION_PEER;
        }
    }
    // A pod reaches itself, by a Service's address too.
    if same_address(&entry.peer, &key.source) {
        return Ok(TC_ACT_UNSPEC);
    }
    let port = if begun_by_pod {
        entry.peer_port
    } else {
        key.source_port
    };
    let asked = traffic(key, port);
    let (decision, rule) = decide_as_before(begun_by_pod, &key.source, &entry.peer, asked, epoch);
    decided.rule = rule;
    #[cfg(feature = "debug")]
    crate::debug::say_decided(decision as u32);
    match decision {
        // Of a pod without rules too: those it gets later are not for what it has begun before.
        Decision::Allow => {}
        Decision::Audit => count(Counter::PolicyAudited),
        Decision::Deny if !begins && keep(key, entry, begun_by_pod, now) => {
            return Ok(TC_ACT_UNSPEC);
        }
        Decision::Deny => {
            cut(key, entry, begun_by_pod);
            return Err(reason(begun_by_pod));
        }
    }
    if state != WITHOUT_PORTS {
        let state = match (state, from_pod) {
            (TRANSLATED, true) => State::Leaves(forward),
            (TRANSLATED, false) => State::Comes,
            _ => State::AsItIs,
        };
        let_through(key, entry, &state, room, begun_by_pod, now);
        *policy_flags = entry.flags | if begun_by_pod { CONNECTION_FORWARD } else { 0 };
        // What is judged again was told of before.
        if !is_known {
            let place = flow::place(
                if from_pod {
                    Hook::WorkloadIngress
                } else {
                    Hook::Egress
                },
                true,
            );
            let audited = u32::from(decision == Decision::Audit);
            flow::tell_pass(place, audited);
        }
    }
    Ok(TC_ACT_UNSPEC)
}

/// Finds who is behind the address that the pod sees, and by which Service it came; whether the packet was
/// translated on this node.
#[inline(always)]
fn find_real_peer(key: &TupleV1, peer: &mut Address, service: &mut u32) -> bool {
    let Some(connection) = connections::translated(key) else {
        return false;
    };
    if connection.flags & CONNECTION_TUNNEL == 0 {
        *peer = connection.rewrite.destination;
        *service = connection.service;
    }
    true
}

#[inline(always)]
fn reason(from_pod: bool) -> Counter {
    if from_pod {
        Counter::DropPolicyEgress
    } else {
        Counter::DropPolicyIngress
    }
}
