//! Network policy at a pod's host-side interface: which packets pass.
//!
//! A connection is judged when it begins, by who is really at its ends, whatever translation
//! happened; its packets and replies then pass by one look-up in `POLICY_CONNECTIONS_V1`. The key is
//! the five-tuple on the pod's own wire, so it is known before a packet is translated and after.
//! A connection is judged again when the tables have changed or its backend has, at the next packet
//! of the side that began it; what is forbidden then is cut.
//!
//! What is no IP passes: no router forwards it.

use agent_abi::connection::{CONNECTION_TUNNEL, TupleV1};
use agent_abi::counters::Counter;
use agent_abi::policy::{
    EPOCH_BEFORE, EPOCH_NEVER, NO_RULE, POLICY_CONNECTION_CUT, POLICY_CONNECTION_DIRECT,
    POLICY_CONNECTION_FROM_POD, POLICY_CONNECTION_PEER, POLICY_CONNECTION_PLAIN,
    PolicyConnectionV1,
};
use agent_abi::settings::SETTING_KEEP_CONNECTIONS;
use agent_abi::{Address, IPPROTO_ICMPV6, IPPROTO_TCP};
use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};

use crate::connections;
use crate::flow;
use crate::fragment;
use crate::global::{global, verdict};
use crate::kernel;
use crate::maps::{self, Decided, POLICY_CONNECTIONS_V1, Scratch, count};
use crate::packet::{Family, Hook, Packet, UNREADABLE, is_icmp, parse_at, same_address};
use crate::policy::{Decision, decide_as_before, traffic};
use crate::source_check::source_may_come;

const SECOND: u64 = 1_000_000_000;
const ICMP_HEADER: u32 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;

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

/// The connection of a packet from the pod, where it was judged, and all is as it was then: for most
/// packets it is, see [`is_sent_as_judged`]. Asks what [`judge`] asks, in the caller's own frame; once a
/// second a packet goes to [`judge`] all the same, which notes that it has come.
#[inline(always)]
pub(crate) fn sent(
    skb: *mut __sk_buff,
    scratch: &mut Scratch,
) -> Option<&'static PolicyConnectionV1> {
    scratch.policy_flags = 0;
    let found = POLICY_CONNECTIONS_V1.get_ptr_mut(&scratch.packet.tuple);
    let known = found.map(kernel::policy)?;
    if !is_current(known, scratch.now) || known.interface != kernel::interface(skb) {
        return None;
    }
    scratch.policy_flags = u32::from(known.flags);
    Some(known)
}

/// Whether a packet of a connection that [`sent`] has found goes to whom it was judged for.
#[inline(always)]
pub(crate) fn is_sent_as_judged(
    known: Option<&PolicyConnectionV1>,
    scratch: &Scratch,
    state: u32,
) -> bool {
    let Some(known) = known else {
        return false;
    };
    // One reference to either would be to bytes that nobody knows to be aligned.
    known.flags & POLICY_CONNECTION_FROM_POD == 0
        || if state == TRANSLATED {
            goes_to(known, &scratch.forward.rewrite)
        } else {
            goes_to(known, &scratch.packet.tuple)
        }
}

/// Whether the packet is for the pod, and of a connection that was judged, and all is as it was then.
#[inline(always)]
pub(crate) fn is_received_as_judged(scratch: &mut Scratch, state: u32) -> bool {
    let Scratch {
        packet,
        forward,
        policy_key,
        policy_flags,
        now,
        ..
    } = scratch;
    if packet.tuple.protocol == IPPROTO_TCP && packet.opens() {
        return false;
    }
    if state == TRANSLATED {
        connections::reverse(&forward.rewrite, policy_key);
    } else {
        connections::reverse(&packet.tuple, policy_key);
    }
    let found = POLICY_CONNECTIONS_V1.get_ptr_mut(&*policy_key);
    let Some(known) = found.map(kernel::policy) else {
        return false;
    };
    *policy_flags = u32::from(known.flags);
    is_current(known, *now)
}

#[inline(always)]
fn is_current(known: &PolicyConnectionV1, now: u64) -> bool {
    known.epoch == maps::policy_epoch()
        && known.flags & POLICY_CONNECTION_CUT == 0
        && now < known.last_seen.wrapping_add(SECOND)
}

/// Notes on the connection of a packet from a pod what else its packets need not ask for, `flags` of
/// `POLICY_CONNECTION_*`, unless the tables have changed since `epoch`.
#[inline(always)]
pub(crate) fn remember(scratch: &Scratch, flags: u8, epoch: u32) {
    let found = POLICY_CONNECTIONS_V1.get_ptr_mut(&scratch.packet.tuple);
    if let Some(known) = found.map(kernel::policy)
        && known.epoch == epoch
        && known.flags & POLICY_CONNECTION_CUT == 0
    {
        known.flags |= flags;
    }
}

#[inline(always)]
fn goes_to(known: &PolicyConnectionV1, tuple: &TupleV1) -> bool {
    same_address(&known.peer, &tuple.destination) && known.peer_port == tuple.destination_port
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
        POLICY_CONNECTIONS_V1.get_ptr_mut(&*key).map(kernel::policy)
    };
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
        let_through(key, entry, from_pod, now);
        return Ok(TC_ACT_UNSPEC);
    }
    // On its way here by the fast path it was judged, and had to wait for the pod's link-layer address.
    let waited = matches!(&known, Some(known) if state == AS_IT_IS
        && !from_pod
        && known.flags & (POLICY_CONNECTION_DIRECT | POLICY_CONNECTION_CUT)
            == POLICY_CONNECTION_DIRECT
        && now < known.last_seen.wrapping_add(SECOND));
    if waited && matches!(&known, Some(known) if known.epoch == epoch) {
        return Ok(TC_ACT_UNSPEC);
    }
    let mut begun_by_pod = from_pod;
    let mut is_known = false;
    // The tables may have changed while it waited; the connection goes by the fast path all the same.
    entry.flags = if state == DIRECT || waited {
        POLICY_CONNECTION_DIRECT
    } else {
        0
    };
    if let Some(known) = known.filter(|_| !begins)
        && is_alive(key, known, now)
    {
        is_known = true;
        entry.flags = known.flags & POLICY_CONNECTION_DIRECT;
        let is_answer = (known.flags & POLICY_CONNECTION_FROM_POD != 0) != from_pod;
        let is_settled = if is_answer {
            known.epoch == epoch || known.epoch == EPOCH_NEVER
        } else {
            known.epoch == epoch && (!from_pod || is_same_peer(known, entry))
        };
        // What was cut is asked about again: a report of the drop names the rule.
        let is_cut = known.flags & POLICY_CONNECTION_CUT != 0;
        if is_settled && !is_cut {
            if known.interface == 0 {
                known.interface = entry.interface;
            }
            // What it need not ask for is to be found anew.
            known.flags &= !(POLICY_CONNECTION_PLAIN | POLICY_CONNECTION_PEER);
            *policy_flags = u32::from(known.flags);
            return Ok(TC_ACT_UNSPEC);
        }
        if is_answer {
            // It is judged as what it answers was.
            begun_by_pod = !from_pod;
            entry.peer = known.peer;
            entry.peer_port = known.peer_port;
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
        match real_peer(key, &mut entry.peer, &mut decided.service) {
            // The sender's policy lets it pass as well: so does it the answers.
            Peer::Itself if begins && state == DIRECT && *sender_epoch == epoch => {
                entry.flags |= POLICY_CONNECTION_PLAIN | POLICY_CONNECTION_PEER;
            }
            Peer::Itself | Peer::Translated => {}
            // Another client may come by the same port of the node, and look alike.
            Peer::Behind => entry.epoch = EPOCH_NEVER,
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
        let_through(key, entry, begun_by_pod, now);
        *policy_flags = u32::from(entry.flags);
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

/// Whether a connection is still followed; notes that a packet of it has come.
#[inline(always)]
fn is_alive(key: &TupleV1, known: &mut PolicyConnectionV1, now: u64) -> bool {
    let idle = now.saturating_sub(known.last_seen);
    if idle < SECOND {
        return true;
    }
    let seconds = maps::settings().map_or(0, |settings| match key.protocol {
        IPPROTO_TCP => settings.tcp_seconds,
        _ => settings.udp_seconds,
    });
    if idle > u64::from(seconds) * SECOND {
        return false;
    }
    known.last_seen = now;
    true
}

#[inline(always)]
fn is_same_peer(a: &PolicyConnectionV1, b: &PolicyConnectionV1) -> bool {
    same_address(&a.peer, &b.peer) && a.peer_port == b.peer_port
}

/// Who sends to a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// Who has the address that the pod sees.
    Itself,
    /// The same, by a Service.
    Translated,
    /// Another one.
    Behind,
}

/// Finds who is behind the address that the pod sees, where the packet was translated on this node,
/// and by which Service it came.
#[inline(always)]
fn real_peer(key: &TupleV1, peer: &mut Address, service: &mut u32) -> Peer {
    let found = connections::lookup(key).or_else(|| connections::lookup_opening(key));
    let Some(connection) = found else {
        return Peer::Itself;
    };
    if connection.flags & CONNECTION_TUNNEL != 0 {
        return Peer::Translated;
    }
    let differs = !same_address(&connection.rewrite.destination, peer);
    *peer = connection.rewrite.destination;
    *service = connection.service;
    if differs {
        Peer::Behind
    } else {
        Peer::Translated
    }
}

/// `entry.flags` say how it began, but for who did.
#[inline(always)]
fn let_through(key: &TupleV1, entry: &mut PolicyConnectionV1, begun_by_pod: bool, now: u64) {
    entry.last_seen = now;
    if begun_by_pod {
        entry.flags |= POLICY_CONNECTION_FROM_POD;
    }
    entry._pad = 0;
    entry._pad2 = 0;
    // Where the table refuses, the next packet is judged too, and an answer as if it began.
    let _inserted = POLICY_CONNECTIONS_V1.insert(key, &*entry, 0);
}

/// Cuts a connection that is forbidden now. It is kept: without its entry, what is under way from
/// the other side would seem to begin one. What that side began stays, and is judged by itself.
#[inline(always)]
fn cut(key: &TupleV1, entry: &PolicyConnectionV1, begun_by_pod: bool) {
    let known = POLICY_CONNECTIONS_V1.get_ptr_mut(key).map(kernel::policy);
    if let Some(known) = known
        && (known.flags & POLICY_CONNECTION_FROM_POD != 0) == begun_by_pod
    {
        known.flags |= POLICY_CONNECTION_CUT;
        known.epoch = entry.epoch;
        known.peer = entry.peer;
        known.peer_port = entry.peer_port;
    }
}

/// Whether a connection that is forbidden now goes on, since it was let through before and
/// `--netpol-keep-connections` says so.
#[inline(always)]
fn keep(key: &TupleV1, entry: &PolicyConnectionV1, begun_by_pod: bool, now: u64) -> bool {
    if maps::settings().is_none_or(|settings| settings.flags & SETTING_KEEP_CONNECTIONS == 0) {
        return false;
    }
    let known = POLICY_CONNECTIONS_V1.get_ptr_mut(key).map(kernel::policy);
    let Some(known) = known else {
        return false;
    };
    let is_the_same = known.flags & POLICY_CONNECTION_CUT == 0
        && known.epoch != EPOCH_BEFORE
        && (known.flags & POLICY_CONNECTION_FROM_POD != 0) == begun_by_pod
        && is_same_peer(known, entry);
    if !is_the_same || !is_alive(key, known, now) {
        return false;
    }
    known.epoch = entry.epoch;
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

#[inline(always)]
fn judge_other(skb: *mut __sk_buff, scratch: &mut Scratch, from_pod: bool) -> Result<i32, Counter> {
    if !matches!(kernel::ether_type(skb), [0x08, 0x00] | [0x86, 0xdd]) {
        return Ok(TC_ACT_UNSPEC);
    }
    let packet = &mut scratch.packet;
    if packet.tuple.protocol == UNREADABLE {
        scratch.decided.rule = NO_RULE;
        scratch.decided.service = 0;
        return Err(reason(from_pod));
    }
    let mut answers = false;
    if packet.later {
        answers = fragment::recall(scratch).is_some();
    } else if is_icmp(packet.tuple.protocol) {
        let [kind, _, _, _, id0, id1, ..] =
            kernel::load::<8>(skb, packet.transport).unwrap_or([0xff; 8]);
        if is_of_the_link(packet, kind) {
            if from_pod && source_may_come(skb) == 0 {
                return Err(Counter::DropSpoofed);
            }
            return Ok(TC_ACT_UNSPEC);
        }
        packet.tuple.source_port = [id0, id1];
        packet.tuple.destination_port = [id0, id1];
        answers = match packet.family {
            Family::V4 => kind == ECHO_REPLY_V4,
            Family::V6 => kind == ECHO_REPLY_V6,
        };
        if packet.is_first_fragment() {
            fragment::remember(scratch);
        }
    }
    judge(skb, scratch, from_pod, AS_IT_IS, !answers)
}

#[inline(always)]
fn judge_error(skb: *mut __sk_buff, scratch: &mut Scratch, from_pod: bool) -> Result<i32, Counter> {
    let Scratch {
        packet,
        inner,
        policy_key: key,
        ..
    } = scratch;
    let at = packet.transport + ICMP_HEADER;
    let _parsed = parse_at(skb, at, packet.family, inner);
    if is_icmp(inner.tuple.protocol) {
        let [_, _, _, _, id0, id1, ..] =
            kernel::load::<8>(skb, inner.transport).unwrap_or([0xff; 8]);
        inner.tuple.source_port = [id0, id1];
        inner.tuple.destination_port = [id0, id1];
    }
    if inner.tuple.protocol != UNREADABLE {
        if from_pod {
            connections::reverse(&inner.tuple, key);
        } else {
            *key = inner.tuple;
        }
        if POLICY_CONNECTIONS_V1.get_ptr(&*key).is_some() {
            if from_pod && source_may_come(skb) == 0 {
                return Err(Counter::DropSpoofed);
            }
            return Ok(TC_ACT_UNSPEC);
        }
    }
    Ok(UNDECIDED)
}

/// Neighbour discovery and multicast listeners (RFC 4861, RFC 2710, RFC 3810), to or from addresses
/// that no router forwards: without them nothing leaves the pod.
#[inline(always)]
fn is_of_the_link(packet: &Packet, kind: u8) -> bool {
    packet.tuple.protocol == IPPROTO_ICMPV6
        && matches!(kind, 130..=137 | 143)
        && (of_the_link(&packet.tuple.source) || of_the_link(&packet.tuple.destination))
}

#[inline(always)]
fn of_the_link(address: &Address) -> bool {
    (address[0] == 0xfe && address[1] & 0xc0 == 0x80)
        || (address[0] == 0xff && address[1] & 0x0f == 2)
}
