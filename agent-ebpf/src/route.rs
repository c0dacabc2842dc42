//! The node's routes, and what they said a moment ago.
//!
//! The kernel takes longer to find a route than all the rest of a packet of an established connection
//! takes, so its answers are kept for [`LIFETIME`], each in the slot that its question hashes to.
//!
//! A stale answer does no more harm than the time between a change elsewhere and the route that follows
//! it: a packet goes the old way, or to an interface that is gone, and is lost there. It goes to nobody
//! who did not have it before: an interface's index is not given away again, and the link-layer address
//! of the next hop is the kernel's to know, each time. What had no route is left to the stack meanwhile,
//! which knows the new one.

use agent_abi::connection::TupleV1;
use agent_abi::{Address, hash};
use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
    BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup, bpf_redir_neigh as NextHop,
};

use crate::kernel;
use crate::maps::{ROUTES, Scratch};
use crate::packet::{Family, LINK_HEADER, same_address};

/// Nanoseconds. A route that is taken back was in use until then, and the sender repeats what is lost
/// after twice this time at the earliest (RFC 6298 §2.4, as Linux has it).
pub(crate) const LIFETIME: u64 = 100_000_000;
/// Slots of a CPU; a power of two. Pairs of addresses that share one ask as if there were none.
pub(crate) const SLOTS: u32 = 1024;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A question, with its answer. A program run owns it, as the scratch space.
#[repr(C)]
pub(crate) struct Route {
    source: Address,
    destination: Address,
    /// When the kernel was asked.
    asked: u64,
    /// Interface that the packet came in by; 0 where the answer holds for one packet alone.
    interface: u32,
    /// One of `BPF_FIB_LKUP_RET_*`.
    pub(crate) answer: i64,
    /// Interface that leads there.
    pub(crate) out: u32,
    /// Who leads there.
    pub(crate) next_hop: NextHop,
    /// Longest packet that the interface takes, from the network header on.
    pub(crate) mtu: u32,
}

impl Route {
    /// Whether there is one.
    #[inline(always)]
    pub(crate) fn leads(&self) -> bool {
        self.answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
            || self.answer == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
    }

    /// Whether it leads there, but not for a packet so long.
    #[inline(always)]
    pub(crate) fn is_too_narrow(&self) -> bool {
        self.answer == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED)
    }

    /// Whether it ends at the node itself, or nobody knows it.
    #[inline(always)]
    pub(crate) fn ends_here(&self) -> bool {
        self.answer == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
    }

    /// Whether it holds for the packet as well. Of one that is too long, the kernel says so where it
    /// knows the neighbour.
    #[inline(always)]
    fn takes(&self, skb: *mut __sk_buff) -> bool {
        self.answer != i64::from(BPF_FIB_LKUP_RET_SUCCESS)
            || kernel::length(skb) <= self.mtu + LINK_HEADER
            || kernel::segment_size(skb) != 0
    }
}

/// The way of `scratch.forward`; `None` where there is no room for the answer, which is never.
#[inline(never)]
pub(crate) fn look_up(
    skb: *mut __sk_buff,
    family: Family,
    scratch: &mut Scratch,
) -> Option<&'static Route> {
    let Scratch {
        question,
        forward,
        now,
        ..
    } = scratch;
    let (tuple, now) = (&forward.rewrite, *now);
    let interface = kernel::interface(skb);
    let slot = slot(tuple);
    let route = ROUTES.get_ptr_mut(slot).map(kernel::of_this_cpu)?;
    if route.interface == interface
        && now.saturating_sub(route.asked) < LIFETIME
        && same_address(&route.destination, &tuple.destination)
        && same_address(&route.source, &tuple.source)
        && route.takes(skb)
    {
        return Some(route);
    }
    ask(question, interface, family, tuple);
    route.answer = kernel::fib_lookup(skb, question);
    let is_of_all = route.leads() || route.ends_here();
    route.interface = if is_of_all { interface } else { 0 };
    route.asked = now;
    route.source = tuple.source;
    route.destination = tuple.destination;
    route.out = question.ifindex;
    route.mtu = kernel::mtu(question);
    kernel::next_hop(question, &mut route.next_hop);
    Some(route)
}

/// Where the answer to a question is kept.
#[inline(always)]
pub(crate) fn slot(tuple: &TupleV1) -> u32 {
    let [s0, s1, s2, s3, d0, d1, d2, d3, ..] = *tuple.words();
    let (source, destination) = (s0 ^ s1 ^ s2 ^ s3, d0 ^ d1 ^ d2 ^ d3);
    hash::finish(hash::mix(source, destination)) % SLOTS
}

/// Fills in a question to the node's routes: the way of `tuple`, come in by `interface`.
#[inline(always)]
pub(crate) fn ask(question: &mut FibLookup, interface: u32, family: Family, tuple: &TupleV1) {
    let [s0, s1, s2, s3, d0, d1, d2, d3, ..] = *tuple.words();
    *question = kernel::zeroed();
    question.ifindex = interface;
    match family {
        Family::V4 => {
            question.family = AF_INET;
            question.__bindgen_anon_3.ipv4_src = s3;
            question.__bindgen_anon_4.ipv4_dst = d3;
        }
        Family::V6 => {
            question.family = AF_INET6;
            question.__bindgen_anon_3.ipv6_src = [s0, s1, s2, s3];
            question.__bindgen_anon_4.ipv6_dst = [d0, d1, d2, d3];
        }
    }
}

/// An address as the four words of `in6_addr`, still in network order.
#[inline(always)]
pub(crate) fn words(a: &Address) -> [u32; 4] {
    [
        u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
        u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
        u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
        u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
    ]
}
