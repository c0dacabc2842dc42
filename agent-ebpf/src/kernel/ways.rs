//! Where a packet goes: the routing table, and redirection.
#![expect(unsafe_code, reason = "helpers are foreign functions")]

use core::ptr::{from_mut, from_ref};

use aya_ebpf::bindings::{__sk_buff, bpf_fib_lookup as FibLookup, bpf_redir_neigh as NextHop};
use aya_ebpf::helpers::generated;

use super::bytes::checked;
use super::context::interface;

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

/// A question to [`fib_lookup`] with nothing filled in.
#[inline(always)]
pub(crate) fn zeroed() -> FibLookup {
    // SAFETY: the structure holds integers and unions of integers; all zero is a value of each.
    unsafe { core::mem::zeroed() }
}

/// Lets a copy of the packet come in anew where the packet came in.
#[inline(always)]
pub(crate) fn clone_in(skb: *mut __sk_buff) -> Result<(), i64> {
    let ingress = u64::from(aya_ebpf::bindings::BPF_F_INGRESS);
    // SAFETY: `skb` is the program's context; packet pointers are not used in these programs.
    checked(unsafe { generated::bpf_clone_redirect(skb, interface(skb), ingress) })
}
