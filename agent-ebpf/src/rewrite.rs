//! Changing a packet's addresses and ports, with its checksums.

mod plain_tcp;

use agent_abi::connection::TupleV1;
use agent_abi::counters::Counter;
use agent_abi::{IPPROTO_SCTP, IPPROTO_UDP, checksum, crc32c};
use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};

use crate::kernel;
use crate::maps::{CRC32C_V1, Scratch};
use crate::packet::{Family, Packet, V4_HEADER, V6_HEADER};

/// Makes the packet leave as `scratch.forward` says. On an error the packet may be half changed and must be
/// dropped.
#[inline(always)]
pub(crate) fn rewrite(skb: *mut __sk_buff, scratch: &Scratch) -> Result<(), Counter> {
    let (packet, to) = (&scratch.packet, &scratch.forward.rewrite);
    if packet.tuple.protocol == IPPROTO_SCTP {
        return rewrite_sctp(skb, packet, to);
    }
    if !packet.later && plain_tcp::is(packet) {
        match plain_tcp::write_plain_tcp(skb) {
            plain_tcp::WRITTEN => return Ok(()),
            plain_tcp::UNTOUCHED => {}
            _ => return Err(Counter::DropFailed),
        }
    }
    if packet.later {
        write_addresses(skb, packet, to)
    } else {
        write_transport_checksum(skb, packet, to).and_then(|()| write(skb, packet, to))
    }
    .map_err(|_| Counter::DropFailed)
}

/// UDP over IPv4 may go without a checksum (RFC 768): zero then stays zero, and a checksum that
/// comes out as zero is written as its complement.
#[inline(always)]
fn flags(packet: &Packet) -> u64 {
    if packet.tuple.protocol == IPPROTO_UDP {
        u64::from(BPF_F_MARK_MANGLED_0)
    } else {
        0
    }
}

/// The kernel has to know of the addresses and of the ports, each: where the device is to fill in the
/// checksum, or has summed the packet up, one of them counts and the other does not.
#[inline(always)]
fn write_transport_checksum(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i64> {
    let addresses = match packet.family {
        Family::V4 => v4_difference(&packet.tuple, to),
        Family::V6 => v6_difference(&packet.tuple, to),
    };
    replace_addresses(skb, packet, addresses)?;
    if ports(&packet.tuple) == ports(to) {
        return Ok(());
    }
    let difference = ports_difference(&packet.tuple, to);
    kernel::replace_l4_checksum(
        skb,
        packet.transport_checksum(),
        difference.into(),
        flags(packet),
    )
}

/// Has the transport checksum follow a difference of the addresses.
#[inline(always)]
fn replace_addresses(skb: *mut __sk_buff, packet: &Packet, difference: u32) -> Result<(), i64> {
    let (at, difference) = (packet.transport_checksum(), difference.into());
    let flags = flags(packet) | u64::from(BPF_F_PSEUDO_HDR);
    match packet.family {
        Family::V4 => kernel::replace_l4_checksum(skb, at, difference, flags),
        Family::V6 => kernel::replace_l4_checksum_v6(skb, at, difference, flags),
    }
}

/// Writes the addresses, the IPv4 header's checksum and the ports: at once, where they follow one
/// another.
#[inline(always)]
fn write(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), i64> {
    let header = packet.transport - packet.network;
    match packet.family {
        Family::V4 if header == V4_HEADER => {
            let bytes = v4_bytes::<14>(packet, to);
            kernel::store(skb, packet.network + 10, &bytes)
        }
        Family::V6 if header == V6_HEADER => kernel::store_v6(skb, packet.network + 8, to),
        Family::V4 | Family::V6 => {
            write_addresses(skb, packet, to)?;
            kernel::store(skb, packet.transport, &ports(to))
        }
    }
}

#[inline(always)]
pub(crate) fn write_addresses(
    skb: *mut __sk_buff,
    packet: &Packet,
    to: &TupleV1,
) -> Result<(), i64> {
    match packet.family {
        Family::V4 => {
            let bytes = v4_bytes::<10>(packet, to);
            kernel::store(skb, packet.network + 10, &bytes)
        }
        Family::V6 => {
            kernel::store(skb, packet.network + 8, &to.source)?;
            kernel::store(skb, packet.network + 24, &to.destination)
        }
    }
}

/// An IPv4 header from its checksum on, and the ports.
#[inline(always)]
fn v4_bytes<const N: usize>(packet: &Packet, to: &TupleV1) -> [u8; N] {
    let [c0, c1] = checksum::after_change(packet.checksum, v4_difference(&packet.tuple, to));
    let [s0, s1, s2, s3, d0, d1, d2, d3] = v4_addresses(to);
    let [p0, p1, p2, p3] = ports(to);
    let all = [c0, c1, s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, p2, p3];
    let mut bytes = [0; N];
    bytes.copy_from_slice(&all[..N]);
    bytes
}

/// Difference of the sums of two pairs of IPv4 addresses.
#[inline(always)]
pub(crate) fn v4_difference(from: &TupleV1, to: &TupleV1) -> u32 {
    let [old, new] = [from, to].map(|tuple| [tuple.words()[3], tuple.words()[7]]);
    checksum::difference(&old, &new)
}

/// The same of IPv6 addresses.
#[inline(always)]
pub(crate) fn v6_difference(from: &TupleV1, to: &TupleV1) -> u32 {
    let [old, new] = [from, to].map(|tuple| {
        let [a, b, c, d, e, f, g, h, ..] = *tuple.words();
        [a, b, c, d, e, f, g, h]
    });
    checksum::difference(&old, &new)
}

/// The same of the ports.
#[inline(always)]
fn ports_difference(from: &TupleV1, to: &TupleV1) -> u32 {
    checksum::difference(&[from.words()[8]], &[to.words()[8]])
}

/// SCTP's checksum knows no addresses, and covers the whole packet.
#[inline(never)]
fn rewrite_sctp(skb: *mut __sk_buff, packet: &Packet, to: &TupleV1) -> Result<(), Counter> {
    write_addresses(skb, packet, to).map_err(|_| Counter::DropFailed)?;
    let (old, new) = (ports(&packet.tuple), ports(to));
    if old == new || packet.later {
        return Ok(());
    }
    if packet.fragmented {
        // The rest of the packet is elsewhere, and its length not known.
        return Err(Counter::DropUnsupported);
    }
    let checksum: [u8; 4] =
        kernel::load(skb, packet.transport_checksum()).ok_or(Counter::DropFailed)?;
    // Zero is what a packet of this machine has whose checksum the device is to fill in.
    if checksum != [0; 4] {
        let following = packet.length.saturating_sub(4);
        let table = CRC32C_V1.get(0).ok_or(Counter::DropFailed)?;
        let checksum = u32::from_le_bytes(checksum);
        let after = crc32c::after_change(table, checksum, old, new, following);
        kernel::store(skb, packet.transport_checksum(), &after.to_le_bytes())
            .map_err(|_| Counter::DropFailed)?;
    }
    kernel::store(skb, packet.transport, &new).map_err(|_| Counter::DropFailed)
}

#[inline(always)]
pub(crate) fn v4_addresses(tuple: &TupleV1) -> [u8; 8] {
    let (s, d) = (&tuple.source, &tuple.destination);
    [s[12], s[13], s[14], s[15], d[12], d[13], d[14], d[15]]
}

#[inline(always)]
pub(crate) fn ports(tuple: &TupleV1) -> [u8; 4] {
    let ([s0, s1], [d0, d1]) = (tuple.source_port, tuple.destination_port);
    [s0, s1, d0, d1]
}
