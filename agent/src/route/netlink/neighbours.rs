//! Neighbours and forwarding entries of the overlay's device, to and from netlink's messages.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::family_of;
use crate::route::hops::{Heard, Key};
use crate::route::image::Mac;

pub(super) fn entry_of(entry: &NeighbourMessage) -> Option<(Option<IpAddr>, Mac)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some((*found).into());
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some((*found).into());
            }
            // A forwarding entry's is of the family of the tunnel, which its message does not name.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                let v4 = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
                let v6 = || <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from);
                address = v4.or_else(|_| v6()).ok();
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac);
            }
            _ => {}
        }
    }
    // What the kernel found out by itself goes by itself.
    let permanent = entry.header.state == NeighbourState::Permanent;
    permanent.then_some((address, mac?))
}

/// What an entry says of a neighbour.
pub(super) fn heard_of(entry: &NeighbourMessage) -> Option<(Key, Heard)> {
    let address = entry
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => Some((*found).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                Some((*found).into())
            }
            _ => None,
        });
    let heard = match entry.header.state {
        NeighbourState::Failed => Heard::Silent,
        NeighbourState::Incomplete | NeighbourState::None => Heard::Open,
        _ => Heard::Known,
    };
    Some(((entry.header.ifindex, address?), heard))
}

/// What identifies a neighbour.
pub(super) fn neighbour(device: u32, hop: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family_of(hop);
    message.header.ifindex = device;
    let attribute = NeighbourAttribute::Destination(neighbour_address(hop));
    message.attributes.push(attribute);
    message
}

/// A forwarding entry.
pub(super) fn forwarding(device: u32, mac: Mac, node: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = device;
    message.header.flags = NeighbourFlags::Own;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Destination(neighbour_address(node)),
    ];
    message
}

fn neighbour_address(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}
