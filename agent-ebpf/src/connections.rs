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

use agent_abi::connection::{
    CONNECTION_ANSWERED, CONNECTION_CLOSING, CONNECTION_FORWARD, CONNECTION_PAD, CONNECTION_TUNNEL,
    ConnectionV2, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::egress;
use agent_abi::service::{
    BACKEND_LOCAL, BackendV2, FRONTEND_DIRECT_RETURN, FRONTEND_SOURCE_RANGES, FrontendV2,
};
use agent_abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use aya_ebpf::bindings::{__sk_buff, BPF_ANY, BPF_NOEXIST};

use crate::global::global;
use crate::kernel;
use crate::maps::{self, CONNECTIONS_V2, OPENING_V2, Scratch, count};
use crate::packet::{Hook, Packet, same_address};
use crate::services::{self, Choice};
use crate::source;

const SECOND: u64 = 1_000_000_000;
/// A connection that only one side has sent for holds its source port for this long; TCP gives up
/// on its first SYNs later, and its next one opens anew.
const OPENING_LIFETIME: u64 = 30 * SECOND;
/// Attempts to find a free source port; with half of all ports taken, one of 65,536 searches fails.
const PORT_ATTEMPTS: u32 = 16;
/// Of them, those that leave a connection that has ended its port for as long as is asked. When these
/// fail, ports are scarce, and one that is quiet has to do: a client that cannot connect waits for a
/// second. One side may still send after the other's FIN, but then it is not quiet.
const PATIENT_ATTEMPTS: u32 = 6;
const QUIET: u64 = 2 * SECOND;

/// What came of opening a connection.
pub(crate) enum Opened {
    /// It is in `scratch.forward`.
    Connection,
    /// There is one, for [`find`] to judge.
    Known,
    NoEndpoint,
}

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

/// Where a connection that is being opened stands. One side alone has sent, or the client has not shown
/// that it receives.
const WAITS: i32 = 0;
/// Both sides have sent, and the client has shown that it receives: its segment after the other side's.
/// For what is no TCP, the other side's own packet is enough. Of a tunnelled connection the answers are
/// not seen here.
const ANSWERED: i32 = 1;
/// The packet is of a backend that a packet of the client went to, but the connection is another one's:
/// the set has changed between two of them. What is not translated the client refuses. The entry stays,
/// so that what the client sends again goes to the other one.
const STALE: i32 = 2;

global! {
    /// What the packet makes of its connection, which is being opened. The first reply writes the
    /// client's entry: whose backend answers first has the connection.
    fn opening_progress(protocol: u32) -> i32 {
        let is_tcp = protocol == u32::from(IPPROTO_TCP);
        let answer = maps::scratch().and_then(|scratch| progress(scratch, is_tcp));
        answer.unwrap_or(WAITS)
    }
}

#[inline(always)]
fn progress(scratch: &mut Scratch, is_tcp: bool) -> Option<i32> {
    let Scratch {
        packet,
        reply: restored,
        reply_key: forward_key,
        now,
        ..
    } = scratch;
    let connection = lookup_opening(&packet.tuple)?;
    if connection.flags & CONNECTION_FORWARD != 0 {
        let answered = connection.flags & (CONNECTION_ANSWERED | CONNECTION_TUNNEL) != 0;
        let follows = is_tcp && answered && !packet.opens() && !packet.closes();
        return Some(if follows { ANSWERED } else { WAITS });
    }
    reverse(&connection.rewrite, forward_key);
    if let Some(known) = lookup(forward_key).or_else(|| lookup_opening(forward_key)) {
        let is_its_own = answers(&packet.tuple, &known.rewrite);
        if !must_reopen(packet, known, *now) {
            if !is_its_own {
                return Some(STALE);
            }
            known.flags |= CONNECTION_ANSWERED;
            return Some(if is_tcp { WAITS } else { ANSWERED });
        }
        if !is_its_own {
            remove(&known.rewrite.reversed());
        }
        remove(forward_key);
    }
    if !is_tcp {
        return Some(ANSWERED);
    }
    *restored = *connection;
    reverse(&packet.tuple, &mut restored.rewrite);
    restored.flags |= CONNECTION_FORWARD | CONNECTION_ANSWERED;
    // Where it fails, so does the connection: the client's next segment opens none.
    let _inserted = insert_opening(forward_key, restored);
    Some(WAITS)
}

/// Moves a pair to the table of connections that work.
#[inline(never)]
fn promote(scratch: &mut Scratch, connection: &ConnectionV2, now: u64) {
    scratch.forward = *connection;
    scratch.forward.last_seen = now;
    scratch.forward.flags |= CONNECTION_ANSWERED;
    let any = u64::from(BPF_ANY);
    // Where the table refuses, the pair stays where it is, and works.
    if CONNECTIONS_V2
        .insert(&scratch.packet.tuple, &scratch.forward, any)
        .is_err()
    {
        return;
    }
    if connection.flags & CONNECTION_TUNNEL == 0 {
        reverse(&scratch.forward.rewrite, &mut scratch.reply_key);
        scratch.reply = scratch.forward;
        reverse(&scratch.packet.tuple, &mut scratch.reply.rewrite);
        scratch.reply.flags ^= CONNECTION_FORWARD;
        // The first entry restores the second where this fails.
        let _other = CONNECTIONS_V2.insert(&scratch.reply_key, &scratch.reply, any);
        remove_opening(&scratch.reply_key);
    }
    remove_opening(&scratch.packet.tuple);
    count(Counter::ConnectionsPromoted);
}

/// Makes way for a TCP connection past every Service. A client may give it the source port of a
/// translated connection that has ended, and its replies would pass for replies of that one.
#[inline(always)]
pub(crate) fn make_way(packet: &Packet, now: u64) {
    if packet.tuple.protocol != IPPROTO_TCP || !packet.opens() {
        return;
    }
    let reply_key = packet.tuple.reversed();
    let Some(reply) = lookup(&reply_key).or_else(|| lookup_opening(&reply_key)) else {
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

/// Opens a connection to a backend of `scratch.frontend`. A packet that came through a tunnel goes into no
/// other.
///
/// Where `may_be_known`, nobody has looked yet whether the packet's connection is there, since the tables
/// do not fit the processor's cache, and each look-up waits for memory. What is chosen is a function of
/// the packet, so the replies' entry tells as well, unless the set has changed since; then the first
/// reply tells ([`progress`]), and the packet's repetition goes where it belongs.
#[inline(always)]
pub(crate) fn open(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    tunnelled: bool,
    may_be_known: bool,
) -> Result<Opened, Counter> {
    let aimed = choose_backend(skb, hook as u32, u32::from(tunnelled));
    let keep_port = match aimed {
        TUNNEL if may_be_known && is_known(&scratch.packet.tuple) => return Ok(Opened::Known),
        NO_ENDPOINT..=FAILED if may_be_known => return Ok(Opened::Known),
        TUNNEL => None,
        KEEP_PORT | OTHER_PORT => Some(aimed == KEEP_PORT),
        NO_ENDPOINT => return Ok(Opened::NoEndpoint),
        SOURCE_RANGE => return Err(Counter::DropSourceRange),
        NO_LOCAL_ENDPOINT => return Err(Counter::DropNoLocalEndpoint),
        NO_BACKEND => return Err(Counter::DropNoBackend),
        _ => return Err(Counter::DropFailed),
    };
    let place = match keep_port {
        Some(keep_port) => reserve(scratch, keep_port, may_be_known)?,
        None => Place::First,
    };
    if place == Place::Known {
        return Ok(Opened::Known);
    }
    let Scratch {
        packet,
        forward,
        reply_key,
        begun,
        ..
    } = scratch;
    *begun = u64::from(place != Place::Again);
    // Its replies' entry is enough until a reply comes, or the client's second packet.
    let alone = keep_port.is_some() && place == Place::First;
    if !alone && !insert_opening(&packet.tuple, forward) {
        // Another packet of the same connection was faster on another CPU: its choice holds.
        let winner = lookup_opening(&packet.tuple).or_else(|| lookup(&packet.tuple));
        if let Some(winner) = winner {
            if keep_port.is_some() && !same(&winner.rewrite, &forward.rewrite) {
                remove_opening(reply_key);
            }
            *forward = *winner;
            *begun = 0;
            return Ok(Opened::Connection);
        }
        if keep_port.is_some() {
            remove_opening(reply_key);
        }
        return Err(Counter::DropTableFull);
    }
    if *begun != 0 {
        count(Counter::PacketConnections);
    }
    Ok(Opened::Connection)
}

#[inline(always)]
fn is_known(tuple: &TupleV1) -> bool {
    lookup(tuple).or_else(|| lookup_opening(tuple)).is_some()
}

/// Answers of [`choose_backend`]. To a backend, with the client's own source port if it is free, or with
/// another; to a backend's node, as it is; why to none.
const KEEP_PORT: i32 = 0;
const OTHER_PORT: i32 = 1;
const TUNNEL: i32 = 2;
const NO_ENDPOINT: i32 = 3;
const SOURCE_RANGE: i32 = 4;
const NO_LOCAL_ENDPOINT: i32 = 5;
const NO_BACKEND: i32 = 6;
const FAILED: i32 = 7;

global! {
    /// Chooses a backend of `scratch.frontend`, and fills in both entries but for the source port.
    fn choose_backend(skb: *mut __sk_buff, hook: u32, tunnelled: u32) -> i32 {
        match maps::scratch() {
            Some(scratch) => aim_at_backend(skb, hook.into(), scratch, tunnelled != 0),
            None => FAILED,
        }
    }
}

#[inline(always)]
fn aim_at_backend(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch, tunnelled: bool) -> i32 {
    let Scratch {
        packet,
        affinity,
        forward,
        reply,
        frontend,
        now,
        ..
    } = scratch;
    let (frontend, now) = (&*frontend, *now);
    let tuple = &packet.tuple;
    if frontend.flags & FRONTEND_SOURCE_RANGES != 0
        && !services::is_source_allowed(frontend.service, &tuple.source)
    {
        return SOURCE_RANGE;
    }
    let chosen = services::choose(frontend, hook.is_inside(), tuple, affinity, now);
    let (id, backend) = match chosen {
        Choice::Backend { id, backend } => (id, backend),
        Choice::NoEndpoint => return NO_ENDPOINT,
        Choice::NoLocalEndpoint => return NO_LOCAL_ENDPOINT,
        Choice::Unsettled | Choice::ByPacket => return NO_BACKEND,
    };
    forward.backend = id;
    forward.service = frontend.service;
    forward.flags = CONNECTION_FORWARD;
    forward.last_seen = now;
    forward._pad = [0; CONNECTION_PAD];
    (forward.host_interface, forward.host_mac) = match hook {
        Hook::Egress => match kernel::load(skb, 6) {
            Some(mac) => (kernel::interface(skb), mac),
            None => return FAILED,
        },
        Hook::UplinkIngress | Hook::WorkloadIngress => (0, [0; 6]),
    };
    let direct = frontend.flags & FRONTEND_DIRECT_RETURN != 0
        && hook == Hook::UplinkIngress
        && !tunnelled
        && backend.flags & BACKEND_LOCAL == 0
        && !same_address(&backend.node, &[0; 16]);
    if direct {
        forward.rewrite = packet.tuple;
        forward.rewrite.destination = backend.node;
        forward.flags |= CONNECTION_TUNNEL;
        return TUNNEL;
    }
    let keep_port = aim(hook, packet, frontend, backend, &mut forward.rewrite);
    *reply = *forward;
    reverse(&packet.tuple, &mut reply.rewrite);
    reply.flags = 0;
    if keep_port { KEEP_PORT } else { OTHER_PORT }
}

/// What the packet leaves as, before a free source port is found; whether the port is the client's
/// own, which is tried first.
#[inline(always)]
fn aim(
    hook: Hook,
    packet: &Packet,
    frontend: &FrontendV2,
    backend: &BackendV2,
    target: &mut TupleV1,
) -> bool {
    *target = packet.tuple;
    target.destination = backend.address;
    target.destination_port = backend.port;
    match source::translation(hook, &packet.tuple, frontend, backend) {
        source::Translation::Keep => true,
        source::Translation::Hairpin => {
            target.source = packet.tuple.destination;
            true
        }
        source::Translation::Node(address) => {
            target.source = address;
            false
        }
    }
}

/// Which packet of a connection the replies' entry was written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first.
    First,
    /// The client's second one, before any reply.
    Again,
    /// Of a connection that is there.
    Known,
}

/// Inserts the reply's entry. Where its key is taken by another connection (one backend behind two
/// Services, or a port of the node in use), other source ports are tried.
#[inline(never)]
pub(crate) fn reserve(
    scratch: &mut Scratch,
    keep_port: bool,
    may_be_known: bool,
) -> Result<Place, Counter> {
    let Scratch {
        forward,
        reply,
        reply_key: key,
        now,
        ..
    } = scratch;
    let (reply, now) = (&*reply, *now);
    let settings = maps::settings().ok_or(Counter::DropFailed)?;
    let closing_lifetime = u64::from(settings.tcp_closing_seconds) * SECOND;
    let lifetime = u64::from(if is_brief(reply.rewrite.protocol) {
        settings.udp_seconds
    } else {
        settings.tcp_seconds
    }) * SECOND;
    let ports = source::Ports::of(&reply.rewrite);
    for attempt in 0..PORT_ATTEMPTS {
        if attempt > 0 || !keep_port {
            forward.rewrite.source_port = ports.nth(attempt);
        }
        reverse(&forward.rewrite, key);
        // The insertion would tell that there is none, but it takes a lock, and waits for memory
        // before; two look-ups in a row wait for it together.
        let holder = match lookup(key).or_else(|| lookup_opening(key)) {
            Some(holder) => holder,
            None if insert_opening(key, reply) => return Ok(Place::First),
            // What took the place in between is gone again, or the table takes nothing.
            None => lookup_opening(key).ok_or(Counter::DropTableFull)?,
        };
        let idle = now.saturating_sub(holder.last_seen);
        let is_ours = same(&holder.rewrite, &reply.rewrite);
        let is_open = holder.flags & (CONNECTION_CLOSING | CONNECTION_ANSWERED) == 0;
        let waits = if holder.flags & CONNECTION_CLOSING != 0 {
            if attempt < PATIENT_ATTEMPTS {
                closing_lifetime
            } else {
                closing_lifetime.min(QUIET)
            }
        } else if is_open {
            // In the table of those that work, all have the bit for an answer.
            OPENING_LIFETIME
        } else {
            lifetime
        };
        let is_over = idle > waits || holder.flags & CONNECTION_CLOSING != 0;
        if is_ours && !is_over && may_be_known {
            return Ok(Place::Known);
        }
        if is_ours || idle > waits {
            // In this order, so that no reply meets neither of them.
            OPENING_V2
                .insert(&*key, reply, u64::from(BPF_ANY))
                .map_err(|_| Counter::DropTableFull)?;
            let _removed = CONNECTIONS_V2.remove(&*key);
            return Ok(if is_ours && is_open && !is_over {
                Place::Again
            } else {
                Place::First
            });
        }
    }
    Err(Counter::DropNoPort)
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
