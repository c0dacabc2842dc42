//! The interfaces of this network namespace, and news of them.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
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
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{
    AddressGetRequest, Handle, MulticastGroup, RouteGetRequest, RouteMessageBuilder,
    new_connection, new_multicast_connection,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A pod's interface comes as a handful of messages within a few milliseconds.
const QUIET: Duration = Duration::from_millis(10);
/// Where routes change all the time, as beside a BGP speaker, quiet does not come.
const LONGEST: Duration = Duration::from_millis(200);
/// After news that did not fit into the socket's buffer nothing else may come.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback interface.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// Anything else.
    #[default]
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

/// Publishes the interfaces at every change until `cancel`; one whose index comes by `look`, at once.
///
/// # Errors
/// Where netlink fails; the last list stays published.
pub async fn follow(
    links: watch::Sender<Option<Vec<Link>>>,
    mut look: mpsc::Receiver<u32>,
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
    let (connection, _handle, mut news) = new_multicast_connection(&groups)?;
    let _news = AbortOnDropHandle::new(tokio::spawn(connection));
    // Not asked there: news carry the number of another socket's request, which may be that of a question.
    let (connection, handle, _) = new_connection()?;
    let _asked = AbortOnDropHandle::new(tokio::spawn(connection));
    let (mut connection, of_one, _) = new_connection()?;
    connection
        .socket_mut()
        .socket_mut()
        .set_netlink_get_strict_chk(true)?;
    let _of_one = AbortOnDropHandle::new(tokio::spawn(connection));
    loop {
        let known = list(&handle).await?;
        publish(&links, known);
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            next = news.next() => if next.is_none() { return Err(LinksError::Closed) },
            Some(index) = look.recv() => {
                look_at(&of_one, index, &links).await;
            }
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let latest = Instant::now() + LONGEST;
        let soon = || (Instant::now() + QUIET).min(latest);
        loop {
            tokio::select! {
                more = tokio::time::timeout_at(soon(), news.next()) => {
                    let Ok(Some(_)) = more else { break };
                }
                Some(index) = look.recv() => look_at(&of_one, index, &links).await,
            }
        }
    }
}

fn publish(links: &watch::Sender<Option<Vec<Link>>>, fresh: Vec<Link>) {
    links.send_if_modified(|known| {
        let differs = known.as_ref() != Some(&fresh);
        *known = Some(fresh);
        differs
    });
}

/// Publishes one interface as it is now, since a pod waits for it: what else is there may be much. What
/// fails here, or is gone, the next list tells.
async fn look_at(handle: &Handle, index: u32, links: &watch::Sender<Option<Vec<Link>>>) {
    let link = match one(handle, index).await {
        Ok(link) => link,
        Err(error) => return tracing::debug!(index, %error, "an interface is not looked at alone"),
    };
    let Some(mut known) = links.borrow().clone() else {
        return;
    };
    match known.iter_mut().find(|known| known.index == index) {
        Some(known) => *known = link,
        None => known.push(link),
    }
    publish(links, known);
}

/// All interfaces as they are now.
///
/// # Errors
/// Where netlink fails.
pub async fn now() -> Result<Vec<Link>, LinksError> {
    let (connection, handle, _news) = new_connection()?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
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
    add_addresses(&mut links, handle.address().get()).await?;
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for question in [v4, v6] {
        add_routes(&mut links, handle.route().get(question)).await?;
    }
    Ok(links)
}

/// One interface. `handle` checks questions strictly, so the kernel tells of it alone.
async fn one(handle: &Handle, index: u32) -> Result<Link, rtnetlink::Error> {
    let mut messages = handle.link().get().match_index(index).execute();
    let found = messages
        .try_next()
        .await?
        .ok_or(rtnetlink::Error::RequestFailed)?;
    let mut links = [link(&found)];
    let mut addresses = handle.address().get();
    addresses.message_mut().header.index = index;
    add_addresses(&mut links, addresses).await?;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.attributes.push(RouteAttribute::Oif(index));
        add_routes(&mut links, handle.route().get(question)).await?;
    }
    let [link] = links;
    Ok(link)
}

async fn add_addresses(
    links: &mut [Link],
    question: AddressGetRequest,
) -> Result<(), rtnetlink::Error> {
    let mut addresses = question.execute();
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
    Ok(())
}

async fn add_routes(links: &mut [Link], question: RouteGetRequest) -> Result<(), rtnetlink::Error> {
    let mut routes = question.execute();
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
    Ok(())
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        carrier: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running),
        ..Link::default()
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
