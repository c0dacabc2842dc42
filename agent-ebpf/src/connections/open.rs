//! Opening a connection to a backend.

use agent_abi::Address;
use agent_abi::connection::{
    CONNECTION_FORWARD, CONNECTION_PAD, CONNECTION_TUNNEL, CONNECTION_TUNNELLED, ConnectionV3,
    EPOCH_UNJUDGED, TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::service::{
    BACKEND_LOCAL, BackendV2, FRONTEND_DIRECT_RETURN, FRONTEND_SOURCE_RANGES, FrontendV2,
};
use aya_ebpf::bindings::__sk_buff;

use super::ports::{Place, reserve};
use super::{begin, remove_opening, reverse, same, translated};
use crate::global::global;
use crate::kernel;
use crate::maps::{self, Scratch, count};
use crate::packet::{Hook, Packet, same_address};
use crate::services::{self, Choice};
use crate::source;

/// What came of opening a connection.
pub(crate) enum Opened {
    /// It is in `scratch.forward`.
    Connection,
    /// There is one, for [`find`](super::find) to judge.
    Known,
    NoEndpoint,
}

/// Opens a connection to a backend of `scratch.frontend`. A packet that came through a tunnel goes into no
/// other.
///
/// Where `may_be_known`, nobody has looked yet whether the packet's connection is there, since the tables
/// do not fit the processor's cache, and each look-up waits for memory. What is chosen is a function of
/// the packet, so the replies' entry tells as well, unless the set has changed since; then the first
/// reply tells (`opening`), and the packet's repetition goes where it belongs.
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
    if !alone && !begin(&packet.tuple, forward) {
        // Another packet of the same connection was faster on another CPU: its choice holds.
        if let Some(winner) = translated(&packet.tuple) {
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
    translated(tuple).is_some()
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
    let is_inside = source::is_inside(hook, &tuple.source);
    let chosen = services::choose(frontend, is_inside, tuple, affinity, now);
    let (id, backend) = match chosen {
        Choice::Backend { id, backend } => (id, backend),
        Choice::NoEndpoint => return NO_ENDPOINT,
        Choice::NoLocalEndpoint => return NO_LOCAL_ENDPOINT,
        Choice::Unsettled | Choice::ByPacket => return NO_BACKEND,
    };
    prepare(forward, (frontend.service, id), now);
    if hook == Hook::Egress {
        let Some(mac) = kernel::load(skb, 6) else {
            return FAILED;
        };
        forward.host_interface = kernel::interface(skb);
        forward.host_mac = mac;
    }
    let direct = frontend.flags & FRONTEND_DIRECT_RETURN != 0
        && hook == Hook::UplinkIngress
        && !tunnelled
        && backend.flags & BACKEND_LOCAL == 0
        && !same_address(&backend.node, &[0; 16]);
    if direct {
        enter_tunnel(forward, &packet.tuple, &backend.node);
        return TUNNEL;
    }
    if tunnelled {
        forward.flags |= CONNECTION_TUNNELLED;
    }
    let keep_port = aim(hook, packet, frontend, backend, &mut forward.rewrite);
    *reply = *forward;
    reverse(&packet.tuple, &mut reply.rewrite);
    reply.flags ^= CONNECTION_FORWARD;
    if keep_port { KEEP_PORT } else { OTHER_PORT }
}

/// Begins the client's entry of a connection of a Service to a backend.
#[inline(always)]
fn prepare(forward: &mut ConnectionV3, (service, backend): (u32, u32), now: u64) {
    forward.backend = backend;
    forward.service = service;
    forward.flags = CONNECTION_FORWARD;
    forward.last_seen = now;
    forward.epoch = EPOCH_UNJUDGED;
    forward.interface = 0;
    forward.host_interface = 0;
    forward.host_mac = [0; 6];
    forward._pad = [0; CONNECTION_PAD];
}

/// Has packets `tuple` go to a backend's node as they are.
#[inline(always)]
fn enter_tunnel(forward: &mut ConnectionV3, tuple: &TupleV1, node: &Address) {
    forward.rewrite = *tuple;
    forward.rewrite.destination = *node;
    forward.flags |= CONNECTION_TUNNEL;
}

/// Opens a connection that goes to its backend's node as it is, in `scratch.forward`; whether there was
/// room for its entry.
#[inline(always)]
pub(crate) fn open_tunnelled(
    scratch: &mut Scratch,
    of: (u32, u32),
    node: &Address,
    now: u64,
) -> bool {
    let Scratch {
        packet, forward, ..
    } = scratch;
    prepare(forward, of, now);
    enter_tunnel(forward, &packet.tuple, node);
    begin(&packet.tuple, forward)
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
