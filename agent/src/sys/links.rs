//! The interfaces of this network namespace, and news of them.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A pod's interface comes as a handful of messages within a few milliseconds.
const QUIET: Duration = Duration::from_millis(10);
/// Where routes change all the time, as beside a BGP speaker, quiet does not come.
const LONGEST: Duration = Duration::from_millis(200);
/// After news that did not fit into the socket's buffer nothing else may come.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind, as far as it matters.
    pub kind: LinkKind,
    /// Whether frames begin with an Ethernet header.
    pub ethernet: bool,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Those that connections may leave under, in the kernel's order: none of the link, none that
    /// depends on another, is about to go or is not checked yet.
    pub sources: Vec<IpAddr>,
    /// What is behind it without a gateway, by the node's routes; no addresses of the link.
    pub routes: BTreeSet<IpNet>,
    /// Index of the bridge that it is a port of.
    pub bridge: Option<u32>,
    /// Its addresses with the networks they are of.
    pub networks: BTreeSet<IpNet>,
    /// Whether a default route leaves by it.
    pub default_route: bool,
    /// Largest packet in bytes; 0 where not known.
    pub mtu: u32,
    /// Whether the other end of the pair is in another network namespace.
    pub peer_elsewhere: bool,
    /// Whether packets that leave by it wait in a queueing discipline.
    pub queued: bool,
    /// Whether it is up, and so is what it is plugged into.
    pub carrier: bool,
}

/// Kind of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback interface.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// Anything else.
    Other,
}

/// Why interfaces cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// No socket.
    #[error("cannot follow the node's interfaces: no netlink socket")]
    Socket(#[from] io::Error),
    /// A request failed.
    #[error("cannot list the node's interfaces")]
    Request(#[from] rtnetlink::Error),
    /// The socket is gone.
    #[error("cannot follow the node's interfaces: netlink closed the connection")]
    Closed,
}

/// Publishes the interfaces at every change until `cancel`, and at once where `look` says so.
///
/// # Errors
/// Where netlink fails; the last list stays published.
pub async fn follow(
    links: watch::Sender<Option<Vec<Link>>>,
    look: Arc<Notify>,
    cancel: CancellationToken,
) -> Result<(), LinksError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Tc,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, handle, mut news) = new_multicast_connection(&groups)?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    loop {
        let fresh = list(&handle).await?;
        links.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&fresh);
            *known = Some(fresh);
            differs
        });
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            next = news.next() => if next.is_none() { return Err(LinksError::Closed) },
            () = look.notified() => continue,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let latest = Instant::now() + LONGEST;
        let soon = || (Instant::now() + QUIET).min(latest);
        loop {
            tokio::select! {
                more = tokio::time::timeout_at(soon(), news.next()) => {
                    let Ok(Some(_)) = more else { break };
                }
                () = look.notified() => break,
            }
        }
    }
}

/// All interfaces as they are now.
///
/// # Errors
/// Where netlink fails.
pub async fn now() -> Result<Vec<Link>, LinksError> {
    let (connection, handle, _news) = new_connection()?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    Ok(list(&handle).await?)
}

/// Names of all interfaces.
///
/// # Errors
/// Where netlink fails.
pub async fn names() -> Result<Vec<String>, LinksError> {
    let links = now().await?.into_iter();
    Ok(links.map(|link| link.name).collect())
}

async fn list(handle: &Handle) -> Result<Vec<Link>, rtnetlink::Error> {
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let mut links: Vec<Link> = messages.iter().map(link).collect();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        let Some(link) = links
            .iter_mut()
            .find(|link| link.index == message.header.index)
        else {
            continue;
        };
        let of_message = message.attributes.iter();
        let addresses: Vec<IpAddr> = of_message
            .filter_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
            .collect();
        let length = message.header.prefix_len;
        let networks = addresses.iter();
        link.networks
            .extend(networks.filter_map(|address| IpNet::new(*address, length).ok()));
        if is_source(&message) {
            link.sources.extend(addresses.iter().copied());
        }
        link.addresses.extend(addresses);
    }
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for question in [v4, v6] {
        let mut routes = handle.route().get(question).execute();
        while let Some(route) = routes.try_next().await? {
            for index in default_interfaces(&route) {
                if let Some(link) = links.iter_mut().find(|link| link.index == index) {
                    link.default_route = true;
                }
            }
            if let Some((index, network)) = without_gateway(&route)
                && let Some(link) = links.iter_mut().find(|link| link.index == index)
            {
                link.routes.insert(network);
            }
        }
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Other,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        addresses: BTreeSet::new(),
        sources: Vec::new(),
        routes: BTreeSet::new(),
        bridge: None,
        networks: BTreeSet::new(),
        default_route: false,
        mtu: 0,
        peer_elsewhere: false,
        queued: false,
        carrier: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::Qdisc(kind) => link.queued = kind != "noqueue",
            LinkAttribute::Controller(index) => link.bridge = Some(*index),
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if message.header.flags.contains(LinkFlags::Loopback) {
        link.kind = LinkKind::Loopback;
    }
    link
}

/// Whether connections may leave under an address. The header has the first eight of the flags: a
/// temporary IPv6 address has that of a secondary IPv4 one.
fn is_source(message: &AddressMessage) -> bool {
    let unfit = AddressHeaderFlags::Secondary
        | AddressHeaderFlags::Dadfailed
        | AddressHeaderFlags::Deprecated
        | AddressHeaderFlags::Tentative;
    message.header.scope == AddressScope::Universe && !message.header.flags.intersects(unfit)
}

/// Interfaces by which a route leaves, if it is a default route. Of any table: where every uplink
/// has a routing table of its own, their default routes stand there.
fn default_interfaces(route: &RouteMessage) -> Vec<u32> {
    if route.header.destination_prefix_length != 0
        || !matches!(
            route.header.address_family,
            AddressFamily::Inet | AddressFamily::Inet6
        )
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.push(*index),
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().map(|hop| hop.interface_index))
            }
            _ => {}
        }
    }
    found
}

/// The interface that a network is behind without a gateway, as pods are. Of any table, as above.
fn without_gateway(route: &RouteMessage) -> Option<(u32, IpNet)> {
    let length = route.header.destination_prefix_length;
    if route.header.kind != RouteType::Unicast || length == 0 {
        return None;
    }
    let (mut interface, mut address) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    let network = IpNet::new(address?, length).ok()?;
    let of_the_link = match network.addr() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    };
    (!of_the_link).then_some((interface?, network))
}
