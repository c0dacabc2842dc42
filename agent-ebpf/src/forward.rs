//! Sending a translated packet on.
//!
//! A translated packet is sent by the program itself wherever it leaves the node again: the host
//! stack would drop a packet that comes in with one of the node's own addresses as its source (a
//! martian), and strict `rp_filter` would drop a reply whose source became a Service address.

use agent_abi::connection::ConnectionV3;
use agent_abi::counters::Counter;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};

use crate::kernel;
use crate::maps::Scratch;
use crate::packet::{Family, Hook, same_address};
use crate::route::look_up;

/// Sends a packet that has become what `scratch.forward` says on its way; the answer is the verdict.
#[inline(never)]
pub(crate) fn forward(
    skb: *mut __sk_buff,
    hook: Hook,
    scratch: &mut Scratch,
) -> Result<i32, Counter> {
    let (packet, connection) = (&scratch.packet, &scratch.forward);
    // A reply of the node itself that leaves for the same destination as before is on its way.
    if hook == Hook::Egress
        && same_address(&connection.rewrite.destination, &packet.tuple.destination)
    {
        return Ok(TC_ACT_UNSPEC);
    }
    let route = look_up(skb, packet.family, scratch).ok_or(Counter::DropFailed)?;
    if route.leads() {
        return Ok(match hook {
            Hook::UplinkIngress | Hook::WorkloadIngress => {
                kernel::redirect_to_next_hop(route.out, &route.next_hop)
            }
            Hook::Egress => kernel::redirect_to_neighbour(route.out),
        });
    }
    if route.ends_here() {
        return to_the_node(skb, hook, &scratch.forward);
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
fn to_the_node(skb: *mut __sk_buff, hook: Hook, connection: &ConnectionV3) -> Result<i32, Counter> {
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

/// Sends the packet to another machine, by the way of `scratch.forward`; the answer is the verdict,
/// `None` where no route leads there.
#[inline(always)]
pub(crate) fn send(skb: *mut __sk_buff, family: Family, scratch: &mut Scratch) -> Option<i32> {
    let route = look_up(skb, family, scratch)?;
    route
        .leads()
        .then(|| kernel::redirect_to_neighbour(route.out))
}
