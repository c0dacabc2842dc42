//! Sending a translated packet on.
//!
//! A translated packet is sent by the program itself wherever it leaves the node again: the host
//! stack would drop a packet that comes in with one of the node's own addresses as its source (a
//! martian), and strict `rp_filter` would drop a reply whose source became a Service address.

use agent_abi::connection::{ConnectionV2, TupleV1};
use agent_abi::counters::Counter;
use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
    TC_ACT_UNSPEC, bpf_fib_lookup as FibLookup,
};

use crate::kernel;
use crate::maps::Scratch;
use crate::packet::{Family, Hook, same_address};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Sends a packet that has become what `scratch.forward` says on its way; the answer is the verdict.
#[inline(never)]
pub(crate) fn forward(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
) -> Result<i32, Counter> {
    let Scratch {
        packet,
        route,
        forward: connection,
        ..
    } = scratch;
    // A reply of the node itself that leaves for the same destination as before is on its way.
    if hook == Hook::Egress
        && same_address(&connection.rewrite.destination, &packet.tuple.destination)
    {
        return Ok(TC_ACT_UNSPEC);
    }
    let answer = look_up(skb, route, packet.family, &connection.rewrite);
    if is_route(answer) {
        return Ok(match hook {
            Hook::UplinkIngress | Hook::WorkloadIngress => kernel::redirect_to_next_hop(route),
            Hook::Egress => kernel::redirect_to_neighbour(route.ifindex),
        });
    }
    if answer == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED) {
        return to_the_node(skb, hook, connection);
    }
    match hook {
        // The stack knows how to tell the sender.
        Hook::UplinkIngress | Hook::WorkloadIngress => Ok(TC_ACT_UNSPEC),
        // The packet has a route chosen for its old destination.
        Hook::Egress => Err(Counter::DropNoRoute),
    }
}

/// The packet's destination is the node itself.
#[inline(always)]
fn to_the_node(skb: *mut __sk_buff, hook: Hook, connection: &ConnectionV2) -> Result<i32, Counter> {
    let here = kernel::interface(skb);
    let (interface, mac) = match hook {
        // From the node to the node, by way of the interface it was about to leave.
        Hook::Egress => (here, kernel::load(skb, 6).ok_or(Counter::DropFailed)?),
        Hook::UplinkIngress | Hook::WorkloadIngress => {
            (connection.host_interface, connection.host_mac)
        }
    };
    if interface == 0 || (hook != Hook::Egress && interface == here) {
        return Ok(TC_ACT_UNSPEC);
    }
    kernel::store(skb, 0, &mac).map_err(|_| Counter::DropFailed)?;
    Ok(kernel::redirect_in(interface))
}

/// Sends a packet to another machine; the answer is the verdict, `None` where no route leads there.
#[inline(always)]
pub(crate) fn send(
    skb: *mut __sk_buff,
    route: &mut FibLookup,
    family: Family,
    tuple: &TupleV1,
) -> Option<i32> {
    let answer = look_up(skb, route, family, tuple);
    is_route(answer).then(|| kernel::redirect_to_neighbour(route.ifindex))
}

#[inline(always)]
fn is_route(answer: i64) -> bool {
    answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS) || answer == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
}

#[inline(always)]
fn look_up(skb: *mut __sk_buff, route: &mut FibLookup, family: Family, tuple: &TupleV1) -> i64 {
    ask(route, kernel::interface(skb), family, tuple);
    kernel::fib_lookup(skb, route)
}

/// Fills in a question to the node's routes: the way of `tuple`, come in by `interface`.
#[inline(always)]
pub(crate) fn ask(question: &mut FibLookup, interface: u32, family: Family, tuple: &TupleV1) {
    let (source, destination) = (&tuple.source, &tuple.destination);
    *question = kernel::zeroed();
    question.ifindex = interface;
    match family {
        Family::V4 => {
            question.family = AF_INET;
            question.__bindgen_anon_3.ipv4_src =
                u32::from_ne_bytes([source[12], source[13], source[14], source[15]]);
            question.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes([
                destination[12],
                destination[13],
                destination[14],
                destination[15],
            ]);
        }
        Family::V6 => {
            question.family = AF_INET6;
            question.__bindgen_anon_3.ipv6_src = words(source);
            question.__bindgen_anon_4.ipv6_dst = words(destination);
        }
    }
}

/// An address as the four words of `in6_addr`, still in network order.
#[inline(always)]
pub(crate) fn words(a: &agent_abi::Address) -> [u32; 4] {
    [
        u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
        u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
        u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
        u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
    ]
}
