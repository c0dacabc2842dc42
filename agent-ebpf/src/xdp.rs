//! `edge`: sends packets of Services with direct server return on before the stack has them.
//!
//! Hook: XDP of an uplink, in the driver; 5.10. What it sends on is what `uplink_ingress` would send,
//! in the same tunnel to the same node; whatever needs more than that it leaves to `uplink_ingress`.
//! Verdicts: transmit, redirect, drop (not in the Service's source ranges), pass.
//!
//! Reads the service tables, the connection tables and `EDGE_DEVICES_V1`. Any node that is handed a flow
//! chooses alike, and keeps what it has chosen while the backends change.

use agent_abi::connection::CONNECTION_TUNNEL;
use agent_abi::counters::Counter;
use agent_abi::service::{FRONTEND_DIRECT_RETURN, FRONTEND_SOURCE_RANGES, FrontendV2};
use agent_abi::settings::SettingsV2;
use agent_abi::{Address, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, mapped_v4};
use aya_ebpf::bindings::BPF_FIB_LKUP_RET_SUCCESS;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::maps::{self, EDGE_DEVICES_V1, Scratch, count};
use crate::packet::{Family, LINK_HEADER, Packet, V4_HEADER, V6_HEADER, same_address, sctp_flags};
use crate::{connections, flow, frame, kernel, route, services, tunnel};

const V4: [u8; 2] = [0x08, 0x00];
const V6: [u8; 2] = [0x86, 0xdd];
/// Version 4, a header without options.
const V4_WITHOUT_OPTIONS: u8 = 0x45;

/// What else becomes of a packet.
enum Instead {
    /// The stack, and the tc programs, get it.
    Pass,
    /// Nothing.
    Drop(Counter),
}

/// XDP of an uplink: Services with direct server return.
#[xdp]
pub(crate) fn edge(context: XdpContext) -> u32 {
    match process(context.ctx) {
        Ok(verdict) => verdict,
        Err(Instead::Pass) => XDP_PASS,
        Err(Instead::Drop(reason)) => {
            count(reason);
            flow::note(reason);
            flow::tell_drop(flow::IN_DRIVER);
            XDP_DROP
        }
    }
}

#[inline(always)]
fn process(xdp: *mut xdp_md) -> Result<u32, Instead> {
    let scratch = maps::scratch().ok_or(Instead::Pass)?;
    scratch.interface = frame::interface(xdp);
    parse(xdp, &mut scratch.packet).ok_or(Instead::Pass)?;
    let tuple = &scratch.packet.tuple;
    let frontend = services::frontend(tuple.destination, tuple.destination_port, tuple.protocol)
        .ok_or(Instead::Pass)?;
    if frontend.flags & (FRONTEND_DIRECT_RETURN | FRONTEND_SOURCE_RANGES) == 0 {
        return Err(Instead::Pass);
    }
    let now = kernel::now();
    if let Some(connection) = connections::find(scratch, now) {
        if connection.flags & CONNECTION_TUNNEL == 0 {
            return Err(Instead::Pass);
        }
        connections::note(scratch, connection, now);
        scratch.forward.rewrite.destination = connection.rewrite.destination;
    } else {
        let (backend, node) =
            choose(frontend, &scratch.packet).inspect_err(|_| scratch.frontend = *frontend)?;
        let service = frontend.service;
        // Without room for an entry, the next packet is chosen for as this one.
        if connections::open_tunnelled(scratch, (service, backend), node, now) {
            count(Counter::PacketConnections);
            if let Some(traffic) = maps::traffic(service) {
                traffic.connections += 1;
            }
        }
    }
    enter(xdp, frontend, scratch)
}

/// The backend that a packet without an entry belongs to, and its node.
#[inline(always)]
fn choose(frontend: &FrontendV2, packet: &Packet) -> Result<(u32, &'static Address), Instead> {
    let tuple = &packet.tuple;
    if frontend.flags & FRONTEND_SOURCE_RANGES != 0
        && !services::is_source_allowed(frontend.service, &tuple.source)
    {
        return Err(Instead::Drop(Counter::DropSourceRange));
    }
    if frontend.flags & FRONTEND_DIRECT_RETURN == 0 {
        return Err(Instead::Pass);
    }
    services::node_by_hash(frontend, tuple).ok_or(Instead::Pass)
}

/// Sends the packet to the node `scratch.forward.rewrite.destination`; the answer is the verdict.
#[inline(always)]
fn enter(xdp: *mut xdp_md, frontend: &FrontendV2, scratch: &mut Scratch) -> Result<u32, Instead> {
    let settings = maps::settings().ok_or(Instead::Pass)?;
    let Scratch {
        packet,
        forward,
        question,
        ..
    } = scratch;
    let family = packet.family;
    let (header, source) = match family {
        Family::V4 => (V4_HEADER, &settings.node_v4),
        Family::V6 => (V6_HEADER, &settings.node_v6),
    };
    let length = packet.transport - LINK_HEADER + packet.length;
    let too_big = settings.mtu != 0 && length + header > settings.mtu;
    if too_big || same_address(source, &[0; 16]) {
        return Err(Instead::Pass);
    }
    forward.rewrite.source = *source;
    let here = frame::interface(xdp);
    route::ask(question, here, family, &forward.rewrite);
    question.__bindgen_anon_1.tot_len = (length + header) as u16;
    // Without a resolved neighbour the stack has to ask for it, and the packet has to wait.
    if frame::fib_lookup(xdp, question) != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        return Err(Instead::Pass);
    }
    let out = question.ifindex;
    if out != here && EDGE_DEVICES_V1.get_ifindex(out).is_none() {
        return Err(Instead::Pass);
    }
    frame::make_room(xdp, header).ok_or(Instead::Pass)?;
    let destination = &forward.rewrite.destination;
    frame::store(xdp, 0, &question.dmac)
        .and_then(|()| frame::store(xdp, 6, &question.smac))
        .and_then(|()| match family {
            Family::V4 => wrap_v4(xdp, settings, destination, length),
            Family::V6 => wrap_v6(xdp, settings, destination, length),
        })
        .ok_or(Instead::Drop(Counter::DropFailed))?;
    count(Counter::TunnelSent);
    count(Counter::XdpSent);
    if let Some(traffic) = maps::traffic(frontend.service) {
        traffic.packets_in += 1;
        traffic.bytes_in += u64::from(length);
    }
    if out == here {
        return Ok(XDP_TX);
    }
    EDGE_DEVICES_V1
        .redirect(out, u64::from(XDP_DROP))
        .map_err(|_| Instead::Drop(Counter::DropFailed))
}

#[inline(always)]
fn wrap_v4(
    xdp: *mut xdp_md,
    settings: &SettingsV2,
    destination: &Address,
    length: u32,
) -> Option<()> {
    frame::store(xdp, 12, &V4)?;
    let header = tunnel::header_v4(&settings.node_v4, destination, length);
    frame::store(xdp, LINK_HEADER, &header)
}

#[inline(always)]
fn wrap_v6(
    xdp: *mut xdp_md,
    settings: &SettingsV2,
    destination: &Address,
    length: u32,
) -> Option<()> {
    frame::store(xdp, 12, &V6)?;
    frame::store(xdp, LINK_HEADER, &tunnel::start_v6(length))?;
    frame::store(xdp, LINK_HEADER + 8, &settings.node_v6)?;
    frame::store(xdp, LINK_HEADER + 24, destination)
}

/// Reads the headers of a whole packet of a protocol with ports, without options or extensions.
#[inline(always)]
fn parse(xdp: *mut xdp_md, packet: &mut Packet) -> Option<()> {
    packet.network = LINK_HEADER;
    packet.identification = [0; 4];
    packet.fragmented = false;
    packet.later = false;
    packet.tuple._pad = [0; 3];
    match frame::load(xdp, 12)? {
        V4 => parse_v4(xdp, packet)?,
        V6 => parse_v6(xdp, packet)?,
        _ => return None,
    }
    let end = packet.transport as usize + packet.length as usize;
    (end <= frame::length(xdp)).then_some(())
}

#[inline(always)]
fn parse_v4(xdp: *mut xdp_md, packet: &mut Packet) -> Option<()> {
    let header: [u8; V4_HEADER as usize] = frame::load(xdp, LINK_HEADER)?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if header[0] != V4_WITHOUT_OPTIONS || fragment & 0x3fff != 0 {
        return None;
    }
    packet.family = Family::V4;
    packet.tuple.source = mapped_v4([header[12], header[13], header[14], header[15]]);
    packet.tuple.destination = mapped_v4([header[16], header[17], header[18], header[19]]);
    packet.tuple.protocol = header[9];
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    packet.length = total.checked_sub(V4_HEADER)?;
    parse_transport(xdp, packet, LINK_HEADER + V4_HEADER)
}

#[inline(always)]
fn parse_v6(xdp: *mut xdp_md, packet: &mut Packet) -> Option<()> {
    let [version, _, _, _, l0, l1, protocol, _] = frame::load(xdp, LINK_HEADER)?;
    if version >> 4 != 6 {
        return None;
    }
    packet.family = Family::V6;
    packet.tuple.source = frame::load(xdp, LINK_HEADER + 8)?;
    packet.tuple.destination = frame::load(xdp, LINK_HEADER + 24)?;
    packet.tuple.protocol = protocol;
    packet.length = u32::from(u16::from_be_bytes([l0, l1]));
    parse_transport(xdp, packet, LINK_HEADER + V6_HEADER)
}

#[inline(always)]
fn parse_transport(xdp: *mut xdp_md, packet: &mut Packet, offset: u32) -> Option<()> {
    packet.transport = offset;
    let [s0, s1, d0, d1] = frame::load(xdp, offset)?;
    packet.tuple.source_port = [s0, s1];
    packet.tuple.destination_port = [d0, d1];
    packet.flags = match packet.tuple.protocol {
        IPPROTO_TCP => {
            let [flags] = frame::load(xdp, offset + 13)?;
            flags
        }
        IPPROTO_UDP => 0,
        IPPROTO_SCTP => {
            let [chunk] = frame::load(xdp, offset + 12)?;
            sctp_flags(chunk)
        }
        _ => return None,
    };
    Some(())
}
