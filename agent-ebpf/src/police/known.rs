//! The entries of connections that were judged.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::TupleV1;
use agent_abi::policy::{
    EPOCH_BEFORE, POLICY_CONNECTION_CUT, POLICY_CONNECTION_FROM_POD, PolicyConnectionV1,
};
use agent_abi::settings::SETTING_KEEP_CONNECTIONS;

use super::SECOND;
use crate::kernel;
use crate::maps::{self, POLICY_CONNECTIONS_V1};
use crate::packet::same_address;

/// Whether a connection is still followed; notes that a packet of it has come.
#[inline(always)]
pub(super) fn is_alive(key: &TupleV1, known: &mut PolicyConnectionV1, now: u64) -> bool {
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
pub(super) fn is_same_peer(a: &PolicyConnectionV1, b: &PolicyConnectionV1) -> bool {
    same_address(&a.peer, &b.peer) && a.peer_port == b.peer_port
}

/// `entry.flags` say how it began, but for who did.
#[inline(always)]
pub(super) fn let_through(
    key: &TupleV1,
    entry: &mut PolicyConnectionV1,
    begun_by_pod: bool,
    now: u64,
) {
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
pub(super) fn cut(key: &TupleV1, entry: &PolicyConnectionV1, begun_by_pod: bool) {
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
pub(super) fn keep(
    key: &TupleV1,
    entry: &PolicyConnectionV1,
    begun_by_pod: bool,
    now: u64,
) -> bool {
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
