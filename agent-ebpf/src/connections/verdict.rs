//! Policy's verdict in an entry, and connections that are not translated on this node, which have an entry
//! for it alone: one at each policed pod, which both directions ask.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_CUT, CONNECTION_DIRECT, CONNECTION_PEER, CONNECTION_PLAIN,
    ConnectionV3, EPOCH_UNJUDGED, TupleV1,
};
use aya_ebpf::bindings::BPF_ANY;

use super::remove_opening;
use crate::maps::CONNECTIONS_V3;
use crate::packet::Packet;

/// The bits of an entry's flags that are policy's.
pub(super) const VERDICT: u32 =
    CONNECTION_CUT | CONNECTION_DIRECT | CONNECTION_PLAIN | CONNECTION_PEER;

/// Has an entry say what another one says of the same pod.
#[inline(always)]
pub(crate) fn copy_verdict(from: &ConnectionV3, to: &mut ConnectionV3) {
    set_verdict(to, from.flags & VERDICT, from.epoch, from.interface);
}

/// Has the entry of a connection that was not judged at this pod say so.
#[inline(always)]
pub(super) fn clear_verdict(entry: &mut ConnectionV3) {
    set_verdict(entry, 0, EPOCH_UNJUDGED, 0);
}

/// The epoch is written last: packets on other CPUs may be asking.
#[inline(always)]
pub(crate) fn set_verdict(entry: &mut ConnectionV3, flags: u32, epoch: u32, interface: u32) {
    entry.flags = entry.flags & !VERDICT | flags;
    entry.interface = interface;
    entry.epoch = epoch;
}

/// What a packet makes of a connection that is being opened. It moves to those that work as a translated
/// one does: when both sides have sent, and of TCP, whoever began it has shown that it receives.
///
/// `connection` is not to be used after it: where it has moved, what was its entry may be another's.
#[inline(always)]
pub(crate) fn proceed(
    key: &TupleV1,
    connection: &mut ConnectionV3,
    packet: &Packet,
    is_answer: bool,
) {
    if is_answer {
        connection.flags |= CONNECTION_ANSWERED;
    }
    let works = if packet.tuple.protocol == IPPROTO_TCP {
        let follows = !is_answer && !packet.opens() && !packet.closes();
        follows && connection.flags & CONNECTION_ANSWERED != 0
    } else {
        is_answer
    };
    // Where the table refuses, it stays where it is, and works.
    if works
        && CONNECTIONS_V3
            .insert(key, &*connection, u64::from(BPF_ANY))
            .is_ok()
    {
        remove_opening(key);
    }
}
