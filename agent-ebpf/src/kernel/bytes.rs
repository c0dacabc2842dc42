//! A packet's bytes, their checksums, and room for more.
#![expect(unsafe_code, reason = "helpers are foreign functions")]

use core::hint::black_box;
use core::mem::{MaybeUninit, offset_of};
use core::ptr::{from_mut, from_ref};

use agent_abi::connection::TupleV1;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated;

use super::context::length;
use crate::fragment::{Held, LARGEST};

/// `BPF_F_IPV6` (6.16, and stable kernels before it): the pseudo header is IPv6, so
/// `CHECKSUM_COMPLETE` is left alone.
const BPF_F_IPV6: u64 = 128;

/// Ones' complement difference of two buffers, for the checksum helpers.
#[inline(always)]
pub(crate) fn checksum_difference<const N: usize, const M: usize>(
    from: &[u8; N],
    to: &[u8; M],
    seed: u32,
) -> i64 {
    const { assert!(N % 4 == 0 && M % 4 == 0) };
    // The verifier takes no pointer but null for an empty buffer.
    let from = if N == 0 {
        core::ptr::null_mut()
    } else {
        from.as_ptr().cast_mut()
    };
    // SAFETY: both buffers are readable for their length, and the helper does not write to them.
    unsafe {
        generated::bpf_csum_diff(
            from.cast(),
            N as u32,
            to.as_ptr().cast_mut().cast(),
            M as u32,
            seed,
        )
    }
}

/// Applies a difference to the transport checksum at `offset`. `flags` are `BPF_F_*`.
#[inline(always)]
pub(crate) fn replace_l4_checksum(
    skb: *mut __sk_buff,
    offset: u32,
    difference: i64,
    flags: u64,
) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context; the kernel checks `offset`.
    checked(unsafe { generated::bpf_l4_csum_replace(skb, offset, 0, difference as u64, flags) })
}

/// The same for a difference of IPv6 addresses. Kernels that do not know `BPF_F_IPV6` refuse the
/// call before they change anything.
#[inline(always)]
pub(crate) fn replace_l4_checksum_v6(
    skb: *mut __sk_buff,
    offset: u32,
    difference: i64,
    flags: u64,
) -> Result<(), i64> {
    replace_l4_checksum(skb, offset, difference, flags | BPF_F_IPV6)
        .or_else(|_| replace_l4_checksum(skb, offset, difference, flags))
}

/// Applies a difference to the IPv4 header checksum at `offset`.
#[inline(always)]
pub(crate) fn replace_l3_checksum(
    skb: *mut __sk_buff,
    offset: u32,
    difference: i64,
) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context; the kernel checks `offset`.
    checked(unsafe { generated::bpf_l3_csum_replace(skb, offset, 0, difference as u64, 0) })
}

/// Reads `N` bytes of the packet.
#[inline(always)]
pub(crate) fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: `skb` is the program's context, `bytes` is writable for `N` bytes; the kernel checks
    // `offset`.
    let answer = unsafe {
        generated::bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32)
    };
    // SAFETY: on success the helper has written all `N` bytes.
    (answer == 0).then(|| unsafe { bytes.assume_init() })
}

/// `length` where it is from 1 to `most`, in a way that verifiers before 6.8 follow: that a number is not 0
/// tells them nothing of its range.
#[inline(always)]
fn bounded(length: u32, most: u32) -> Option<u32> {
    // Whatever else the compiler knows of it, it has to count from here.
    let before = black_box(u64::from(length).wrapping_sub(1));
    (before < u64::from(most)).then_some(before as u32 + 1)
}

/// Reads the packet into the first `length` bytes of a buffer, `N` at most.
#[inline(always)]
pub(crate) fn load_first<const N: usize>(
    skb: *mut __sk_buff,
    offset: u32,
    bytes: &mut [u8; N],
    length: u32,
) -> Option<()> {
    let length = bounded(length, N as u32)?;
    // SAFETY: `skb` is the program's context, `bytes` is writable for `length` bytes; the kernel checks
    // `offset`.
    let answer = unsafe {
        generated::bpf_skb_load_bytes(skb.cast(), offset, from_mut(bytes).cast(), length)
    };
    (answer == 0).then_some(())
}

/// Copies the whole packet; `None` where it does not fit.
#[inline(always)]
pub(crate) fn copy(skb: *mut __sk_buff, to: &mut Held) -> Option<()> {
    let length = length(skb);
    to.length = length;
    let length = bounded(length, LARGEST)?;
    // SAFETY: `skb` is the program's context, `to.bytes` is writable for `LARGEST` bytes.
    let answer = unsafe {
        generated::bpf_skb_load_bytes(skb.cast(), 0, from_mut(&mut to.bytes).cast(), length)
    };
    (answer == 0).then_some(())
}

/// Makes the packet another one, from the link-layer header on.
#[inline(always)]
pub(crate) fn become_copy(skb: *mut __sk_buff, from: &Held) -> Result<(), i64> {
    let length = bounded(from.length, LARGEST).ok_or(-1)?;
    set_length(skb, length)?;
    // SAFETY: `skb` is the program's context, `from.bytes` is readable for `LARGEST` bytes.
    checked(unsafe {
        generated::bpf_skb_store_bytes(
            skb,
            0,
            from.bytes.as_ptr().cast(),
            length,
            u64::from(aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM),
        )
    })
}

/// Writes bytes into the packet, leaving all checksums as they are.
#[inline(always)]
pub(crate) fn store<const N: usize>(
    skb: *mut __sk_buff,
    offset: u32,
    bytes: &[u8; N],
) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context, `bytes` is readable for `N` bytes; the kernel checks
    // `offset`.
    checked(unsafe {
        generated::bpf_skb_store_bytes(skb, offset, bytes.as_ptr().cast(), N as u32, 0)
    })
}

/// The same where the sum that a device has made of the packet covers them, and no checksum in the
/// packet makes up for the change.
#[inline(always)]
pub(crate) fn store_summed<const N: usize>(
    skb: *mut __sk_buff,
    offset: u32,
    bytes: &[u8; N],
) -> Result<(), i64> {
    // SAFETY: as for `store`.
    checked(unsafe {
        generated::bpf_skb_store_bytes(
            skb,
            offset,
            bytes.as_ptr().cast(),
            N as u32,
            u64::from(aya_ebpf::bindings::BPF_F_RECOMPUTE_CSUM),
        )
    })
}

/// Writes both addresses of an IPv6 header and the ports behind it, leaving all checksums as they are.
#[inline(always)]
pub(crate) fn store_v6(skb: *mut __sk_buff, offset: u32, tuple: &TupleV1) -> Result<(), i64> {
    const { assert!(offset_of!(TupleV1, destination) == 16) };
    let length = offset_of!(TupleV1, protocol) as u32;
    const { assert!(offset_of!(TupleV1, protocol) == 36) };
    // SAFETY: `skb` is the program's context, `tuple` is readable for its addresses and ports, which
    // it begins with, in this order; the kernel checks `offset`.
    checked(unsafe {
        generated::bpf_skb_store_bytes(skb, offset, from_ref(tuple).cast(), length, 0)
    })
}

/// Sets the length of the packet.
#[inline(always)]
pub(crate) fn set_length(skb: *mut __sk_buff, length: u32) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context; packet pointers are not used in these programs.
    checked(unsafe { generated::bpf_skb_change_tail(skb, length, 0) })
}

/// Makes room of `length` bytes between the link-layer and the network header.
#[inline(always)]
pub(crate) fn insert_after_link_header(skb: *mut __sk_buff, length: i32) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context; packet pointers are not used in these programs.
    checked(unsafe {
        generated::bpf_skb_adjust_room(
            skb,
            length,
            aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
            0,
        )
    })
}

/// Puts an IP header's room in front of the packet's network header, for a tunnel. The segments of
/// a TCP packet that is cut later are made shorter by as much.
#[inline(always)]
pub(crate) fn insert_tunnel_header(skb: *mut __sk_buff, length: u32, flag: u32) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context; packet pointers are not used in these programs.
    checked(unsafe {
        generated::bpf_skb_adjust_room(
            skb,
            length as i32,
            aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
            u64::from(flag),
        )
    })
}

/// Takes a tunnel's IP header of `length` bytes off.
#[inline(always)]
pub(crate) fn remove_tunnel_header(skb: *mut __sk_buff, length: u32) -> Result<(), i64> {
    // SAFETY: `skb` is the program's context; packet pointers are not used in these programs.
    checked(unsafe {
        generated::bpf_skb_adjust_room(
            skb,
            -(length as i32),
            aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
            u64::from(aya_ebpf::bindings::BPF_F_ADJ_ROOM_FIXED_GSO),
        )
    })
}

#[inline(always)]
pub(super) fn checked(answer: i64) -> Result<(), i64> {
    if answer == 0 { Ok(()) } else { Err(answer) }
}
