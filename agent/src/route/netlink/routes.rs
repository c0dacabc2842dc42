//! Routes and rules, to and from netlink's messages.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{RouteError, family_of};
use crate::route::image::{Out, PEERS_PRIORITY, PEERS_TABLE, PROTOCOL, RouteKey, Target, Via};

/// What tells a route from others, whoever's it is.
pub(super) fn key_of(route: &RouteMessage) -> RouteKey {
    let any = if route.header.address_family == AddressFamily::Inet6 {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let (mut destination, mut metric) = (any, 0);
    let mut table = u32::from(route.header.table);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(found) => destination = ip(found).unwrap_or(any),
            RouteAttribute::Priority(found) => metric = *found,
            RouteAttribute::Table(found) => table = *found,
            _ => {}
        }
    }
    let length = route.header.destination_prefix_length;
    let destination = IpNet::new(destination, length).unwrap_or_else(|_| IpNet::from(destination));
    RouteKey {
        table,
        destination,
        metric,
    }
}

pub(super) fn route_of(route: &RouteMessage, devices: &[u32]) -> (RouteKey, Target) {
    let (mut gateway, mut out, mut source, mut several) = (None, None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(found) => gateway = ip(found),
            RouteAttribute::PrefSource(found) => source = ip(found),
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::MultiPath(found) => several = hops_of(found, devices),
            _ => {}
        }
    }
    let one = gateway
        .zip(out)
        .map(|(gateway, index)| [via(gateway, index, devices)].into());
    let target = match (route.header.kind, several.or(one)) {
        (RouteType::BlackHole, _) => Target::Blackhole,
        (RouteType::Unicast, Some(hops)) => Target::Via { hops, source },
        _ => Target::Other,
    };
    (key_of(route), target)
}

fn via(gateway: IpAddr, index: u32, devices: &[u32]) -> Via {
    let out = if devices.contains(&index) {
        Out::Overlay
    } else {
        Out::Link(index)
    };
    Via { gateway, out }
}

/// The next hops of a route with several, where each has the same share.
fn hops_of(found: &[RouteNextHop], devices: &[u32]) -> Option<BTreeSet<Via>> {
    let hops = found.iter().map(|hop| {
        let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(found) => ip(found),
            _ => None,
        });
        let even = gateway.filter(|_| hop.hops == found[0].hops);
        even.map(|gateway| via(gateway, hop.interface_index, devices))
    });
    hops.collect()
}

/// Of two entries of one key: a route with the next hops of both, as kernels before 4.11 tell of IPv6.
pub(super) fn merged(one: Target, other: Target) -> Target {
    match (one, other) {
        (one, other) if one == other => one,
        (Target::Via { mut hops, source }, Target::Via { hops: more, .. }) => {
            hops.extend(more);
            Target::Via { hops, source }
        }
        _ => Target::Other,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// What identifies a route of the agent's, and nothing of where it leads.
pub(super) fn any_route(key: &RouteKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family_of(key.destination.addr());
    header.destination_prefix_length = key.destination.prefix_len();
    header.protocol = RouteProtocol::from(PROTOCOL);
    header.scope = RouteScope::NoWhere;
    header.table = u8::try_from(key.table).unwrap_or_default();
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(key.destination.addr())),
        RouteAttribute::Priority(key.metric),
        RouteAttribute::Table(key.table),
    ];
    message
}

pub(super) fn route(
    key: &RouteKey,
    target: &Target,
    overlay: Option<u32>,
) -> Result<RouteMessage, RouteError> {
    let mut message = any_route(key);
    message.header.scope = RouteScope::Universe;
    match target {
        Target::Blackhole | Target::Other => message.header.kind = RouteType::BlackHole,
        Target::Via { hops, source } => {
            message.header.kind = RouteType::Unicast;
            let hops = hops.iter().map(|hop| next_hop(hop, overlay));
            let hops = hops.collect::<Result<Vec<_>, _>>()?;
            if let [hop] = &hops[..] {
                message.header.flags = RouteFlags::from_bits_retain(hop.flags.bits().into());
                message.attributes.extend(hop.attributes.iter().cloned());
                let index = RouteAttribute::Oif(hop.interface_index);
                message.attributes.push(index);
            } else {
                message.attributes.push(RouteAttribute::MultiPath(hops));
            }
            let source =
                source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source)));
            message.attributes.extend(source);
        }
    }
    Ok(message)
}

fn next_hop(hop: &Via, overlay: Option<u32>) -> Result<RouteNextHop, RouteError> {
    let mut message = RouteNextHop::default();
    message.interface_index = match hop.out {
        Out::Link(index) => index,
        Out::Overlay => overlay.ok_or(RouteError::NoDevice)?,
    };
    if hop.out == Out::Overlay && hop.gateway.is_ipv4() {
        // The device has no address, so nothing is in a network of it.
        message.flags = RouteNextHopFlags::Onlink;
    }
    let gateway = RouteAttribute::Gateway(RouteAddress::from(hop.gateway));
    message.attributes = vec![gateway];
    Ok(message)
}

pub(super) fn rule(network: &IpNet) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family_of(network.addr());
    message.header.src_len = network.prefix_len();
    message.header.table = PEERS_TABLE;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(network.addr()),
        RuleAttribute::Priority(PEERS_PRIORITY),
        RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
    ];
    message
}

/// The network of one of the agent's rules.
pub(super) fn rule_of(rule: &RuleMessage) -> Option<IpNet> {
    let mut own = false;
    let mut source = None;
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => own = u8::from(*protocol) == PROTOCOL,
            RuleAttribute::Source(address) => source = Some(*address),
            _ => {}
        }
    }
    let network = IpNet::new(source?, rule.header.src_len).ok()?;
    (own && rule.header.table == PEERS_TABLE).then_some(network)
}
