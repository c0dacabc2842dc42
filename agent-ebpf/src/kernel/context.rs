//! What the kernel keeps beside a packet.
#![expect(
    unsafe_code,
    reason = "the context is a raw pointer whose fields the verifier rewrites"
)]

use aya_ebpf::bindings::__sk_buff;

/// The `tc_index` of a packet that this node has translated.
const TRANSLATED: u32 = 0xfa1d;

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;

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
