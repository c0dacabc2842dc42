//! The overlay's own packets. What they carry is looked at at the overlay's device.

use agent_abi::{IPPROTO_UDP, is_v4};

use crate::maps;
use crate::packet::{Hook, Packet, same_address};

/// Whether a packet is the overlay's, between this node and another: it is for no Service, and of no
/// connection. From anybody else, the port is like any other.
#[inline(always)]
pub(crate) fn carries(packet: &Packet, hook: Hook) -> bool {
    let Some(settings) = maps::settings() else {
        return false;
    };
    let tuple = &packet.tuple;
    if tuple.protocol != IPPROTO_UDP
        || tuple.destination_port != settings.overlay_port
        || settings.overlay_port == [0; 2]
        || packet.fragmented
    {
        return false;
    }
    let (here, there) = match hook {
        Hook::UplinkIngress => (&tuple.destination, &tuple.source),
        Hook::Egress => (&tuple.source, &tuple.destination),
        Hook::WorkloadIngress => return false,
    };
    let node = if is_v4(here) {
        &settings.node_v4
    } else {
        &settings.node_v6
    };
    same_address(here, node) && maps::is_node(there)
}
