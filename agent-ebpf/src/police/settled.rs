//! Packets of connections that were judged, when nothing has changed since: most of them.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{
    CONNECTION_CUT, CONNECTION_FORWARD, CONNECTION_PEER, CONNECTION_UNTRANSLATED, ConnectionV3,
    EPOCH_UNJUDGED,
};
use aya_ebpf::bindings::__sk_buff;

use super::{SECOND, TRANSLATED};
use crate::connections::{self, Entry};
use crate::kernel;
use crate::maps::{self, Scratch};
use crate::packet::same_address;

/// What is known of a packet from a pod whose connection was judged, when nothing has changed since.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The connection is to be asked about.
    Unknown,
    /// It leaves as its entry says, and that is judged.
    Translated,
    /// It leaves as it is, to whom it was judged for.
    AsItIs,
}

/// What is known of a packet from a pod by the entry that is at its tuple. Asks what
/// [`judge`](super::judge) asks, in the caller's own frame; once a second a packet goes to `judge` all the
/// same, which notes that it has come.
#[inline(always)]
pub(crate) fn sent(skb: *mut __sk_buff, scratch: &mut Scratch, found: &mut Option<Entry>) -> Sent {
    scratch.policy_flags = 0;
    let Some((known, opening)) = found else {
        return Sent::Unknown;
    };
    if !is_current(known, scratch.now) || known.interface != kernel::interface(skb) {
        return Sent::Unknown;
    }
    scratch.policy_flags = flags(known, *opening);
    let tuple = &scratch.packet.tuple;
    if known.flags & CONNECTION_UNTRANSLATED == 0 {
        // The verdict is of the backend in the same entry.
        return Sent::Translated;
    }
    let is_answer = known.flags & CONNECTION_FORWARD == 0;
    let is_for_peer = is_answer
        || same_address(&known.rewrite.destination, &tuple.destination)
            && known.rewrite.destination_port == tuple.destination_port;
    if *opening {
        connections::proceed(tuple, known, &scratch.packet, is_answer);
    }
    if is_for_peer {
        Sent::AsItIs
    } else {
        Sent::Unknown
    }
}

/// While a connection is being opened, the pod at the other end is asked as well, whose entry is to see
/// both sides too.
#[inline(always)]
fn flags(known: &ConnectionV3, opening: bool) -> u32 {
    if opening {
        known.flags & !CONNECTION_PEER
    } else {
        known.flags
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
    let Some((known, opening)) = connections::entry(policy_key) else {
        return false;
    };
    *policy_flags = flags(known, opening);
    if !is_current(known, *now) {
        return false;
    }
    if opening && known.flags & CONNECTION_UNTRANSLATED != 0 {
        let is_answer = known.flags & CONNECTION_FORWARD != 0;
        connections::proceed(policy_key, known, packet, is_answer);
    }
    true
}

#[inline(always)]
fn is_current(known: &ConnectionV3, now: u64) -> bool {
    known.epoch == maps::policy_epoch()
        && known.epoch != EPOCH_UNJUDGED
        && known.flags & CONNECTION_CUT == 0
        && now < known.last_seen.wrapping_add(SECOND)
}

/// Notes on the connection of a packet from a pod what else its packets need not ask for, `flags` of
/// `CONNECTION_*`, unless the tables have changed since `epoch`.
#[inline(always)]
pub(crate) fn remember(scratch: &Scratch, flags: u32, epoch: u32) {
    if let Some((known, _)) = connections::entry(&scratch.packet.tuple)
        && known.epoch == epoch
        && known.flags & CONNECTION_CUT == 0
    {
        known.flags |= flags;
    }
}
