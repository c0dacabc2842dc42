//! ICMP errors about translated packets (RFC 5508 §4): who sent the packet knows it by other
//! addresses than the error quotes.
//!
//! The error's destination and the packet it quotes are turned back. Its source stays, so that
//! traceroute shows the router, unless it is the backend itself, which the client does not know.

use agent_abi::connection::{CONNECTION_TUNNEL, TupleV1};
use agent_abi::counters::Counter;
use agent_abi::service::{FRONTEND_DIRECT_RETURN, FrontendV2};
use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR, TC_ACT_UNSPEC};

use crate::forward::forward;
use crate::global::{global, verdict};
use crate::kernel;
use crate::maps::{self, Scratch, count};
use crate::packet::{Family, Hook, Packet, Parsed, is_icmp, parse_at, same_address};
use crate::rewrite::{ports, v4_addresses, v6_difference};
use crate::{connections, egress, services, tunnel};

const ICMP_HEADER: u32 = 8;
const PORTS: u32 = 4;
/// Where the identifier of an echo is (RFC 792, RFC 4443 §4.1).
pub(crate) const IDENTIFIER: u32 = 4;

global! {
    /// Translates an error that concerns a connection; the answer is the verdict, or
    /// [`tunnel::ENTER`].
    fn translate_error(skb: *mut __sk_buff, hook: u32, tunnelled: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        let may_tunnel = hook == Hook::UplinkIngress as u32 && tunnelled == 0;
        verdict(scratch.and_then(|scratch| translate(skb, hook.into(), scratch, may_tunnel)))
    }
}

#[inline(always)]
fn translate(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    may_tunnel: bool,
) -> Result<i32, Counter> {
    let Scratch {
        packet,
        inner,
        reply_key,
        forward: outer,
        ..
    } = scratch;
    let at = packet.transport + ICMP_HEADER;
    let parsed = parse_at(skb, at, packet.family, inner);
    let is_echo = parsed.is_none() && egress::is_echo(skb, inner);
    // Bytes behind the error's own end are no part of what it quotes, nor of its checksum.
    if (parsed != Some(Parsed::Transport) && !is_echo)
        || inner.transport + PORTS > packet.transport + packet.length
    {
        return Ok(TC_ACT_UNSPEC);
    }
    connections::reverse(&inner.tuple, reply_key);
    let found = connections::translated(reply_key);
    // The answer that it is about left from the backend's node, which knows how to translate it.
    let node = match &found {
        Some(connection) if connection.flags & CONNECTION_TUNNEL != 0 => {
            Some(&connection.rewrite.destination)
        }
        Some(_) => None,
        // Of a flow that another node was handed first, the hash tells as well.
        None => frontend_of(reply_key)
            .and_then(|frontend| services::node_by_hash(frontend, reply_key))
            .map(|(_, node)| node),
    };
    if let Some(node) = node.filter(|_| may_tunnel) {
        outer.rewrite.destination = *node;
        return Ok(tunnel::ENTER);
    }
    let Some(connection) = found.filter(|found| found.flags & CONNECTION_TUNNEL == 0) else {
        return Ok(TC_ACT_UNSPEC);
    };
    // As an answer to the quoted packet would, the error goes where that came from.
    *outer = *connection;
    outer.rewrite.protocol = packet.tuple.protocol;
    if !same_address(&packet.tuple.source, &inner.tuple.destination) {
        outer.rewrite.source = packet.tuple.source;
    }
    connections::reverse(&connection.rewrite, reply_key);
    change(skb, scratch)?;
    count(Counter::ErrorsTranslated);
    forward(skb, hook, scratch)
}

#[inline(always)]
fn frontend_of(tuple: &TupleV1) -> Option<&'static FrontendV2> {
    services::frontend(tuple.destination, tuple.destination_port, tuple.protocol)
        .filter(|frontend| frontend.flags & FRONTEND_DIRECT_RETURN != 0)
}

#[inline(never)]
fn change(skb: *mut __sk_buff, scratch: &mut Scratch) -> Result<(), Counter> {
    let Scratch {
        packet,
        inner,
        reply_key,
        forward,
        ..
    } = scratch;
    write(skb, packet, inner, &forward.rewrite, reply_key).map_err(|_| Counter::DropFailed)
}

/// Writes the addresses of an error and of what it quotes, with the checksums of both. The quoted
/// transport checksum is left alone: nobody can check it, as the packet is not there.
#[inline(always)]
fn write(
    skb: *mut __sk_buff,
    outer: &Packet,
    inner: &Packet,
    to: &TupleV1,
    quoted: &TupleV1,
) -> Result<(), i64> {
    let of_ports = kernel::checksum_difference(&ports(&inner.tuple), &ports(quoted), 0);
    let checksum = outer.transport + 2;
    match outer.family {
        Family::V4 => {
            let (old, new) = (v4_addresses(&inner.tuple), v4_addresses(quoted));
            let difference = kernel::checksum_difference(&old, &new, 0);
            // The quoted header's own checksum changes as its addresses do, so the sum of the
            // whole does not change by either.
            kernel::replace_l3_checksum(skb, inner.network + 10, difference)?;
            kernel::store(skb, inner.network + 12, &new)?;
            kernel::replace_l4_checksum(skb, checksum, of_ports, 0)?;
            let (old, new) = (v4_addresses(&outer.tuple), v4_addresses(to));
            let difference = kernel::checksum_difference(&old, &new, 0);
            kernel::replace_l3_checksum(skb, outer.network + 10, difference)?;
            kernel::store(skb, outer.network + 12, &new)?;
        }
        Family::V6 => {
            let of_quoted = v6_difference(&inner.tuple, quoted);
            kernel::replace_l4_checksum(skb, checksum, of_quoted.into(), 0)?;
            kernel::replace_l4_checksum(skb, checksum, of_ports, 0)?;
            kernel::store(skb, inner.network + 8, &quoted.source)?;
            kernel::store(skb, inner.network + 24, &quoted.destination)?;
            let of_outer = v6_difference(&outer.tuple, to);
            kernel::replace_l4_checksum_v6(
                skb,
                checksum,
                of_outer.into(),
                u64::from(BPF_F_PSEUDO_HDR),
            )?;
            kernel::store(skb, outer.network + 8, &to.source)?;
            kernel::store(skb, outer.network + 24, &to.destination)?;
        }
    }
    if is_icmp(inner.tuple.protocol) {
        return kernel::store(
            skb,
            inner.transport + IDENTIFIER,
            &egress::identifier(quoted),
        );
    }
    kernel::store(skb, inner.transport, &ports(quoted))
}
