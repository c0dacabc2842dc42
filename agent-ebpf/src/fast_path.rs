//! The fast path: packets between pods that skip the host's stack.
//!
//! Both ends are pods of the cluster: here behind interfaces that `FAST_DEVICES_V1` names, elsewhere in
//! `POD_NETWORKS_V1`. A packet to a pod of this node goes straight into the pod's namespace; one to
//! another node goes to the next hop, by the overlay's device where the route leads there.
//!
//! What the receiving pod's policy says is asked here, since the programs at its interface do not see
//! the packet. Connections that began through the stack stay there: the host's netfilter may have
//! translated them.
//!
//! The stack keeps what it alone can answer: packets that are too long or whose time is up, fragments,
//! options.

use agent_abi::connection::{
    CONNECTION_DIRECT, CONNECTION_FORWARD, CONNECTION_PEER, CONNECTION_PLAIN, EPOCH_UNJUDGED,
    TupleV1,
};
use agent_abi::counters::Counter;
use agent_abi::fast_path::{FAST_POD, FAST_POLICED_POD, FAST_WIRE, FastDeviceV1};
use agent_abi::policy::PolicyAddressV1;
use agent_abi::{Address, IPPROTO_TCP, checksum};
use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT, TC_ACT_UNSPEC,
    bpf_fib_lookup as FibLookup, bpf_redir_neigh as NextHop,
};
use aya_ebpf::maps::lpm_trie::Key;

use crate::connections;
use crate::global::{global, verdict};
use crate::kernel;
use crate::linear::Pairs;
use crate::maps::{self, FAST_DEVICES_V1, FAST_ROUTES, POD_NETWORKS_V1, Scratch, count};
use crate::packet::{
    Family, Hook, LINK_HEADER, Packet, TCP_FLAGS_V4, TCP_FLAGS_V6, V4_HEADER, V6_HEADER,
    same_address,
};
use crate::police::{self, police};
use crate::route::{LIFETIME, ask, slot};

/// Answer of [`find`] beside the `FAST_*` of the interface that it goes to.
const STACK: i32 = 0;
const WHOLE_ADDRESS_BITS: u32 = 128;
/// Length of a packet in a question to the routes: none is shorter, so the answer says how long one
/// may be, and not that this one is too long.
const SHORTEST: u16 = 1;
const SHORTEST_ASKED: u32 = SHORTEST as u32;
const UDP_HEADER: u32 = 8;
/// The pairs of bytes with the time to live, and with the checksum.
const TTL_V4: usize = 11;
const CHECKSUM_V4: usize = 12;
const HOP_LIMIT: usize = 10;

/// An answer of the node's routes, and who is there. A program run owns it, as the scratch space.
#[repr(C)]
pub(crate) struct FastRoute {
    source: Address,
    destination: Address,
    /// When the kernel was asked.
    asked: u64,
    /// Interface that the packet came in by.
    interface: u32,
    /// `FAST_*` of the interface that leads there, [`STACK`] for what the stack is to send.
    kind: u32,
    /// Interface that leads there.
    out: u32,
    /// Longest packet, from the network header on.
    mtu: u32,
    /// Whether the next hop's link-layer address is known: 0 or 1.
    is_resolved: u32,
    /// Who leads there.
    next_hop: NextHop,
    /// Link-layer addresses of the pod and of its interface's other end, in pairs as they stand in memory.
    macs: [u16; 6],
}

/// The verdict on a packet from a pod or from the wire that every other program has let pass as it is.
/// `POLICED` says that the sender's policy was asked.
#[inline(always)]
pub(crate) fn or_stack<const POLICED: bool>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch,
    hook: Hook,
) -> i32 {
    if POLICED && !is_direct(scratch) {
        return TC_ACT_UNSPEC;
    }
    let kind = find(skb, hook as u32);
    if kind == STACK {
        return TC_ACT_UNSPEC;
    }
    let known = if POLICED { scratch.policy_flags } else { 0 };
    let mut learnt = 0;
    let epoch = maps::policy_epoch();
    if kind == FAST_POLICED_POD as i32 && known & CONNECTION_PEER == 0 {
        scratch.interface = scratch.fast_out;
        scratch.sender_epoch = if POLICED {
            scratch.policy.epoch
        } else {
            EPOCH_UNJUDGED
        };
        if police::is_received_as_judged(scratch, police::AS_IT_IS) {
            learnt = CONNECTION_PEER;
        } else {
            if police(skb, Hook::Egress as u32, police::DIRECT) != TC_ACT_UNSPEC {
                // The program's entry tells of it.
                scratch.stopped = 1;
                return TC_ACT_SHOT;
            }
            let begins = scratch.packet.tuple.protocol == IPPROTO_TCP && scratch.packet.opens();
            if begins && scratch.policy.epoch == epoch {
                learnt = CONNECTION_PEER;
            }
        }
        if !is_direct(scratch) {
            return TC_ACT_UNSPEC;
        }
    }
    if POLICED {
        // Of UDP a client may use one port for a Service and for its backend.
        if scratch.packet.tuple.protocol == IPPROTO_TCP {
            learnt |= CONNECTION_PLAIN;
        }
        if learnt & !known != 0 {
            police::remember(scratch, learnt, epoch);
        }
    }
    send(skb)
}

/// Whether what policy knows of a packet from a pod is all that there is to ask about it.
#[inline(always)]
pub(crate) fn is_plain(scratch: &Scratch) -> bool {
    scratch.policy_flags & CONNECTION_PLAIN != 0
}

/// Whether the connection that policy was asked about last began with the pod, or by the fast path.
#[inline(always)]
fn is_direct(scratch: &Scratch) -> bool {
    scratch.policy_flags & (CONNECTION_FORWARD | CONNECTION_DIRECT) != 0
}

global! {
    /// Finds where the packet in the scratch space goes by the fast path; the answer is the `FAST_*` of
    /// the interface there, which is in `scratch.fast_out` then, or [`STACK`].
    fn find(skb: *mut __sk_buff, hook: u32) -> i32 {
        maps::scratch()
            .and_then(|scratch| way(skb, hook.into(), scratch))
            .unwrap_or(STACK)
    }

    /// Sends the packet where [`find`] has found; the answer is the verdict.
    fn send(skb: *mut __sk_buff) -> i32 {
        let scratch = maps::scratch().ok_or(Counter::DropFailed);
        verdict(scratch.and_then(|scratch| send_on(skb, scratch)))
    }
}

#[inline(always)]
fn way(skb: *mut __sk_buff, hook: Hook, scratch: &mut Scratch) -> Option<i32> {
    let packet = &scratch.packet;
    if !has_plain_headers(packet) || !kernel::is_for_this_host(skb) || maps::is_taken_over() {
        return None;
    }
    if hops_left(skb, packet.family)? <= 1 {
        return None;
    }
    let interface = kernel::interface(skb);
    let tuple = &packet.tuple;
    scratch.fast_slot = slot(tuple);
    let route = FAST_ROUTES
        .get_ptr_mut(scratch.fast_slot)
        .map(kernel::of_this_cpu)?;
    let is_kept = route.interface == interface
        && scratch.now.saturating_sub(route.asked) < LIFETIME
        && (route.is_resolved != 0 || route.kind == STACK as u32)
        && same_address(&route.destination, &tuple.destination)
        && same_address(&route.source, &tuple.source);
    if !is_kept {
        route.asked = scratch.now;
        route.interface = interface;
        route.source = tuple.source;
        route.destination = tuple.destination;
        route.kind = look_up(skb, hook, scratch, route).unwrap_or(STACK as u32);
    }
    if route.kind == STACK as u32 || !fits(skb, &scratch.packet, route.mtu) {
        return None;
    }
    scratch.fast_out = route.out;
    Some(route.kind as i32)
}

/// Whether the headers are those that most packets have.
#[inline(always)]
fn has_plain_headers(packet: &Packet) -> bool {
    let header = match packet.family {
        Family::V4 => V4_HEADER,
        Family::V6 => V6_HEADER,
    };
    !packet.fragmented && !packet.later && packet.transport == LINK_HEADER + header
}

/// How many routers the packet may still pass; `None` where its header is not in one piece.
#[inline(always)]
fn hops_left(skb: *mut __sk_buff, family: Family) -> Option<u8> {
    let [hops] = match family {
        Family::V4 => [Pairs::<{ TTL_V4 + 1 }>::of(skb)?.at::<TTL_V4>()[0]],
        Family::V6 => [Pairs::<{ HOP_LIMIT + 1 }>::of(skb)?.at::<HOP_LIMIT>()[1]],
    };
    Some(hops)
}

/// Whether the packet fits, and each that it is cut into.
#[inline(always)]
fn fits(skb: *mut __sk_buff, packet: &Packet, mtu: u32) -> bool {
    if kernel::length(skb) <= mtu + LINK_HEADER {
        return true;
    }
    let segment = kernel::segment_size(skb);
    let header = transport_header(skb, packet);
    segment != 0
        && header.is_some_and(|header| packet.transport - LINK_HEADER + header + segment <= mtu)
}

#[inline(always)]
fn transport_header(skb: *mut __sk_buff, packet: &Packet) -> Option<u32> {
    if packet.tuple.protocol != IPPROTO_TCP {
        return Some(UDP_HEADER);
    }
    let [words, _] = match packet.family {
        Family::V4 => Pairs::<{ TCP_FLAGS_V4 + 1 }>::of(skb)?.at::<TCP_FLAGS_V4>(),
        Family::V6 => Pairs::<{ TCP_FLAGS_V6 + 1 }>::of(skb)?.at::<TCP_FLAGS_V6>(),
    };
    Some(u32::from(words >> 4) * 4)
}

/// Asks who is at both ends, and the node's routes, for the packet's way.
#[inline(never)]
fn look_up(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
    route: &mut FastRoute,
) -> Option<u32> {
    let Scratch {
        packet,
        question,
        reply_key,
        ..
    } = scratch;
    let tuple = &packet.tuple;
    let here = device(route.interface)?;
    let may_come = match hook {
        Hook::WorkloadIngress => is_behind(here, packet.family, &tuple.source),
        Hook::UplinkIngress => here.kind == FAST_WIRE && is_pod_elsewhere(&tuple.source),
        Hook::Egress => false,
    };
    if !may_come {
        return None;
    }
    ask(question, route.interface, packet.family, tuple);
    question.__bindgen_anon_1.tot_len = SHORTEST;
    let answer = kernel::fib_lookup(skb, question);
    if !leads(answer) || question.ifindex == route.interface {
        return None;
    }
    route.out = question.ifindex;
    let there = device(route.out)?;
    route.mtu = match kernel::mtu(question) {
        // Kernels before 5.12 do not tell, and none does where the neighbour is not known.
        0 | SHORTEST_ASKED => there.mtu,
        told => told,
    };
    route.is_resolved = u32::from(answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS));
    kernel::next_hop(question, &mut route.next_hop);
    if there.kind == FAST_WIRE {
        if hook == Hook::UplinkIngress || !is_pod_elsewhere(&tuple.destination) {
            return None;
        }
    } else if !is_behind(there, packet.family, &tuple.destination) {
        return None;
    }
    write_macs(question, &mut route.macs);
    if hook == Hook::UplinkIngress
        && !leads_back(skb, packet.family, tuple, question, reply_key, route)
    {
        return None;
    }
    Some(there.kind)
}

#[inline(always)]
fn device(index: u32) -> Option<&'static FastDeviceV1> {
    FAST_DEVICES_V1.get_ptr(&index).map(kernel::fast_device)
}

/// Whether the device is that of the pod which has the address.
#[inline(always)]
fn is_behind(device: &FastDeviceV1, family: Family, address: &Address) -> bool {
    let known = match family {
        Family::V4 => &device.v4,
        Family::V6 => &device.v6,
    };
    matches!(device.kind, FAST_POD | FAST_POLICED_POD) && same_address(known, address)
}

#[inline(always)]
fn is_pod_elsewhere(address: &Address) -> bool {
    let key = Key::new(WHOLE_ADDRESS_BITS, PolicyAddressV1 { address: *address });
    POD_NETWORKS_V1.get(&key).is_some()
}

#[inline(always)]
fn write_macs(question: &FibLookup, macs: &mut [u16; 6]) {
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (question.dmac, question.smac);
    *macs = [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]].map(u16::from_ne_bytes);
}

/// Whether the route back to the sender leaves by where the packet came from, as strict `rp_filter`
/// wants it. Elsewhere the node's own setting is asked, by the stack.
#[inline(always)]
fn leads_back(
    skb: *mut __sk_buff,
    family: Family,
    tuple: &TupleV1,
    question: &mut FibLookup,
    reversed: &mut TupleV1,
    route: &FastRoute,
) -> bool {
    connections::reverse(tuple, reversed);
    ask(question, route.out, family, reversed);
    leads(kernel::fib_lookup(skb, question)) && question.ifindex == route.interface
}

#[inline(always)]
fn leads(answer: i64) -> bool {
    answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS) || answer == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
}

#[inline(always)]
fn send_on(skb: *mut __sk_buff, scratch: &mut Scratch) -> Result<i32, Counter> {
    let route = FAST_ROUTES
        .get_ptr_mut(scratch.fast_slot)
        .map(kernel::of_this_cpu)
        .ok_or(Counter::DropFailed)?;
    take_hop(skb, &scratch.packet).ok_or(Counter::DropFailed)?;
    count(Counter::FastPath);
    // The kernel asks for the neighbour, and the packet waits; at a pod's interface the programs see it
    // once more, and have let it pass.
    if route.kind == FAST_WIRE || route.is_resolved == 0 {
        return Ok(kernel::redirect_to_next_hop(route.out, &route.next_hop));
    }
    let pairs = Pairs::<{ LINK_HEADER as usize / 2 }>::of(skb).ok_or(Counter::DropFailed)?;
    pairs.put::<0>(route.macs[0]);
    pairs.put::<1>(route.macs[1]);
    pairs.put::<2>(route.macs[2]);
    pairs.put::<3>(route.macs[3]);
    pairs.put::<4>(route.macs[4]);
    pairs.put::<5>(route.macs[5]);
    Ok(kernel::redirect_to_peer(route.out))
}

/// Counts the router that this node is to the packet.
#[inline(always)]
fn take_hop(skb: *mut __sk_buff, packet: &Packet) -> Option<()> {
    match packet.family {
        Family::V4 => {
            let pairs = Pairs::<{ CHECKSUM_V4 + 1 }>::of(skb)?;
            let [hops, protocol] = pairs.at::<TTL_V4>();
            let (before, after) = ([hops, protocol, 0, 0], [hops - 1, protocol, 0, 0]);
            let difference =
                checksum::difference(&[u32::from_ne_bytes(before)], &[u32::from_ne_bytes(after)]);
            let checksum = checksum::after_change(pairs.at::<CHECKSUM_V4>(), difference);
            pairs.put::<TTL_V4>(u16::from_ne_bytes([hops - 1, protocol]));
            pairs.put::<CHECKSUM_V4>(u16::from_ne_bytes(checksum));
            Some(())
        }
        Family::V6 => {
            let [_, hops] = Pairs::<{ HOP_LIMIT + 1 }>::of(skb)?.at::<HOP_LIMIT>();
            kernel::store_summed(skb, 2 * HOP_LIMIT as u32 + 1, &[hops - 1]).ok()
        }
    }
}
