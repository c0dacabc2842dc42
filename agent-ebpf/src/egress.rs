//! Masquerade: what a pod sends out of the cluster leaves under the node's address.
//!
//! A connection begins at the uplink's egress, when the stack has chosen the device and with it the
//! address. From its second packet on it is one like those to Services: found where the pod's packet
//! comes in, translated and sent on there. Policy at the pod's interface sees it before that, and its
//! answers after they are translated back, so it judges the real addresses.
//!
//! What is asked when a connection begins is in `EGRESS_V1`; what has begun stays as it is. TCP begins
//! with a SYN: other segments that belong to nothing leave as they are. Of other protocols nothing
//! tells a question from an answer, so what comes from outside to a pod's own address is noted at the
//! uplink's ingress, and its answers leave under that address.
//!
//! An echo is a connection too. Its identifier is the source port of the question and the destination
//! port of the answer; a question of the node itself with the identifier of a pod's, to the same
//! address, loses its answer to it.

use agent_abi::connection::{CONNECTION_FORWARD, CONNECTION_PAD, EPOCH_UNJUDGED, TupleV1};
use agent_abi::counters::Counter;
use agent_abi::egress::{DIRECT_SERVICE, EGRESS_KEEP, EGRESS_POD, EGRESS_SERVICE, EgressAddressV1};
use agent_abi::settings::SETTING_POD_EGRESS;
use agent_abi::{Address, IPPROTO_ICMP, IPPROTO_TCP, checksum, is_v4};
use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR, TC_ACT_UNSPEC};
use aya_ebpf::maps::lpm_trie::Key;

use crate::connections::{
    begin, copy_verdict, entry, insert_opening, remove_opening, reserve, reverse, same, translated,
};
use crate::forward::forward;
use crate::global::{global, verdict};
use crate::icmp::IDENTIFIER;
use crate::maps::{self, EGRESS_SOURCES_V1, EGRESS_V1, Scratch, count};
use crate::packet::{Family, Hook, Packet, UNREADABLE, is_icmp, same_address};
use crate::rewrite::{ports, v6_difference, write_addresses};
use crate::services::read;
use crate::{connections, fragment, kernel, tc};

const WHOLE_ADDRESS_BITS: u32 = 128;
const ICMP_CHECKSUM: u32 = 2;

/// Answers of [`egress_open`] and [`egress_echo`], of which none is a verdict: the connection is in
/// `scratch.forward`.
pub(crate) const OPENED: i32 = 105;
/// The packet may begin one.
const BEGINS: i32 = 106;

/// Whether a packet of no connection may begin one that concerns egress.
#[inline(always)]
pub(crate) fn concerns(hook: Hook, packet: &Packet) -> bool {
    is_on()
        && match hook {
            Hook::Egress => packet.opens(),
            Hook::UplinkIngress => packet.tuple.protocol != IPPROTO_TCP,
            Hook::WorkloadIngress => false,
        }
}

/// Sends on what has no ports; the answer is the verdict.
#[inline(always)]
pub(crate) fn other(skb: *mut __sk_buff, hook: Hook) -> i32 {
    if hook == Hook::WorkloadIngress || !is_on() {
        return TC_ACT_UNSPEC;
    }
    let mut answer = egress_echo(skb, hook as u32);
    if answer == BEGINS {
        answer = egress_open(skb, hook as u32);
    }
    if answer == OPENED {
        answer = egress_send(skb, hook as u32);
    }
    answer
}

#[inline(always)]
fn is_on() -> bool {
    maps::settings().is_some_and(|settings| settings.flags & SETTING_POD_EGRESS != 0)
}

global! {
    /// Opens the connection of the packet in the scratch space, if it leaves the cluster; the answer is
    /// [`OPENED`] or the verdict.
    fn egress_open(skb: *mut __sk_buff, hook: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| open(skb, hook.into(), scratch)))
    }

    /// Finds the connection of an echo; the answer is [`OPENED`], [`BEGINS`] or the verdict.
    fn egress_echo(skb: *mut __sk_buff, hook: u32) -> i32 {
        let found = maps::scratch().and_then(|scratch| find_echo(skb, hook.into(), scratch));
        found.unwrap_or(TC_ACT_UNSPEC)
    }

    /// Sends an echo on as `scratch.forward` says; the answer is the verdict.
    fn egress_send(skb: *mut __sk_buff, hook: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| send_echo(skb, hook.into(), scratch)))
    }
}

#[inline(always)]
fn open(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Result<i32, Counter> {
    let tuple = &scratch.packet.tuple;
    if hook == Hook::UplinkIngress {
        if is(&tuple.destination, EGRESS_POD) && !is(&tuple.source, EGRESS_KEEP) {
            note_direct(scratch);
        }
        return Ok(TC_ACT_UNSPEC);
    }
    // Only uplinks have an address to leave by: behind other interfaces are pods.
    let interface = kernel::interface(skb);
    let Some(sources) = read(EGRESS_SOURCES_V1.get_ptr(&interface)) else {
        return Ok(TC_ACT_UNSPEC);
    };
    let source = if is_v4(&tuple.source) {
        &sources.v4
    } else {
        &sources.v6
    };
    if same_address(source, &[0; 16])
        || !is(&tuple.source, EGRESS_POD)
        || is(&tuple.destination, EGRESS_KEEP)
        || maps::is_the_kernels(tuple.protocol == IPPROTO_TCP)
    {
        return Ok(TC_ACT_UNSPEC);
    }
    prepare(scratch, EGRESS_SERVICE);
    // A report of a drop says this.
    scratch.frontend.service = EGRESS_SERVICE;
    scratch.forward.rewrite.source = *source;
    let _place = reserve(scratch, false, false)?;
    let Scratch {
        packet,
        forward,
        reply_key,
        begun,
        ..
    } = scratch;
    // Policy has seen it at the pod's interface, and stays with what it has said.
    if let Some((known, _)) = entry(&packet.tuple) {
        copy_verdict(known, forward);
    }
    if !begin(&packet.tuple, forward) {
        // Another packet of the same connection was faster on another CPU: its choice holds.
        let winner = translated(&packet.tuple);
        let is_same = matches!(&winner, Some(winner) if same(&winner.rewrite, &forward.rewrite));
        if !is_same {
            remove_opening(reply_key);
        }
        *forward = *winner.ok_or(Counter::DropTableFull)?;
        return Ok(OPENED);
    }
    count(Counter::EgressConnections);
    *begun = 1;
    Ok(OPENED)
}

/// Notes that answers to the packet leave as they are. Where there is no room, they leave under the
/// node's address.
#[inline(always)]
fn note_direct(scratch: &mut Scratch) {
    prepare(scratch, DIRECT_SERVICE);
    let Scratch {
        packet,
        forward,
        reply,
        reply_key,
        ..
    } = scratch;
    reverse(&packet.tuple, reply_key);
    if let Some((known, _)) = entry(reply_key) {
        // The packet is an answer then.
        if known.flags & CONNECTION_FORWARD != 0 {
            return;
        }
        copy_verdict(known, reply);
    }
    if begin(reply_key, reply) {
        let _noted = insert_opening(&packet.tuple, forward);
    }
}

/// Makes a pair of entries that changes nothing yet.
#[inline(always)]
fn prepare(scratch: &mut Scratch, service: u32) {
    let Scratch {
        packet,
        forward,
        reply,
        now,
        ..
    } = scratch;
    forward.rewrite = packet.tuple;
    forward.backend = 0;
    forward.flags = CONNECTION_FORWARD;
    forward.host_interface = 0;
    forward.host_mac = [0; 6];
    forward._pad = [0; CONNECTION_PAD];
    forward.service = service;
    forward.last_seen = *now;
    forward.epoch = EPOCH_UNJUDGED;
    forward.interface = 0;
    *reply = *forward;
    reverse(&packet.tuple, &mut reply.rewrite);
    reply.flags = 0;
}

#[inline(always)]
fn is(address: &Address, bit: u32) -> bool {
    let key = Key::new(WHOLE_ADDRESS_BITS, EgressAddressV1 { address: *address });
    EGRESS_V1.get(&key).is_some_and(|bits| *bits & bit != 0)
}

/// What an echo is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Question,
    Answer,
}

#[inline(always)]
fn find_echo(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Option<i32> {
    // Of anything else, the scratch space has the headers of an earlier packet.
    if !matches!(kernel::ether_type(skb), [0x08, 0x00] | [0x86, 0xdd]) {
        return None;
    }
    let packet = &mut scratch.packet;
    if packet.tuple.protocol == UNREADABLE || !is_icmp(packet.tuple.protocol) {
        return None;
    }
    let echo = if packet.later {
        fragment::recall(scratch)?;
        // A pod's answers are no egress, and questions from outside neither.
        match hook {
            Hook::Egress => Echo::Question,
            Hook::UplinkIngress | Hook::WorkloadIngress => Echo::Answer,
        }
    } else {
        let (echo, identifier) = read_echo(skb, packet)?;
        packet.tuple.source_port = identifier;
        packet.tuple.destination_port = identifier;
        if packet.is_first_fragment() {
            // As `police` has it, which shares the table.
            fragment::remember(scratch);
        }
        echo
    };
    let packet = &mut scratch.packet;
    match echo {
        Echo::Question => packet.tuple.destination_port = [0; 2],
        Echo::Answer => packet.tuple.source_port = [0; 2],
    }
    let now = scratch.now;
    if let Some(connection) = connections::find(scratch, now) {
        connections::note(scratch, connection, now);
        scratch.forward = *connection;
        return Some(OPENED);
    }
    let begins = hook == Hook::Egress && echo == Echo::Question && !scratch.packet.later;
    begins.then_some(BEGINS)
}

/// Whether an echo is a question or an answer, and its identifier.
#[inline(always)]
fn read_echo(skb: *mut __sk_buff, packet: &Packet) -> Option<(Echo, [u8; 2])> {
    let [kind, _, _, _, i0, i1] = kernel::load(skb, packet.transport)?;
    let (question, answer) = if packet.tuple.protocol == IPPROTO_ICMP {
        (8, 0)
    } else {
        (128, 129)
    };
    let echo = match kind {
        kind if kind == question => Echo::Question,
        kind if kind == answer => Echo::Answer,
        _ => return None,
    };
    Some((echo, [i0, i1]))
}

/// Whether `packet`, which an error quotes, is an echo; its identifier is in its ports then.
#[inline(always)]
pub(crate) fn is_echo(skb: *mut __sk_buff, packet: &mut Packet) -> bool {
    if packet.later || !is_icmp(packet.tuple.protocol) {
        return false;
    }
    let Some((echo, identifier)) = read_echo(skb, packet) else {
        return false;
    };
    (packet.tuple.source_port, packet.tuple.destination_port) = match echo {
        Echo::Question => (identifier, [0; 2]),
        Echo::Answer => ([0; 2], identifier),
    };
    true
}

/// The identifier of an echo, of whose ports one is zero.
#[inline(always)]
pub(crate) fn identifier(tuple: &TupleV1) -> [u8; 2] {
    let ([s0, s1], [d0, d1]) = (tuple.source_port, tuple.destination_port);
    [s0 | d0, s1 | d1]
}

#[inline(always)]
fn send_echo(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Result<i32, Counter> {
    tc::account(skb, &scratch.forward, scratch.begun);
    write(skb, scratch).map_err(|_| Counter::DropFailed)?;
    count(Counter::PacketsTranslated);
    forward(skb, hook, scratch)
}

/// Makes an echo leave as `scratch.forward` says. ICMPv6 sums up the addresses too (RFC 4443 §2.3).
#[inline(never)]
fn write(skb: *mut __sk_buff, scratch: &Scratch) -> Result<(), i64> {
    let (packet, to) = (&scratch.packet, &scratch.forward.rewrite);
    if packet.later {
        count(Counter::FragmentsTranslated);
        return write_addresses(skb, packet, to);
    }
    let at = packet.transport + ICMP_CHECKSUM;
    if packet.family == Family::V6 {
        let difference = v6_difference(&packet.tuple, to);
        kernel::replace_l4_checksum_v6(skb, at, difference.into(), u64::from(BPF_F_PSEUDO_HDR))?;
    }
    let [old, new] = [&packet.tuple, to].map(|tuple| u32::from_ne_bytes(ports(tuple)));
    let difference = checksum::difference(&[old], &[new]);
    kernel::replace_l4_checksum(skb, at, difference.into(), 0)?;
    kernel::store(skb, packet.transport + IDENTIFIER, &identifier(to))?;
    write_addresses(skb, packet, to)
}
