//! TCP behind a header without options, which most packets are, with one question to the kernel.
//!
//! What the kernel makes of the checksum as the addresses change says whether the ports count
//! (`checksum::of_ports`). The rest is written where it stands.

use agent_abi::checksum::{OfPorts, of_ports};
use agent_abi::connection::TupleV1;
use agent_abi::{IPPROTO_TCP, checksum};
use aya_ebpf::bindings::__sk_buff;

use super::{ports_difference, replace_addresses, v4_difference, v6_difference};
use crate::global::global;
use crate::kernel;
use crate::linear::Pairs;
use crate::maps::{self, Scratch};
use crate::packet::{Family, LINK_HEADER, Packet, V4_HEADER, V6_HEADER};

/// The pairs of bytes that begin with the IPv4 header's checksum and the ports, and with the IPv6 source
/// address and the ports.
const HEADER_CHECKSUM: usize = (LINK_HEADER + 10) as usize / 2;
const PORTS_V4: usize = (LINK_HEADER + V4_HEADER) as usize / 2;
const SOURCE_V6: usize = (LINK_HEADER + 8) as usize / 2;
const PORTS_V6: usize = (LINK_HEADER + V6_HEADER) as usize / 2;
/// Pairs from the ports on, to TCP's checksum (RFC 9293 §3.1), the last that are looked at.
const TO_CHECKSUM: usize = 9;

/// Answers of [`write_plain_tcp`].
pub(super) const WRITTEN: i32 = 0;
pub(super) const UNTOUCHED: i32 = 1;
const FAILED: i32 = 2;

#[inline(always)]
pub(super) fn is(packet: &Packet) -> bool {
    let header = match packet.family {
        Family::V4 => V4_HEADER,
        Family::V6 => V6_HEADER,
    };
    packet.tuple.protocol == IPPROTO_TCP && packet.transport == LINK_HEADER + header
}

global! {
    /// Makes the packet of the scratch space leave as `scratch.forward` says; the answer is [`WRITTEN`],
    /// [`FAILED`], or [`UNTOUCHED`] where its headers are not in one piece.
    fn write_plain_tcp(skb: *mut __sk_buff) -> i32 {
        let Some(Scratch { packet, forward, .. }) = maps::scratch() else {
            return FAILED;
        };
        let to = &forward.rewrite;
        let written = match packet.family {
            Family::V4 => write_v4(skb, packet, to),
            Family::V6 => write_v6(skb, packet, to),
        };
        match written {
            Ok(()) => WRITTEN,
            Err(answer) => answer,
        }
    }
}

#[inline(always)]
fn write_v4(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i32> {
    let addresses = v4_difference(&packet.tuple, to);
    let pairs = write_checksum::<{ PORTS_V4 + TO_CHECKSUM }>(skb, packet, to, addresses)?;
    let header = checksum::after_change(packet.checksum, addresses);
    pairs.put::<HEADER_CHECKSUM>(u16::from_ne_bytes(header));
    let words = to.words();
    pairs.put_word::<{ HEADER_CHECKSUM + 1 }, { HEADER_CHECKSUM + 2 }>(words[3]);
    pairs.put_word::<{ HEADER_CHECKSUM + 3 }, { HEADER_CHECKSUM + 4 }>(words[7]);
    pairs.put_word::<PORTS_V4, { PORTS_V4 + 1 }>(words[8]);
    Ok(())
}

#[inline(always)]
fn write_v6(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i32> {
    let addresses = v6_difference(&packet.tuple, to);
    let pairs = write_checksum::<{ PORTS_V6 + TO_CHECKSUM }>(skb, packet, to, addresses)?;
    let words = to.words();
    pairs.put_word::<SOURCE_V6, { SOURCE_V6 + 1 }>(words[0]);
    pairs.put_word::<{ SOURCE_V6 + 2 }, { SOURCE_V6 + 3 }>(words[1]);
    pairs.put_word::<{ SOURCE_V6 + 4 }, { SOURCE_V6 + 5 }>(words[2]);
    pairs.put_word::<{ SOURCE_V6 + 6 }, { SOURCE_V6 + 7 }>(words[3]);
    pairs.put_word::<{ SOURCE_V6 + 8 }, { SOURCE_V6 + 9 }>(words[4]);
    pairs.put_word::<{ SOURCE_V6 + 10 }, { SOURCE_V6 + 11 }>(words[5]);
    pairs.put_word::<{ SOURCE_V6 + 12 }, { SOURCE_V6 + 13 }>(words[6]);
    pairs.put_word::<{ SOURCE_V6 + 14 }, { SOURCE_V6 + 15 }>(words[7]);
    pairs.put_word::<PORTS_V6, { PORTS_V6 + 1 }>(words[8]);
    Ok(())
}

/// Writes TCP's checksum, the last of `N` pairs. `addresses` is their difference.
#[inline(always)]
fn write_checksum<const N: usize>(
    skb: *mut __sk_buff,
    packet: &Packet,
    to: &TupleV1,
    addresses: u32,
) -> Result<Pairs<N>, i32> {
    let before = Pairs::<N>::of(skb).ok_or(UNTOUCHED)?.last();
    replace_addresses(skb, packet, addresses).map_err(|_| FAILED)?;
    let pairs = Pairs::<N>::of(skb).ok_or(FAILED)?;
    let ports = ports_difference(&packet.tuple, to);
    match of_ports(before, pairs.last(), addresses, ports) {
        OfPorts::Nothing => Ok(pairs),
        OfPorts::Write(checksum) => {
            pairs.put_last(u16::from_ne_bytes(checksum));
            Ok(pairs)
        }
        OfPorts::Unknown => {
            kernel::replace_l4_checksum(skb, packet.transport_checksum(), ports.into(), 0)
                .map_err(|_| FAILED)?;
            Pairs::of(skb).ok_or(FAILED)
        }
    }
}
