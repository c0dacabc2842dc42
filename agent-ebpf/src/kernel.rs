//! The kernel's helpers, each behind a function that is safe to call. All `unsafe` of the tc
//! programs is here; `connect` has the rest.
#![expect(
    unsafe_code,
    reason = "helpers are foreign functions and map values are raw pointers"
)]

use core::mem::{MaybeUninit, offset_of};
use core::ptr::{from_mut, from_ref};

use agent_abi::connection::{ConnectionV2, FragmentV2, TupleV1};
use agent_abi::fast_path::FastDeviceV1;
use agent_abi::flow::{FlowV1, LimitV1};
use agent_abi::policy::PolicyConnectionV1;
use agent_abi::service::AffinityV1;
use aya_ebpf::bindings::{__sk_buff, bpf_fib_lookup as FibLookup, bpf_redir_neigh as NextHop};
use aya_ebpf::helpers::generated;

use crate::fragment::{Held, LARGEST};

/// `BPF_F_IPV6` (6.16, and stable kernels before it): the pseudo header is IPv6, so
/// `CHECKSUM_COMPLETE` is left alone.
const BPF_F_IPV6: u64 = 128;

/// The `tc_index` of a packet that this node has translated.
const TRANSLATED: u32 = 0xfa1d;

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;

/// A value of a per-CPU map.
#[inline(always)]
pub(crate) fn of_this_cpu<T>(value: *mut T) -> &'static mut T {
    // SAFETY: the pointer comes from a lookup of this program run in a per-CPU array whose values
    // live as long as the program; no other CPU sees the value, and a tc or cgroup program is not
    // interrupted by another program that uses the same value. An XDP program runs where tc ingress
    // does, in the softirq of reception, and ends before the packet's tc programs begin.
    unsafe { &mut *value }
}

/// A value of the connection table.
#[inline(always)]
pub(crate) fn connection(value: *mut ConnectionV2) -> &'static mut ConnectionV2 {
    // SAFETY: the pointer comes from a lookup of this program run; the kernel keeps the element's
    // memory until the run ends. Other CPUs may write the same fields: `rewrite` and `backend` are
    // never changed after insertion, a lost update of `flags` or `last_seen` costs one refresh.
    unsafe { &mut *value }
}

/// A value of the table of what policy let through.
#[inline(always)]
pub(crate) fn policy(value: *mut PolicyConnectionV1) -> &'static mut PolicyConnectionV1 {
    // SAFETY: as for `connection`; a reader that sees half of a change has the packet before it
    // or the one after it.
    unsafe { &mut *value }
}

/// A bucket of events.
#[inline(always)]
pub(crate) fn limit(value: *mut LimitV1) -> &'static mut LimitV1 {
    // SAFETY: as for `connection`; a lost update costs or gives one event.
    unsafe { &mut *value }
}

/// A value of the table of interfaces of the fast path.
#[inline(always)]
pub(crate) fn fast_device(value: *const FastDeviceV1) -> &'static FastDeviceV1 {
    // SAFETY: as for `connection`; entries are replaced whole.
    unsafe { &*value }
}

/// Room for an event, all zero.
#[inline(always)]
pub(crate) fn empty_flow(room: &mut MaybeUninit<FlowV1>) -> &mut FlowV1 {
    // SAFETY: the event holds integers and byte arrays; all zero is a value of each.
    room.write(unsafe { core::mem::zeroed() })
}

/// A value of the table of clients' backends.
#[inline(always)]
pub(crate) fn affinity(value: *mut AffinityV1) -> &'static mut AffinityV1 {
    // SAFETY: as for `connection`; `backend` is never changed after insertion.
    unsafe { &mut *value }
}

/// A value of the table of fragments.
#[inline(always)]
pub(crate) fn fragment(value: *const FragmentV2) -> FragmentV2 {
    // SAFETY: the pointer comes from a lookup of this program run; entries are replaced whole.
    unsafe { *value }
}

/// A value of the table of kept fragments.
#[inline(always)]
pub(crate) fn held(value: *const Held) -> &'static Held {
    // SAFETY: as for `connection`. Another program may drive the entry out and put another there;
    // who reads it has to see that the entry was still its own afterwards.
    unsafe { &*value }
}

/// Bits that the agent has written, 0 where it has written none.
#[inline(always)]
pub(crate) fn bits(value: Option<*const u32>) -> u32 {
    // SAFETY: the pointer comes from a lookup of this program run in a map that is not preallocated.
    value.map_or(0, |value| unsafe { *value })
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes no argument.
    unsafe { generated::bpf_ktime_get_ns() }
}

/// Ticks since some time before the machine began.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    // SAFETY: takes no argument.
    unsafe { generated::bpf_jiffies64() }
}

/// A random number.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: takes no argument.
    unsafe { generated::bpf_get_prandom_u32() }
}

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

/// Reads the packet into the first `length` bytes of a buffer, `N` at most.
#[inline(always)]
pub(crate) fn load_first<const N: usize>(
    skb: *mut __sk_buff,
    offset: u32,
    bytes: &mut [u8; N],
    length: u32,
) -> Option<()> {
    if length == 0 || length > N as u32 {
        return None;
    }
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
    if length == 0 || length > LARGEST {
        return None;
    }
    // SAFETY: `skb` is the program's context, `to.bytes` is writable for `LARGEST` bytes.
    let answer = unsafe {
        generated::bpf_skb_load_bytes(skb.cast(), 0, from_mut(&mut to.bytes).cast(), length)
    };
    (answer == 0).then_some(())
}

/// Makes the packet another one, from the link-layer header on.
#[inline(always)]
pub(crate) fn become_copy(skb: *mut __sk_buff, from: &Held) -> Result<(), i64> {
    let length = from.length;
    if length == 0 || length > LARGEST {
        return Err(-1);
    }
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

/// Lets a copy of the packet come in anew where the packet came in.
#[inline(always)]
pub(crate) fn clone_in(skb: *mut __sk_buff) -> Result<(), i64> {
    let ingress = u64::from(aya_ebpf::bindings::BPF_F_INGRESS);
    // SAFETY: `skb` is the program's context; packet pointers are not used in these programs.
    checked(unsafe { generated::bpf_clone_redirect(skb, interface(skb), ingress) })
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

/// Looks a destination up in the node's routes; the answer is one of `BPF_FIB_LKUP_RET_*`.
#[inline(always)]
pub(crate) fn fib_lookup(skb: *mut __sk_buff, question: &mut FibLookup) -> i64 {
    // SAFETY: `skb` is the program's context, `question` is readable and writable for its size.
    unsafe {
        generated::bpf_fib_lookup(
            skb.cast(),
            from_mut(question),
            size_of::<FibLookup>() as i32,
            0,
        )
    }
}

/// Who the next hop of a route is that was found.
#[inline(always)]
pub(crate) fn next_hop(route: &FibLookup, next_hop: &mut NextHop) {
    next_hop.nh_family = route.family.into();
    // SAFETY: integers, of which every bit pattern is a value; an IPv4 next hop (RFC 5549: of IPv4
    // packets as well an IPv6 one) is the first of the four.
    next_hop.__bindgen_anon_1.ipv6_nh = unsafe { route.__bindgen_anon_4.ipv6_dst };
}

/// The longest packet that the interface of a route takes; 0 from kernels that do not tell.
#[inline(always)]
pub(crate) fn mtu(route: &FibLookup) -> u32 {
    // SAFETY: an integer, of which every bit pattern is a value.
    u32::from(unsafe { route.__bindgen_anon_1.mtu_result })
}

/// Sends a packet that the node's stack has not routed to the next hop of a route that was found; the
/// answer is the verdict. A routed packet keeps its old route beside it, and where the next hop's
/// link-layer address is not known yet, the kernel would send it by that one in the end.
#[inline(always)]
pub(crate) fn redirect_to_next_hop(interface: u32, next_hop: &NextHop) -> i32 {
    let parameters = from_ref(next_hop).cast_mut();
    let size = size_of::<NextHop>() as i32;
    // SAFETY: the helper copies the structure, and does not write to it.
    unsafe { generated::bpf_redirect_neigh(interface, parameters, size, 0) as i32 }
}

/// Hands the packet to who is at the other end of a veth pair, in that one's namespace; the answer is
/// the verdict.
#[inline(always)]
pub(crate) fn redirect_to_peer(interface: u32) -> i32 {
    // SAFETY: takes plain values.
    unsafe { generated::bpf_redirect_peer(interface, 0) as i32 }
}

/// Sends the packet out of an interface by the node's routes; the answer is the verdict.
#[inline(always)]
pub(crate) fn redirect_to_neighbour(interface: u32) -> i32 {
    // SAFETY: without parameters the helper reads nothing but the packet.
    unsafe { generated::bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Sends the packet out of an interface as it is; the answer is the verdict.
#[inline(always)]
pub(crate) fn redirect_out(interface: u32) -> i32 {
    // SAFETY: takes plain values.
    unsafe { generated::bpf_redirect(interface, 0) as i32 }
}

/// Hands the packet to the node as if it had come in by an interface; the answer is the verdict.
#[inline(always)]
pub(crate) fn redirect_in(interface: u32) -> i32 {
    // SAFETY: takes plain values.
    unsafe {
        generated::bpf_redirect(interface, u64::from(aya_ebpf::bindings::BPF_F_INGRESS)) as i32
    }
}

/// Makes the system call whose hook is running return `-errno` (5.18).
#[inline(always)]
pub(crate) fn set_return_value(errno: i32) {
    // SAFETY: takes a plain value.
    unsafe { generated::bpf_set_retval(-errno) };
}

/// The number of the cgroup of the process that is running (in cgroup hooks: 5.7).
#[inline(always)]
pub(crate) fn cgroup() -> u64 {
    // SAFETY: takes nothing.
    unsafe { generated::bpf_get_current_cgroup_id() }
}

/// The interface the packet is at.
#[inline(always)]
pub(crate) fn interface(skb: *mut __sk_buff) -> u32 {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).ifindex }
}

/// Says in the packet whether this node has changed its addresses: `tc_index` stays with it through
/// bridges, VLANs and the stack, and nothing else uses it without a classifier that sets it. It stays
/// with it over a veth to another node, too, so it is taken off where the packet leaves.
#[inline(always)]
pub(crate) fn mark_translated(skb: *mut __sk_buff, translated: bool) {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).tc_index = if translated { TRANSLATED } else { 0 } };
}

/// Whether [`mark_translated`] has marked the packet.
#[inline(always)]
pub(crate) fn is_translated(skb: *mut __sk_buff) -> bool {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).tc_index == TRANSLATED }
}

/// Whether the link-layer header says this host, and no VLAN (which is kept outside the packet).
#[inline(always)]
pub(crate) fn is_for_this_host(skb: *mut __sk_buff) -> bool {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    let kind = unsafe { (*skb).pkt_type };
    // SAFETY: as above.
    let vlan = unsafe { (*skb).vlan_present };
    kind == PACKET_HOST && vlan == 0
}

/// The packet's EtherType, in network order.
#[inline(always)]
pub(crate) fn ether_type(skb: *mut __sk_buff) -> [u8; 2] {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    let protocol = unsafe { (*skb).protocol };
    let [first, second, ..] = protocol.to_ne_bytes();
    [first, second]
}

/// The packet's length in bytes, from the link-layer header on.
#[inline(always)]
pub(crate) fn length(skb: *mut __sk_buff) -> u32 {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).len }
}

/// Bytes of payload in each segment of a packet that is cut later; 0 where it is not.
#[inline(always)]
pub(crate) fn segment_size(skb: *mut __sk_buff) -> u32 {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).gso_size }
}

/// Segments of the packet.
#[inline(always)]
pub(crate) fn segments(skb: *mut __sk_buff) -> u32 {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    let segments = unsafe { (*skb).gso_segs };
    if segments == 0 { 1 } else { segments }
}

#[inline(always)]
fn checked(answer: i64) -> Result<(), i64> {
    if answer == 0 { Ok(()) } else { Err(answer) }
}

/// A question to [`fib_lookup`] with nothing filled in.
#[inline(always)]
pub(crate) fn zeroed() -> FibLookup {
    // SAFETY: the structure holds integers and unions of integers; all zero is a value of each.
    unsafe { core::mem::zeroed() }
}
