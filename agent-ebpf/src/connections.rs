//! The connection tables: finding, opening and keeping connections.
//!
//! A translated connection is a pair of entries. The pair is symmetric: the other entry's key is the answer to
//! what this one rewrites to, and its `rewrite` is the answer to this one's key. Either entry can
//! therefore restore the other when the LRU has evicted it.
//!
//! A pair begins in `OPENING_V3`, with the entry of the replies alone: the tables do not fit the
//! processor's cache, so each entry is dear. The client's entry follows with the first reply, or with
//! the client's second packet, which is sent to the same backend since the choice is a function of the
//! packet. Where the set of backends changes in between, whose backend answers first has the connection.
//!
//! It moves to `CONNECTIONS_V3` when both sides have sent, so that nobody who cannot receive drives out
//! a connection that works. So does the entry of a connection that is not translated, which is there for
//! its verdict alone (`verdict`); where a translation comes to its key, it makes way.

mod open;
mod opening;
mod ports;
mod verdict;

use agent_abi::connection::{
    CONNECTION_CLOSING, CONNECTION_FORWARD, CONNECTION_TUNNEL, CONNECTION_UNTRANSLATED,
    ConnectionV3, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::egress;
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};

pub(crate) use self::open::{Opened, open, open_tunnelled};
use self::opening::{ANSWERED, WAITS, opening_progress, promote};
pub(crate) use self::ports::reserve;
use self::verdict::clear_verdict;
pub(crate) use self::verdict::{copy_verdict, proceed, set_verdict};
use crate::kernel;
use crate::maps::{self, CONNECTIONS_V3, OPENING_V3, Scratch, count};
use crate::packet::{Packet, same_address};
use crate::services;

const SECOND: u64 = 1_000_000_000;

/// An entry, and whether it waits in `OPENING_V3`.
pub(crate) type Entry = (&'static mut ConnectionV3, bool);

/// The entry at `key`.
#[inline(always)]
pub(crate) fn entry(key: &TupleV1) -> Option<Entry> {
    match lookup(key) {
        Some(connection) => Some((connection, false)),
        None => Some((lookup_opening(key)?, true)),
    }
}

/// The same, if packets are translated by it.
#[inline(always)]
pub(crate) fn translated(key: &TupleV1) -> Option<&'static mut ConnectionV3> {
    let (connection, _) = entry(key)?;
    is_translated(connection).then_some(connection)
}

#[inline(always)]
pub(crate) fn is_translated(connection: &ConnectionV3) -> bool {
    connection.flags & CONNECTION_UNTRANSLATED == 0
}

/// The translated connection that a packet belongs to, unless the packet had better begin a new one.
#[inline(always)]
pub(crate) fn find(scratch: &mut Scratch, now: u64) -> Option<&'static mut ConnectionV3> {
    let found = entry(&scratch.packet.tuple);
    follow(scratch, found, now)
}

/// The same, where its entry was looked up before.
#[inline(always)]
pub(crate) fn follow(
    scratch: &mut Scratch,
    found: Option<Entry>,
    now: u64,
) -> Option<&'static mut ConnectionV3> {
    let packet = &scratch.packet;
    let (connection, opening) = found?;
    if !is_translated(connection) {
        return None;
    }
    if connection.flags & CONNECTION_FORWARD != 0
        && packet.opens()
        && must_reopen(packet, connection, now)
    {
        // A late reply of the old backend must not pass for one of the new.
        reverse(&connection.rewrite, &mut scratch.reply_key);
        remove(&scratch.reply_key);
        remove(&scratch.packet.tuple);
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
pub(crate) fn make_way(scratch: &mut Scratch, may_be_its_own: bool) {
    let Scratch {
        packet,
        reply_key,
        // No connection's at this time.
        forward,
        now,
        ..
    } = scratch;
    let is_brief = is_brief(packet.tuple.protocol);
    if !packet.opens() || (is_brief && may_be_its_own) {
        return;
    }
    reverse(&packet.tuple, reply_key);
    let Some(reply) = translated(reply_key) else {
        return;
    };
    let ended =
        is_brief || reply.flags & CONNECTION_CLOSING != 0 || expired(reply_key, reply, *now);
    if ended && reply.flags & CONNECTION_FORWARD == 0 {
        reverse(&reply.rewrite, &mut forward.rewrite);
        remove(&forward.rewrite);
        remove(reply_key);
    }
}

/// Notes that a packet of the connection has passed.
#[inline(always)]
pub(crate) fn note(scratch: &mut Scratch, connection: &mut ConnectionV3, now: u64) {
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
fn refresh(scratch: &mut Scratch, connection: &mut ConnectionV3, closing: bool, now: u64) {
    connection.last_seen = now;
    if closing {
        connection.flags |= CONNECTION_CLOSING;
    }
    if connection.flags & CONNECTION_TUNNEL != 0 {
        return;
    }
    reverse(&connection.rewrite, &mut scratch.reply_key);
    if let Some(other) = translated(&scratch.reply_key) {
        other.last_seen = now;
        other.flags |= connection.flags & CONNECTION_CLOSING;
        return;
    }
    scratch.reply = *connection;
    reverse(&scratch.packet.tuple, &mut scratch.reply.rewrite);
    scratch.reply.flags ^= CONNECTION_FORWARD;
    clear_verdict(&mut scratch.reply);
    // Another CPU may have restored it first, which is as good.
    let _restored = CONNECTIONS_V3.insert(&scratch.reply_key, &scratch.reply, u64::from(BPF_ANY));
}

/// Begins a connection at `key`, if there is room, and none that is translated.
#[inline(always)]
pub(crate) fn begin(key: &TupleV1, connection: &ConnectionV3) -> bool {
    match entry(key) {
        None => insert_opening(key, connection),
        Some((known, _)) => !is_translated(known) && take(key, connection),
    }
}

/// Has `key`, whatever is there; whether there was room. In this order, so that no packet meets neither
/// of them.
#[inline(always)]
pub(crate) fn take(key: &TupleV1, connection: &ConnectionV3) -> bool {
    let inserted = OPENING_V3.insert(key, connection, u64::from(BPF_ANY));
    let _removed = CONNECTIONS_V3.remove(key);
    inserted.is_ok()
}

/// Whether there was room, and no such entry.
#[inline(always)]
pub(crate) fn insert_opening(key: &TupleV1, connection: &ConnectionV3) -> bool {
    let inserted = OPENING_V3.insert(key, connection, u64::from(BPF_NOEXIST));
    inserted.is_ok()
}

#[inline(always)]
fn must_reopen(packet: &Packet, connection: &ConnectionV3, now: u64) -> bool {
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
fn expired(key: &TupleV1, connection: &ConnectionV3, now: u64) -> bool {
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
    // What was seen within a second of the last note is not noted.
    now.saturating_sub(connection.last_seen) > (u64::from(seconds) + 1) * SECOND
}

#[inline(always)]
pub(crate) fn lookup(key: &TupleV1) -> Option<&'static mut ConnectionV3> {
    CONNECTIONS_V3.get_ptr_mut(key).map(kernel::connection)
}

#[inline(always)]
pub(crate) fn lookup_opening(key: &TupleV1) -> Option<&'static mut ConnectionV3> {
    OPENING_V3.get_ptr_mut(key).map(kernel::connection)
}

#[inline(always)]
fn remove(key: &TupleV1) {
    // Gone already is as good.
    let _removed = CONNECTIONS_V3.remove(key);
    remove_opening(key);
}

#[inline(always)]
pub(crate) fn remove_opening(key: &TupleV1) {
    let _removed = OPENING_V3.remove(key);
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
