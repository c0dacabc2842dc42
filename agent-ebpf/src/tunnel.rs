//! Direct server return: a client's packet goes to the backend's node as it is, in a tunnel
//! (RFC 2003, RFC 2473), and is translated there, so the reply leaves from there.
//!
//! No tunnel device is needed on either side, and nothing in the pod.

use agent_abi::connection::ConnectionV3;
use agent_abi::counters::Counter;
use agent_abi::settings::SettingsV2;
use agent_abi::{Address, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, is_v4, mapped_v4};
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, TC_ACT_SHOT,
};

use crate::error::{self, Message, folded};
use crate::flow;
use crate::forward::send;
use crate::global::{global, verdict};
use crate::kernel;
use crate::maps::{self, Scratch, count};
use crate::packet::{
    Family, Hook, IPPROTO_IPIP, IPPROTO_IPV6, LINK_HEADER, Packet, V4_HEADER, V6_HEADER,
    same_address,
};

const HOPS: u8 = 64;
/// Whatever the packet inside says (RFC 2003 §3.1 leaves it open): the other end takes no pieces,
/// and a packet that is never cut needs no identification (RFC 6864 §4.1).
const DONT_FRAGMENT: u8 = 0x40;

global! {
    /// Sends the packet to `scratch.forward.rewrite.destination`, a node; the answer is the verdict.
    fn enter(skb: *mut __sk_buff, hook: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| wrap(skb, hook.into(), scratch)))
    }

    /// Turns the packet into the error that says how long one may be; the answer is the verdict.
    fn answer_too_long(skb: *mut __sk_buff, hook: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| say_too_big(skb, hook.into(), scratch, scratch.longest)))
    }

    /// Takes the tunnel's header off the packet, where it is one that another node sent here so; the
    /// answer is [`LEFT`], [`NOT_OURS`] or the verdict of a drop.
    fn tunnel_leave(skb: *mut __sk_buff) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| unwrap(skb, &scratch.packet)))
    }
}

/// No verdict: the packet is to enter a tunnel. Who has the scratch space says so, and does not call
/// [`enter`], which has it too, and would be too deep there for the stack.
pub(crate) const ENTER: i32 = 102;
/// Answers of [`tunnel_leave`], of which none is a verdict.
pub(crate) const LEFT: i32 = 103;
pub(crate) const NOT_OURS: i32 = 104;

/// The same of a packet that is longer than `scratch.longest`, and is to be answered.
pub(crate) const TOO_LONG: i32 = 107;

/// The verdict where the answer of who has had the packet may be [`ENTER`] or [`TOO_LONG`].
#[inline(always)]
pub(crate) fn or_enter(skb: *mut __sk_buff, hook: Hook, answer: i32) -> i32 {
    let verdict = match answer {
        ENTER => enter(skb, hook as u32),
        TOO_LONG => answer_too_long(skb, hook as u32),
        verdict => return verdict,
    };
    if verdict != TC_ACT_SHOT && flow::is_noted() {
        flow::tell_drop(hook as u32);
    }
    verdict
}

#[inline(always)]
fn wrap(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Result<i32, Counter> {
    let settings = maps::settings().ok_or(Counter::DropFailed)?;
    let packet = &scratch.packet;
    let (header, family) = match packet.family {
        Family::V4 => (V4_HEADER, Family::V4),
        Family::V6 => (V6_HEADER, Family::V6),
    };
    let length = kernel::length(skb) - LINK_HEADER;
    if kernel::segment_size(skb) == 0 && settings.mtu != 0 && length + header > settings.mtu {
        if !has_ports(packet.tuple.protocol) {
            // An error is never answered with an error (RFC 1122 §3.2.2, RFC 4443 §2.4).
            return Err(Counter::DropTooBig);
        }
        return say_too_big(skb, hook, scratch, settings.mtu - header);
    }
    match family {
        Family::V4 => enter_v4(skb, settings, &scratch.forward, length),
        Family::V6 => enter_v6(skb, settings, &scratch.forward, length),
    }
    .map_err(|_| Counter::DropFailed)?;
    count(Counter::TunnelSent);
    scratch.forward.rewrite.source = match family {
        Family::V4 => settings.node_v4,
        Family::V6 => settings.node_v6,
    };
    send(skb, family, scratch).ok_or(Counter::DropNoRoute)
}

#[inline(always)]
fn say_too_big(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    longest: u32,
) -> Result<i32, Counter> {
    count(Counter::DropTooBig);
    flow::note(Counter::DropTooBig);
    error::send(skb, hook, scratch, Message::too_big(longest))
}

#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP)
}

#[inline(always)]
fn enter_v4(
    skb: *mut __sk_buff,
    settings: &SettingsV2,
    connection: &ConnectionV3,
    length: u32,
) -> Result<(), i64> {
    kernel::insert_tunnel_header(skb, V4_HEADER, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4)?;
    let destination = &connection.rewrite.destination;
    let header = header_v4(&settings.node_v4, destination, length);
    kernel::store(skb, LINK_HEADER, &header)
}

#[inline(always)]
fn enter_v6(
    skb: *mut __sk_buff,
    settings: &SettingsV2,
    connection: &ConnectionV3,
    length: u32,
) -> Result<(), i64> {
    kernel::insert_tunnel_header(skb, V6_HEADER, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)?;
    kernel::store(skb, LINK_HEADER, &start_v6(length))?;
    kernel::store(skb, LINK_HEADER + 8, &settings.node_v6)?;
    kernel::store(skb, LINK_HEADER + 24, &connection.rewrite.destination)
}

/// The tunnel's IPv4 header for a packet of `length` bytes (RFC 2003 §3.1).
#[inline(always)]
pub(crate) fn header_v4(s: &Address, d: &Address, length: u32) -> [u8; V4_HEADER as usize] {
    let [_, _, t0, t1] = (length + V4_HEADER).to_be_bytes();
    let mut header = [
        0x45,
        0,
        t0,
        t1,
        0,
        0,
        DONT_FRAGMENT,
        0,
        HOPS,
        IPPROTO_IPIP,
        0,
        0,
        s[12],
        s[13],
        s[14],
        s[15],
        d[12],
        d[13],
        d[14],
        d[15],
    ];
    [header[10], header[11]] = folded(kernel::checksum_difference(&[], &header, 0));
    header
}

/// The tunnel's IPv6 header for a packet of `length` bytes (RFC 2473 §5), up to the addresses.
#[inline(always)]
pub(crate) fn start_v6(length: u32) -> [u8; 8] {
    let [_, _, l0, l1] = length.to_be_bytes();
    [0x60, 0, 0, 0, l0, l1, IPPROTO_IPV6, HOPS]
}

/// Whether a packet in a packet is one that another node sent here so: to a frontend. Others may
/// be for a tunnel device of the node; from anybody else, a client could choose its address as it
/// likes.
#[inline(always)]
fn is_ours(skb: *mut __sk_buff, packet: &Packet) -> bool {
    let Some(settings) = maps::settings() else {
        return false;
    };
    let expected = match packet.family {
        Family::V4 => IPPROTO_IPIP,
        Family::V6 => IPPROTO_IPV6,
    };
    let node = if is_v4(&packet.tuple.destination) {
        &settings.node_v4
    } else {
        &settings.node_v6
    };
    packet.tuple.protocol == expected
        && !packet.fragmented
        && packet.transport - packet.network
            == match packet.family {
                Family::V4 => V4_HEADER,
                Family::V6 => V6_HEADER,
            }
        && same_address(&packet.tuple.destination, node)
        && maps::is_node(&packet.tuple.source)
        && inner_destination(skb, packet).is_some_and(|address| maps::is_frontend(&address))
}

#[inline(always)]
fn inner_destination(skb: *mut __sk_buff, packet: &Packet) -> Option<Address> {
    match packet.family {
        Family::V4 => kernel::load(skb, packet.transport + 16).map(mapped_v4),
        Family::V6 => kernel::load(skb, packet.transport + 24),
    }
}

#[inline(always)]
fn unwrap(skb: *mut __sk_buff, packet: &Packet) -> Result<i32, Counter> {
    if !is_ours(skb, packet) {
        return Ok(NOT_OURS);
    }
    let header = match packet.family {
        Family::V4 => V4_HEADER,
        Family::V6 => V6_HEADER,
    };
    kernel::remove_tunnel_header(skb, header).map_err(|_| Counter::DropFailed)?;
    count(Counter::TunnelReceived);
    Ok(LEFT)
}
