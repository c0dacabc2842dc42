//! Packets of connections that were judged, when nothing has changed since: most of them.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::TupleV1;
use agent_abi::policy::{POLICY_CONNECTION_CUT, POLICY_CONNECTION_FROM_POD, PolicyConnectionV1};
use aya_ebpf::bindings::__sk_buff;

use super::{SECOND, TRANSLATED};
use crate::connections;
use crate::kernel;
use crate::maps::{self, POLICY_CONNECTIONS_V1, Scratch};
use crate::packet::same_address;

/// The connection of a packet from the pod, where it was judged, and all is as it was then: for most
/// packets it is, see [`is_sent_as_judged`]. Asks what [`judge`](super::judge) asks, in the caller's own frame; once a
/// second a packet goes to `judge` all the same, which notes that it has come.
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
