//! The connection tables: finding, opening and keeping connections.
//!
//! A connection is a pair of entries. The pair is symmetric: the other entry's key is the answer to
//! what this one rewrites to, and its `rewrite` is the answer to this one's key. Either entry can
//! therefore restore the other when the LRU has evicted it.
//!
//! A pair begins in `OPENING_V2`, with the entry of the replies alone: the tables do not fit the
//! processor's cache, so each entry is dear. The client's entry follows with the first reply, or with
//! the client's second packet, which is sent to the same backend since the choice is a function of the
//! packet. Where the set of backends changes in between, whose backend answers first has the connection.
//!
//! It moves to `CONNECTIONS_V2` when both sides have sent, so that nobody who cannot receive drives out
//! a connection that works.

mod open;
mod opening;
mod ports;

use agent_abi::connection::{
    CONNECTION_CLOSING, CONNECTION_FORWARD, CONNECTION_TUNNEL, ConnectionV2, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::egress;
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use aya_ebpf::bindings::BPF_NOEXIST;

pub(crate) use self::open::{Opened, open};
use self::opening::{ANSWERED, WAITS, opening_progress, promote};
pub(crate) use self::ports::reserve;
use crate::kernel;
use crate::maps::{self, CONNECTIONS_V2, OPENING_V2, Scratch, count};
use crate::packet::{Packet, same_address};
use crate::services;

const SECOND: u64 = 1_000_000_000;

/// The connection that a packet belongs to, unless the packet had better begin a new one.
#[inline(always)]
pub(crate) fn find(scratch: &mut Scratch, now: u64) -> Option<&'static mut ConnectionV2> {
    let packet = &scratch.packet;
    let (connection, opening) = match lookup(&packet.tuple) {
        Some(connection) => (connection, false),
        None => (lookup_opening(&packet.tuple)?, true),
    };
    if connection.flags & CONNECTION_FORWARD != 0
        && packet.opens()
        && must_reopen(packet, connection, now)
    {
        // A late reply of the old backend must not pass for one of the new.
        remove(&connection.rewrite.reversed());
        remove(&packet.tuple);
        return None;
    }
    if !opening {
        return Some(connection);
    }
    match opening_progress(scratch.packet.tuple.protocol.into()) {
        WAITS => Some(connection),
        ANSWERED => {
            promote(scratch, connection, now);
            // The entry that was moved may be another connection's by now.
            lookup(&scratch.packet.tuple).or_else(|| lookup_opening(&scratch.packet.tuple))
        }
        _ => None,
    }
}

/// Makes way for a connection past every Service. A client may give it the source port of a translated
/// connection, and its replies would pass for replies of that one.
///
/// TCP has to have ended. A brief protocol has no end that is seen, so the newer one has the port: of a
/// client that speaks both ways in turn, each packet restores its own. What may be of the very connection,
/// translated (`may_be_its_own`), leaves it as it is.
#[inline(always)]
pub(crate) fn make_way(packet: &Packet, may_be_its_own: bool, now: u64) {
    let is_brief = is_brief(packet.tuple.protocol);
    if !packet.opens() || (is_brief && may_be_its_own) {
        return;
    }
    let reply_key = packet.tuple.reversed();
    let Some(reply) = lookup(&reply_key).or_else(|| lookup_opening(&reply_key)) else {
        return;
    };
    let ended =
        is_brief || reply.flags & CONNECTION_CLOSING != 0 || expired(&reply_key, reply, now);
    if ended && reply.flags & CONNECTION_FORWARD == 0 {
        remove(&reply.rewrite.reversed());
        remove(&reply_key);
    }
}

/// Notes that a packet of the connection has passed.
#[inline(always)]
pub(crate) fn note(scratch: &mut Scratch, connection: &mut ConnectionV2, now: u64) {
    let packet = &scratch.packet;
    let closing = packet.closes() && connection.flags & CONNECTION_CLOSING == 0;
    if !closing && now.saturating_sub(connection.last_seen) < SECOND {
        return;
    }
    refresh(scratch, connection, closing, now);
}

/// Keeps both entries of the pair: marks them as used and closing, and restores the other one if
/// it has been evicted.
#[inline(never)]
fn refresh(scratch: &mut Scratch, connection: &mut ConnectionV2, closing: bool, now: u64) {
    connection.last_seen = now;
    if closing {
        connection.flags |= CONNECTION_CLOSING;
    }
    if connection.flags & CONNECTION_TUNNEL != 0 {
        return;
    }
    reverse(&connection.rewrite, &mut scratch.reply_key);
    let other = lookup(&scratch.reply_key).or_else(|| lookup_opening(&scratch.reply_key));
    if let Some(other) = other {
        other.last_seen = now;
        other.flags |= connection.flags & CONNECTION_CLOSING;
        return;
    }
    scratch.reply = *connection;
    reverse(&scratch.packet.tuple, &mut scratch.reply.rewrite);
    scratch.reply.flags ^= CONNECTION_FORWARD;
    // Another CPU may have restored it first, which is as good.
    let _restored =
        CONNECTIONS_V2.insert(&scratch.reply_key, &scratch.reply, u64::from(BPF_NOEXIST));
}

/// Whether there was room, and no such entry.
#[inline(always)]
pub(crate) fn insert_opening(key: &TupleV1, connection: &ConnectionV2) -> bool {
    let inserted = OPENING_V2.insert(key, connection, u64::from(BPF_NOEXIST));
    inserted.is_ok()
}

#[inline(always)]
fn must_reopen(packet: &Packet, connection: &ConnectionV2, now: u64) -> bool {
    if expired(&packet.tuple, connection, now) || connection.flags & CONNECTION_CLOSING != 0 {
        return true;
    }
    let gone =
        egress::has_backends(connection.service) && services::backend(connection.backend).is_none();
    if gone && packet.tuple.protocol != IPPROTO_TCP {
        count(Counter::FlowsRebalanced);
    }
    gone
}

/// Whether connections of a protocol have no end that is seen, and are forgotten soon.
#[inline(always)]
fn is_brief(protocol: u8) -> bool {
    matches!(protocol, IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_ICMPV6)
}

#[inline(always)]
fn expired(key: &TupleV1, connection: &ConnectionV2, now: u64) -> bool {
    let Some(settings) = maps::settings() else {
        return false;
    };
    let seconds = if is_brief(key.protocol) {
        settings.udp_seconds
    } else if connection.flags & CONNECTION_CLOSING != 0 {
        settings.tcp_closing_seconds
    } else {
        settings.tcp_seconds
    };
    now.saturating_sub(connection.last_seen) > u64::from(seconds) * SECOND
}

#[inline(always)]
pub(crate) fn lookup(key: &TupleV1) -> Option<&'static mut ConnectionV2> {
    CONNECTIONS_V2.get_ptr_mut(key).map(kernel::connection)
}

#[inline(always)]
pub(crate) fn lookup_opening(key: &TupleV1) -> Option<&'static mut ConnectionV2> {
    OPENING_V2.get_ptr_mut(key).map(kernel::connection)
}

#[inline(always)]
fn remove(key: &TupleV1) {
    // Gone already is as good.
    let _removed = CONNECTIONS_V2.remove(key);
    remove_opening(key);
}

#[inline(always)]
pub(crate) fn remove_opening(key: &TupleV1) {
    let _removed = OPENING_V2.remove(key);
}

/// Writes the tuple of a packet that answers `tuple` to `answer`, field by field: a copy by value
/// would take room on the stack.
#[inline(always)]
pub(crate) fn reverse(tuple: &TupleV1, answer: &mut TupleV1) {
    answer.source = tuple.destination;
    answer.destination = tuple.source;
    answer.source_port = tuple.destination_port;
    answer.destination_port = tuple.source_port;
    answer.protocol = tuple.protocol;
    answer._pad = [0; 3];
}

/// Whether a packet `reply` answers one that left as `tuple`.
#[inline(always)]
fn answers(reply: &TupleV1, tuple: &TupleV1) -> bool {
    same_address(&reply.source, &tuple.destination)
        && same_address(&reply.destination, &tuple.source)
        && reply.source_port == tuple.destination_port
        && reply.destination_port == tuple.source_port
        && reply.protocol == tuple.protocol
}

/// Equality without a call to `memcmp`, which the BPF target does not have.
#[inline(always)]
pub(crate) fn same(a: &TupleV1, b: &TupleV1) -> bool {
    same_address(&a.source, &b.source)
        && same_address(&a.destination, &b.destination)
        && a.source_port == b.source_port
        && a.destination_port == b.destination_port
        && a.protocol == b.protocol
}
