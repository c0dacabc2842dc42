//! What the kernel keeps beside a packet.
#![expect(
    unsafe_code,
    reason = "the context is a raw pointer whose fields the verifier rewrites"
)]

use aya_ebpf::bindings::__sk_buff;

/// What a packet says of its way through this node's programs.
///
/// It is in `tc_index`, which stays with the packet through bridges, VLANs, tunnels and the stack, and which
/// nothing else uses without a classifier that sets it. It stays with it over a veth to another node or out of
/// a pod, too: so [`Mark::Translated`] is taken off where the packet leaves, and [`Mark::Passed`] is believed
/// where one leaves alone, and taken off where one comes in.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Mark {
    Nothing = 0,
    /// The node has changed its addresses.
    Translated = 0xfa1d,
    /// TCP of no Service and no connection that is translated, as it was when it came in.
    Passed = 0xfa1e,
}

/// `PACKET_HOST` of linux/if_packet.h.
const PACKET_HOST: u32 = 0;

/// The interface the packet is at.
#[inline(always)]
pub(crate) fn interface(skb: *mut __sk_buff) -> u32 {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).ifindex }
}

/// Marks the packet, in place of any mark before.
#[inline(always)]
pub(crate) fn mark(skb: *mut __sk_buff, mark: Mark) {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).tc_index = mark as u32 };
}

#[inline(always)]
pub(crate) fn is_marked(skb: *mut __sk_buff, mark: Mark) -> bool {
    // SAFETY: `skb` is the program's context; the verifier rewrites the access.
    unsafe { (*skb).tc_index == mark as u32 }
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
