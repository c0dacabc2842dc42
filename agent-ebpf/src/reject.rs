//! Answering at once where a Service has no endpoint: TCP RST (RFC 9293 §3.10.7.1) or ICMP port
//! unreachable (RFC 792, RFC 4443 §3.1), sent back the way the packet came.

use agent_abi::IPPROTO_TCP;
use agent_abi::counters::Counter;
use aya_ebpf::bindings::__sk_buff;

use crate::error::{self, Message, answer};
use crate::global::{global, verdict};
use crate::kernel;
use crate::maps::{self, Scratch, count};
use crate::packet::{ACK, FIN, Family, Hook, Packet, RST, SYN};

global! {
    /// Turns the packet into its rejection; the answer is the verdict.
    fn reject(skb: *mut __sk_buff, hook: u32) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| refuse(skb, hook.into(), scratch)))
    }
}

#[inline(always)]
fn refuse(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Result<i32, Counter> {
    let verdict = if scratch.packet.tuple.protocol == IPPROTO_TCP {
        if scratch.packet.flags & RST != 0 {
            // A reset is never answered.
            return Err(Counter::DropNoBackend);
        }
        reset(skb, &scratch.packet)?;
        answer(skb, hook)
    } else {
        error::send(skb, hook, scratch, Message::PORT_UNREACHABLE)
    }?;
    count(Counter::PacketsRejected);
    Ok(verdict)
}

/// Turns a TCP segment into the reset that answers it. Addresses and ports are swapped, which no
/// checksum notices; options and data stay, since they do not matter in a reset.
#[inline(always)]
fn reset(skb: *mut __sk_buff, packet: &Packet) -> Result<(), Counter> {
    let old: [u8; 12] = kernel::load(skb, packet.transport + 4).ok_or(Counter::DropFailed)?;
    let header = u32::from(old[8] >> 4) * 4;
    // Not the frame's: Ethernet pads short ones.
    let data = packet.length.saturating_sub(header);
    let [s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, ..] = old;
    let (sequence, acknowledged, answer) = if flags & ACK != 0 {
        ([a0, a1, a2, a3], [0; 4], RST)
    } else {
        let one = |flag| u32::from(flags & flag != 0);
        let next = u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(data + one(SYN) + one(FIN));
        ([0; 4], next.to_be_bytes(), RST | ACK)
    };
    let ([q0, q1, q2, q3], [n0, n1, n2, n3]) = (sequence, acknowledged);
    let new = [q0, q1, q2, q3, n0, n1, n2, n3, offset, answer, 0, 0];
    let difference = kernel::checksum_difference(&old, &new, 0);
    kernel::replace_l4_checksum(skb, packet.transport_checksum(), difference, 0)
        .and_then(|()| kernel::store(skb, packet.transport + 4, &new))
        .and_then(|()| swap_ports(skb, packet))
        .and_then(|()| swap_addresses(skb, packet))
        .map_err(|_| Counter::DropFailed)
}

#[inline(always)]
fn swap_ports(skb: *mut __sk_buff, packet: &Packet) -> Result<(), i64> {
    let ([s0, s1], [d0, d1]) = (packet.tuple.source_port, packet.tuple.destination_port);
    kernel::store(skb, packet.transport, &[d0, d1, s0, s1])
}

#[inline(always)]
fn swap_addresses(skb: *mut __sk_buff, packet: &Packet) -> Result<(), i64> {
    let (source, destination) = (&packet.tuple.source, &packet.tuple.destination);
    match packet.family {
        Family::V4 => {
            let (s, d) = (source, destination);
            kernel::store(
                skb,
                packet.network + 12,
                &[d[12], d[13], d[14], d[15], s[12], s[13], s[14], s[15]],
            )
        }
        Family::V6 => {
            kernel::store(skb, packet.network + 8, destination)?;
            kernel::store(skb, packet.network + 24, source)
        }
    }
}
