//! The connection table: finding, opening and keeping connections.
//!
//! A connection is a pair of entries. The pair is symmetric: the other entry's key is the answer to
//! what this one rewrites to, and its `rewrite` is the answer to this one's key. Either entry can
//! therefore restore the other when the LRU has evicted it.

use agent_abi::IPPROTO_TCP;
use agent_abi::connection::{CONNECTION_CLOSING, CONNECTION_FORWARD, ConnectionV1, TupleV1};
use agent_abi::counters::Counter;
use agent_abi::service::{BackendV1, FrontendV1};
use aya_ebpf::bindings::{__sk_buff, BPF_ANY, BPF_NOEXIST};

use crate::kernel;
use crate::maps::{CONNECTIONS_V1, Scratch, count};
use crate::packet::{Hook, Packet, same_address};
use crate::services::{self, Choice};
use crate::source;

const SECOND: u64 = 1_000_000_000;
/// An idle TCP connection is forgotten after a day, as kube-proxy's conntrack setting has it.
const TCP_LIFETIME: u64 = 86_400 * SECOND;
/// An idle UDP flow gets a new backend after two minutes, as netfilter's `udp_timeout_stream`.
const UDP_LIFETIME: u64 = 120 * SECOND;
/// A closed connection keeps its source port for a while, for late segments.
const CLOSING_LIFETIME: u64 = 10 * SECOND;
/// Attempts to find a free source port; with half of all ports taken, one of 2^32 searches fails.
const PORT_ATTEMPTS: u32 = 32;

/// What came of opening a connection.
pub(crate) enum Opened {
    Connection(&'static ConnectionV1),
    NoEndpoint,
}

/// The connection that a packet belongs to, unless the packet had better begin a new one.
#[inline(always)]
pub(crate) fn find(packet: &Packet, now: u64) -> Option<&'static mut ConnectionV1> {
    let connection = lookup(&packet.tuple)?;
    if connection.flags & CONNECTION_FORWARD != 0
        && packet.opens()
        && must_reopen(packet, connection, now)
    {
        // A late reply of the old backend must not pass for one of the new.
        remove(&connection.rewrite.reversed());
        remove(&packet.tuple);
        return None;
    }
    Some(connection)
}

/// Makes way for a TCP connection past every Service. A client may give it the source port of a
/// translated connection that has ended, and its replies would pass for replies of that one.
#[inline(always)]
pub(crate) fn make_way(packet: &Packet, now: u64) {
    if packet.tuple.protocol != IPPROTO_TCP || !packet.opens() {
        return;
    }
    let reply_key = packet.tuple.reversed();
    let Some(reply) = lookup(&reply_key) else {
        return;
    };
    let ended = reply.flags & CONNECTION_CLOSING != 0 || expired(&reply_key, reply, now);
    if ended && reply.flags & CONNECTION_FORWARD == 0 {
        remove(&reply.rewrite.reversed());
        remove(&reply_key);
    }
}

/// Notes that a packet of the connection has passed.
#[inline(always)]
pub(crate) fn note(scratch: &mut Scratch, connection: &mut ConnectionV1, now: u64) {
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
fn refresh(scratch: &mut Scratch, connection: &mut ConnectionV1, closing: bool, now: u64) {
    connection.last_seen = now;
    if closing {
        connection.flags |= CONNECTION_CLOSING;
    }
    reverse(&connection.rewrite, &mut scratch.reply_key);
    if let Some(other) = lookup(&scratch.reply_key) {
        other.last_seen = now;
        other.flags |= connection.flags & CONNECTION_CLOSING;
        return;
    }
    scratch.reply = *connection;
    reverse(&scratch.packet.tuple, &mut scratch.reply.rewrite);
    scratch.reply.flags ^= CONNECTION_FORWARD;
    // Another CPU may have restored it first, which is as good.
    let _restored =
        CONNECTIONS_V1.insert(&scratch.reply_key, &scratch.reply, u64::from(BPF_NOEXIST));
}

/// Opens a connection to a backend of `frontend`.
#[inline(always)]
pub(crate) fn open(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    frontend: &FrontendV1,
    now: u64,
) -> Result<Opened, Counter> {
    let (id, backend) = match services::choose(frontend.service) {
        Choice::Backend { id, backend } => (id, backend),
        Choice::NoEndpoint => return Ok(Opened::NoEndpoint),
        Choice::Unsettled => return Err(Counter::DropNoBackend),
    };
    let Scratch {
        packet,
        forward,
        reply,
        reply_key,
        ..
    } = scratch;
    aim(hook, packet, frontend, backend, &mut forward.rewrite);
    forward.backend = id;
    forward.flags = CONNECTION_FORWARD;
    forward.last_seen = now;
    forward._pad = [0; 6];
    (forward.host_interface, forward.host_mac) = match hook {
        Hook::Egress => (
            kernel::interface(skb),
            kernel::load(skb, 6).ok_or(Counter::DropFailed)?,
        ),
        Hook::UplinkIngress | Hook::WorkloadIngress => (0, [0; 6]),
    };
    *reply = *forward;
    reverse(&packet.tuple, &mut reply.rewrite);
    reply.flags = 0;

    reserve(forward, reply, reply_key, now)?;
    if CONNECTIONS_V1
        .insert(&packet.tuple, &*forward, u64::from(BPF_NOEXIST))
        .is_err()
    {
        // Another packet of the same connection was faster on another CPU: its choice holds.
        if let Some(winner) = lookup(&packet.tuple) {
            if !same(&winner.rewrite, &forward.rewrite) {
                remove(reply_key);
            }
            return Ok(Opened::Connection(winner));
        }
        remove(reply_key);
        return Err(Counter::DropTableFull);
    }
    count(Counter::PacketConnections);
    lookup(&packet.tuple)
        .map(|found| Opened::Connection(found))
        .ok_or(Counter::DropTableFull)
}

/// What the packet leaves as, before a free source port is found.
#[inline(always)]
fn aim(
    hook: Hook,
    packet: &Packet,
    frontend: &FrontendV1,
    backend: &BackendV1,
    target: &mut TupleV1,
) {
    *target = packet.tuple;
    target.destination = backend.address;
    target.destination_port = backend.port;
    match source::translation(hook, &packet.tuple, frontend, backend) {
        source::Translation::Keep => {}
        source::Translation::Hairpin => target.source = packet.tuple.destination,
        source::Translation::Node(address) => {
            target.source = address;
            target.source_port = source::random_port();
        }
    }
}

/// Inserts the reply's entry. Where its key is taken by another connection (one backend behind two
/// Services, or a port of the node in use), other source ports are tried.
#[inline(always)]
fn reserve(
    forward: &mut ConnectionV1,
    reply: &ConnectionV1,
    key: &mut TupleV1,
    now: u64,
) -> Result<(), Counter> {
    for _ in 0..PORT_ATTEMPTS {
        reverse(&forward.rewrite, key);
        if CONNECTIONS_V1
            .insert(&*key, reply, u64::from(BPF_NOEXIST))
            .is_ok()
        {
            return Ok(());
        }
        let Some(holder) = lookup(key) else {
            return Err(Counter::DropTableFull);
        };
        if same(&holder.rewrite, &reply.rewrite) || expired(key, holder, now) {
            return CONNECTIONS_V1
                .insert(&*key, reply, u64::from(BPF_ANY))
                .map_err(|_| Counter::DropTableFull);
        }
        forward.rewrite.source_port = source::random_port();
    }
    Err(Counter::DropNoPort)
}

#[inline(always)]
fn must_reopen(packet: &Packet, connection: &ConnectionV1, now: u64) -> bool {
    if expired(&packet.tuple, connection, now) || connection.flags & CONNECTION_CLOSING != 0 {
        return true;
    }
    let gone = services::backend(connection.backend).is_none();
    if gone && packet.tuple.protocol != IPPROTO_TCP {
        count(Counter::FlowsRebalanced);
    }
    gone
}

#[inline(always)]
fn expired(key: &TupleV1, connection: &ConnectionV1, now: u64) -> bool {
    let lifetime = if key.protocol != IPPROTO_TCP {
        UDP_LIFETIME
    } else if connection.flags & CONNECTION_CLOSING != 0 {
        CLOSING_LIFETIME
    } else {
        TCP_LIFETIME
    };
    now.saturating_sub(connection.last_seen) > lifetime
}

#[inline(always)]
fn lookup(key: &TupleV1) -> Option<&'static mut ConnectionV1> {
    CONNECTIONS_V1.get_ptr_mut(key).map(kernel::connection)
}

#[inline(always)]
fn remove(key: &TupleV1) {
    // Gone already is as good.
    let _removed = CONNECTIONS_V1.remove(key);
}

/// Writes the tuple of a packet that answers `tuple` to `answer`, field by field: a copy by value
/// would take room on the stack.
#[inline(always)]
fn reverse(tuple: &TupleV1, answer: &mut TupleV1) {
    answer.source = tuple.destination;
    answer.destination = tuple.source;
    answer.source_port = tuple.destination_port;
    answer.destination_port = tuple.source_port;
    answer.protocol = tuple.protocol;
    answer._pad = [0; 3];
}

/// Equality without a call to `memcmp`, which the BPF target does not have.
#[inline(always)]
fn same(a: &TupleV1, b: &TupleV1) -> bool {
    same_address(&a.source, &b.source)
        && same_address(&a.destination, &b.destination)
        && a.source_port == b.source_port
        && a.destination_port == b.destination_port
        && a.protocol == b.protocol
}
