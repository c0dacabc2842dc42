//! Netlink messages of the steps. Pure.

use std::net::IpAddr;
use std::os::fd::RawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::name::Mac;
use crate::plan::Wiring;
use crate::range::Family;

/// A change, and whether it may meet something that is there.
pub type Change = (RouteNetlinkMessage, u16);

/// Marks the routes made here (`ip route show proto 70`); no number of iproute2's `rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 70;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// Makes both ends. The pod's begins in its namespace, so its name is never seen on the host.
pub fn pair(wiring: &Wiring, netns: RawFd) -> Change {
    let end = |name: &str, mac: Mac| {
        let mut end = LinkMessage::default();
        end.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(wiring.mtu),
        ];
        end
    };
    let mut pod = end(&wiring.ifname, wiring.pod_mac);
    pod.attributes.push(LinkAttribute::NetNsFd(netns));
    let mut host = end(wiring.host.as_str(), wiring.host_mac);
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(pod))),
    ]));
    (RouteNetlinkMessage::NewLink(host), NEW)
}

/// Brings an interface up; an alias that is empty is left as it is.
pub fn up(index: u32, alias: &str) -> Change {
    let mut link = link(index);
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    if !alias.is_empty() {
        link.attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    (RouteNetlinkMessage::NewLink(link), 0)
}

/// Removes an interface, and with it the other end, its addresses, routes and neighbours.
pub fn remove(index: u32) -> Change {
    (RouteNetlinkMessage::DelLink(link(index)), 0)
}

/// Asks for an interface.
pub fn get_link(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(link(index))
}

/// Gives an interface an address, without a network around it.
pub fn address(index: u32, address: IpAddr) -> Change {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = bits(address);
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    if address.is_ipv6() {
        // Nobody else is on this wire, and the address is to be used at once.
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    (RouteNetlinkMessage::NewAddress(message), NEW)
}

/// Asks for all addresses.
pub fn get_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// Says where an address is, for good.
pub fn neighbour(index: u32, address: IpAddr, mac: Mac) -> Change {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    (RouteNetlinkMessage::NewNeighbour(message), PUT)
}

/// The host's route to an address. One that is there means another's pod, or another's network.
pub fn host_route(index: u32, address: IpAddr) -> Change {
    let mut message = route(family(address), index);
    message.header.destination_prefix_length = bits(address);
    // IPv6 has no such scope, and ignores it.
    message.header.scope = RouteScope::Link;
    let destination = RouteAttribute::Destination(RouteAddress::from(address));
    message.attributes.push(destination);
    (RouteNetlinkMessage::NewRoute(message), NEW)
}

/// The pod's default route. The gateway is in no network of the pod's, hence onlink.
pub fn default_route(index: u32, gateway: IpAddr) -> Change {
    let mut message = route(family(gateway), index);
    message.header.scope = RouteScope::Universe;
    message.header.flags = RouteFlags::Onlink;
    let gateway = RouteAttribute::Gateway(RouteAddress::from(gateway));
    message.attributes.push(gateway);
    (RouteNetlinkMessage::NewRoute(message), NEW)
}

/// Asks for the route that leads to an address: the entry of the table, not what it would make of a
/// packet.
pub fn route_to(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = bits(address);
    message.header.flags = RouteFlags::FibMatch;
    let destination = RouteAttribute::Destination(RouteAddress::from(address));
    message.attributes.push(destination);
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks for all routes of a family.
pub fn get_routes(family: Family) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    RouteNetlinkMessage::GetRoute(message)
}

fn link(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

fn route(family: AddressFamily, index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index)];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
