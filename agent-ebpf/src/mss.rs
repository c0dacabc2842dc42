//! The longest segment that the ends of a TCP connection ask each other for (RFC 9293 §3.7.1), made
//! shorter where a tunnel begins: what an end is sent goes through the same tunnel as what it sends.
//!
//! Of direct return only the client's packets do, so its segments are made shorter by the backend's node,
//! in the answer to the SYN.

use agent_abi::connection::{CONNECTION_FORWARD, CONNECTION_TUNNELLED, ConnectionV3};
use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_TCP, checksum};
use aya_ebpf::bindings::__sk_buff;

use crate::global::global;
use crate::kernel;
use crate::maps::{self, Scratch, TUNNELS_V1, count};
use crate::packet::{Family, Parsed, SYN, V4_HEADER, V6_HEADER, parse_at};

const TCP_HEADER: u32 = 20;
/// Options of TCP (RFC 9293 §3.1).
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const MSS_LENGTH: u8 = 4;
/// Linux sends five at the most.
const OPTIONS_WALKED: u32 = 10;

/// What becomes of a segment that leaves by a tunnel's device.
#[inline(always)]
pub(crate) fn leave(skb: *mut __sk_buff, scratch: &Scratch) {
    if !opens_or_answers(scratch) {
        return;
    }
    let longest = kernel::number(TUNNELS_V1.get_ptr(scratch.interface));
    if longest != 0 {
        clamp_mss(skb, longest);
    }
}

/// The same at a device whose packets begin with the IP header. IPIP carries IPv4 alone.
#[inline(always)]
pub(crate) fn leave_bare(skb: *mut __sk_buff) {
    let Some(scratch) = maps::scratch() else {
        return;
    };
    scratch.interface = kernel::interface(skb);
    if parse_at(skb, 0, Family::V4, &mut scratch.packet) == Some(Parsed::Transport) {
        leave(skb, scratch);
    }
}

/// What becomes of a backend's answer to a client whose packets come in a tunnel.
#[inline(always)]
pub(crate) fn answer(skb: *mut __sk_buff, scratch: &Scratch, connection: &ConnectionV3) {
    let is_for_one =
        connection.flags & (CONNECTION_TUNNELLED | CONNECTION_FORWARD) == CONNECTION_TUNNELLED;
    if !is_for_one || !opens_or_answers(scratch) {
        return;
    }
    let header = match scratch.packet.family {
        Family::V4 => V4_HEADER,
        Family::V6 => V6_HEADER,
    };
    let mtu = maps::settings().map_or(0, |settings| settings.mtu);
    if mtu > header {
        clamp_mss(skb, mtu - header);
    }
}

#[inline(always)]
fn opens_or_answers(scratch: &Scratch) -> bool {
    let packet = &scratch.packet;
    packet.tuple.protocol == IPPROTO_TCP && !packet.later && packet.flags & SYN != 0
}

global! {
    /// Has the SYN in the scratch space ask for segments that fit packets of `longest` bytes, from the
    /// network header on. One that asks for none gets the shortest anyway.
    fn clamp_mss(skb: *mut __sk_buff, longest: u32) -> i32 {
        if let Some(scratch) = maps::scratch() {
            let _clamped = clamp(skb, scratch, longest);
        }
        0
    }
}

#[inline(always)]
fn clamp(skb: *mut __sk_buff, scratch: &Scratch, longest: u32) -> Option<()> {
    let packet = &scratch.packet;
    let headers = TCP_HEADER
        + match packet.family {
            Family::V4 => V4_HEADER,
            Family::V6 => V6_HEADER,
        };
    let fitting = u16::try_from(longest.checked_sub(headers)?).ok()?;
    let [offset] = kernel::load::<1>(skb, packet.transport + 12)?;
    let end = packet.transport + u32::from(offset >> 4) * 4;
    let mut at = packet.transport + TCP_HEADER;
    for _ in 0..OPTIONS_WALKED {
        if at + 1 >= end {
            return None;
        }
        let [kind, length] = kernel::load(skb, at)?;
        match kind {
            END => return None,
            NOTHING => at += 1,
            MSS if length == MSS_LENGTH => {
                return write(skb, scratch, at, fitting);
            }
            _ if length < 2 => return None,
            _ => at += u32::from(length),
        }
    }
    None
}

/// Writes the value of the option at `at`, if that makes it smaller.
#[inline(always)]
fn write(skb: *mut __sk_buff, scratch: &Scratch, at: u32, fitting: u16) -> Option<()> {
    let packet = &scratch.packet;
    // The checksum is of pairs of bytes from the header's beginning on.
    let is_odd = (at - packet.transport) % 2 == 1;
    let from = if is_odd { at + 1 } else { at };
    let old: [u8; 4] = kernel::load(skb, from)?;
    let [high, low] = fitting.to_be_bytes();
    let (asked, new) = match (old, is_odd) {
        ([first, a, b, last], true) => ([a, b], [first, high, low, last]),
        ([first, second, a, b], false) => ([a, b], [first, second, high, low]),
    };
    if u16::from_be_bytes(asked) <= fitting {
        return None;
    }
    let difference = checksum::difference(&[u32::from_ne_bytes(old)], &[u32::from_ne_bytes(new)]);
    kernel::replace_l4_checksum(skb, packet.transport_checksum(), difference.into(), 0).ok()?;
    kernel::store(skb, from, &new).ok()?;
    count(Counter::SegmentsClamped);
    Some(())
}
