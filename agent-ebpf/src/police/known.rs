//! The entries of connections that were judged.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_CUT, CONNECTION_FORWARD, CONNECTION_PAD,
    CONNECTION_UNTRANSLATED, ConnectionV3, EPOCH_UNJUDGED, TupleV1,
};
use agent_abi::settings::SETTING_KEEP_CONNECTIONS;

use super::SECOND;
use crate::connections;
use crate::maps::{self, Judged};
use crate::packet::same_address;

/// How a packet that is let through passes.
pub(super) enum State<'a> {
    /// It leaves the pod as the entry says.
    Leaves(&'a ConnectionV3),
    /// It comes to the pod from an address that it was translated to.
    Comes,
    AsItIs,
}

/// Whether a connection is still followed; notes that a packet of it has come.
#[inline(always)]
pub(super) fn is_alive(key: &TupleV1, known: &mut ConnectionV3, now: u64) -> bool {
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
pub(super) fn is_same_peer(known: &ConnectionV3, judged: &Judged) -> bool {
    same_address(&known.rewrite.destination, &judged.peer)
        && known.rewrite.destination_port == judged.peer_port
}

#[inline(always)]
fn is_begun_by_pod(known: &ConnectionV3) -> bool {
    known.flags & CONNECTION_FORWARD != 0
}

/// Notes the verdict in the connection's entry, or makes one. `room` holds it meanwhile. Where neither can
/// be, the next packet is judged too, and an answer as if it began.
#[inline(always)]
pub(super) fn let_through(
    key: &TupleV1,
    judged: &Judged,
    state: &State<'_>,
    room: &mut ConnectionV3,
    begun_by_pod: bool,
    now: u64,
) {
    let mut found = connections::entry(key);
    if let Some((known, _)) = &mut found
        && is_begun_by_pod(known) == begun_by_pod
        && same_address(&known.rewrite.destination, &judged.peer)
    {
        known.last_seen = now;
        connections::set_verdict(known, judged.flags, judged.epoch, judged.interface);
        return;
    }
    match state {
        // Without its entry, answers would not be translated back by the next one.
        State::Comes => return,
        State::Leaves(forward) => *room = **forward,
        State::AsItIs => {
            room.rewrite = *key;
            room.rewrite.destination = judged.peer;
            room.rewrite.destination_port = judged.peer_port;
            room.backend = 0;
            room.flags = CONNECTION_UNTRANSLATED;
            if begun_by_pod {
                room.flags |= CONNECTION_FORWARD;
            }
            room.host_interface = 0;
            room.host_mac = [0; 6];
            room._pad = [0; CONNECTION_PAD];
            room.service = 0;
        }
    }
    room.last_seen = now;
    connections::set_verdict(room, judged.flags, judged.epoch, judged.interface);
    let _written = match found {
        None => connections::insert_opening(key, room),
        Some((known, _)) => makes_way(known, state) && connections::take(key, room),
    };
}

/// Whether an entry that is there for another peer makes way: where nobody has answered, the client's next
/// SYN may go to another backend.
#[inline(always)]
fn makes_way(known: &ConnectionV3, state: &State<'_>) -> bool {
    !connections::is_translated(known)
        || matches!(state, State::Leaves(_)) && known.flags & CONNECTION_ANSWERED == 0
}

/// Cuts a connection that is forbidden now. It is kept: without its entry, what is under way from
/// the other side would seem to begin one. What that side began stays, and is judged by itself.
#[inline(always)]
pub(super) fn cut(key: &TupleV1, judged: &Judged, begun_by_pod: bool) {
    if let Some((known, _)) = connections::entry(key)
        && is_begun_by_pod(known) == begun_by_pod
    {
        known.flags |= CONNECTION_CUT;
        known.epoch = judged.epoch;
    }
}

/// Whether a connection that is forbidden now goes on, since it was let through before and
/// `--netpol-keep-connections` says so.
#[inline(always)]
pub(super) fn keep(key: &TupleV1, judged: &Judged, begun_by_pod: bool, now: u64) -> bool {
    if maps::settings().is_none_or(|settings| settings.flags & SETTING_KEEP_CONNECTIONS == 0) {
        return false;
    }
    let Some((known, _)) = connections::entry(key) else {
        return false;
    };
    let is_the_same = known.flags & CONNECTION_CUT == 0
        && known.epoch != EPOCH_UNJUDGED
        && is_begun_by_pod(known) == begun_by_pod
        && is_same_peer(known, judged);
    if !is_the_same || !is_alive(key, known, now) {
        return false;
    }
    known.epoch = judged.epoch;
    true
}
