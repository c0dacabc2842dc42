//! CHECK: whether everything that ADD made, and later plugins kept, is there.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use crate::add::kernel_error;
use crate::error::{CniError, Code};
use crate::message;
use crate::name::{HostInterface, Mac};
use crate::namespace::Namespace;
use crate::netlink::{Netlink, outgoing};
use crate::plan::gateway;
use crate::request::Check;
use crate::store::Store;

/// Looks at everything of an attachment.
///
/// # Errors
/// All that is not as it was made.
pub fn check(request: &Check) -> Result<(), CniError> {
    let Check {
        attachment,
        netns,
        place,
        previous,
    } = request;
    let interface = HostInterface::of(attachment);
    let expected = previous.addresses_of(&attachment.ifname);
    let namespace = Namespace::open(netns)?;
    let lease = match Store::existing(place)? {
        Some(store) => store.find(&interface)?,
        None => None,
    };
    let leased = lease.map(|lease| lease.addresses).unwrap_or_default();
    let mut wrong = Vec::new();
    if expected.is_empty() {
        wrong.push(format!(
            "prevResult has no address of {}",
            attachment.ifname
        ));
    }
    for address in expected.iter().filter(|address| !leased.contains(address)) {
        wrong.push(format!("{address} is not leased to it"));
    }
    let failed = |error| kernel_error("look at the interfaces", &error);
    host_side(&interface, &expected, &mut wrong).map_err(failed)?;
    let seen = namespace.within(|| pod_side(request, &expected, &mut wrong));
    seen.and_then(|seen| seen).map_err(failed)?;
    if wrong.is_empty() {
        return Ok(());
    }
    Err(CniError::new(
        Code::NotAsMade,
        format!(
            "{} of container {} is not as it was made",
            attachment.ifname, attachment.container
        ),
        wrong.join("; "),
    ))
}

fn host_side(
    interface: &HostInterface,
    expected: &[IpAddr],
    wrong: &mut Vec<String>,
) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let Some(index) = netlink.index(interface.as_str())? else {
        wrong.push(format!("the host's interface {interface} is gone"));
        return Ok(());
    };
    if !is_up(&netlink.link(index)?) {
        wrong.push(format!("the host's interface {interface} is down"));
    }
    for address in expected {
        let route = netlink.route_to(*address)?;
        if route.and_then(|route| outgoing(&route)) != Some(index) {
            wrong.push(format!(
                "the host's route to {address} does not lead to {interface}"
            ));
        }
    }
    Ok(())
}

/// In the pod's namespace.
fn pod_side(request: &Check, expected: &[IpAddr], wrong: &mut Vec<String>) -> io::Result<()> {
    let ifname = &request.attachment.ifname;
    let mut netlink = Netlink::open()?;
    let Some(index) = netlink.index(ifname)? else {
        wrong.push(format!("the pod's interface {ifname} is gone"));
        return Ok(());
    };
    let link = netlink.link(index)?;
    if !is_up(&link) {
        wrong.push(format!("the pod's interface {ifname} is down"));
    }
    let (mac, should) = (mac_of(&link), request.previous.mac_of(ifname));
    if let (Some(mac), Some(should)) = (mac, should)
        && mac.to_string() != should
    {
        wrong.push(format!(
            "the pod's interface {ifname} has {mac}, not {should}"
        ));
    }
    let there = addresses(&mut netlink, index)?;
    for address in expected.iter().filter(|address| !there.contains(address)) {
        wrong.push(format!("the pod has lost {address}"));
    }
    for family in &request.previous.default_routes {
        let gateway = gateway(*family);
        let routes = netlink.routes(*family)?;
        let is_ours = |route: &RouteMessage| {
            route.header.destination_prefix_length == 0
                && outgoing(route) == Some(index)
                && route
                    .attributes
                    .contains(&RouteAttribute::Gateway(RouteAddress::from(gateway)))
        };
        if !routes.iter().any(is_ours) {
            wrong.push(format!("the pod has lost its default route by {gateway}"));
        }
    }
    Ok(())
}

fn addresses(netlink: &mut Netlink, index: u32) -> io::Result<BTreeSet<IpAddr>> {
    let answers = netlink.exchange(message::get_addresses(), NLM_F_DUMP)?;
    let of_interface = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
            Some(address.attributes)
        }
        _ => None,
    });
    let found = of_interface
        .flatten()
        .filter_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(address),
            _ => None,
        });
    Ok(found.collect())
}

fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

fn mac_of(link: &LinkMessage) -> Option<Mac> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
            _ => None,
        })
}
