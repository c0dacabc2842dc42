//! Reads and writes what `image` speaks of, through rtnetlink.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::link::{
    InfoData, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkIpIp, LinkUnspec, LinkVxlan, new_connection_with_strict_check};
use tokio_util::task::AbortOnDropHandle;

use super::image::{
    ALIAS, DEVICES, Device, Image, MAIN, Mac, Out, PEERS_PRIORITY, PEERS_TABLE, PROTOCOL, RouteKey,
    Step, Target, Tunnel, diff,
};
use crate::sys::sysctl;

/// Why the kernel's routes cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No socket.
    #[error("no netlink socket")]
    Socket(#[from] io::Error),
    /// The kernel refused.
    #[error("{0}")]
    Refused(io::Error),
    /// A kind of device.
    #[error("this kernel has no {0}; load its module, or choose another --overlay-encap")]
    NoKind(&'static str),
    /// A device of the same name.
    #[error(
        "{name} is there and is not the agent's; remove it, or rename it: ip link set {name} name NAME"
    )]
    Foreign {
        /// The name.
        name: &'static str,
    },
    /// A step that needs the device, which could not be made.
    #[error("the overlay's device is not there")]
    NoDevice,
    /// A sysctl.
    #[error("{name} cannot be set")]
    Setting {
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl From<rtnetlink::Error> for RouteError {
    fn from(error: rtnetlink::Error) -> Self {
        Self::Refused(match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        })
    }
}

/// Each family as netlink has it.
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Replies may come another way than where they would go: a node behind the overlay asks a pod from
/// the address it has outside of it.
const LOOSE: &str = "2";

/// The kernel's tables.
#[derive(Debug)]
pub struct Kernel {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

/// What was found of the agent's own.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// As an image.
    pub image: Image,
    /// Indexes of the overlay's devices.
    pub devices: Vec<u32>,
    /// A device of another that has the overlay's name.
    pub foreign: Option<&'static str>,
}

impl Kernel {
    /// Opens a socket.
    ///
    /// # Errors
    /// Where there is none.
    pub fn open() -> Result<Self, RouteError> {
        // Strict, so that a dump of routes is of the agent's alone, however many others there are.
        let (connection, handle, _news) = new_connection_with_strict_check()?;
        Ok(Self {
            handle,
            _connection: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }

    /// Reads what is the agent's.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn observe(&self) -> Result<Found, RouteError> {
        let mut found = Found::default();
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        for link in &links {
            match own_device(link) {
                Some(Ok(device)) => {
                    found.devices.push(link.header.index);
                    found.image.device = Some(device);
                }
                Some(Err(name)) => found.foreign = Some(name),
                None => {}
            }
        }
        if let [_, _, ..] = found.devices[..] {
            found.image.device = found.image.device.map(|device| Device {
                tunnel: Tunnel::Other,
                ..device
            });
        }
        for family in FAMILIES {
            self.observe_routes(family, &mut found).await?;
            self.observe_rules(family, &mut found.image).await?;
        }
        if !found.devices.is_empty() {
            self.observe_neighbours(&mut found).await?;
        }
        Ok(found)
    }

    async fn observe_routes(
        &self,
        family: AddressFamily,
        found: &mut Found,
    ) -> Result<(), RouteError> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.header.protocol = RouteProtocol::from(PROTOCOL);
        let mut routes = self.handle.route().get(question).execute();
        while let Some(route) = routes.try_next().await? {
            if u8::from(route.header.protocol) != PROTOCOL {
                continue;
            }
            let (key, target) = route_of(&route, &found.devices);
            if let Some(other) = found.image.routes.insert(key, target) {
                // Two of one key, which IPv6 has as one route with two next hops.
                let target = if other == target {
                    target
                } else {
                    Target::Other
                };
                found.image.routes.insert(key, target);
            }
        }
        Ok(())
    }

    async fn observe_rules(
        &self,
        family: AddressFamily,
        image: &mut Image,
    ) -> Result<(), RouteError> {
        let version = match family {
            AddressFamily::Inet => rtnetlink::IpVersion::V4,
            _ => rtnetlink::IpVersion::V6,
        };
        let mut rules = self.handle.rule().get(version).execute();
        while let Some(rule) = rules.try_next().await? {
            image.rules.extend(rule_of(&rule));
        }
        Ok(())
    }

    async fn observe_neighbours(&self, found: &mut Found) -> Result<(), RouteError> {
        for family in [
            AddressFamily::Inet,
            AddressFamily::Inet6,
            AddressFamily::Bridge,
        ] {
            let request = self.handle.neighbours().get().set_address_family(family);
            let mut entries = request.execute();
            while let Some(entry) = entries.try_next().await? {
                if !found.devices.contains(&entry.header.ifindex) {
                    continue;
                }
                match entry_of(&entry) {
                    Some((Some(hop), mac)) if family != AddressFamily::Bridge => {
                        found.image.neighbours.insert(hop, mac);
                    }
                    Some((Some(node), mac)) => {
                        found.image.forwarding.insert(mac, node);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Does one step. `devices` are the overlay's, and brought up to date.
    ///
    /// # Errors
    /// Where the kernel refuses; nothing was changed then.
    pub async fn apply(&self, step: &Step, devices: &mut Vec<u32>) -> Result<(), RouteError> {
        let index = devices.last().copied().ok_or(RouteError::NoDevice);
        match step {
            Step::RemoveDevice => {
                for index in devices.drain(..) {
                    self.handle.link().del(index).execute().await?;
                }
            }
            Step::AddDevice(device) => {
                let made = self.handle.link().add(fresh(device)).execute().await;
                made.map_err(|error| match error.into() {
                    RouteError::Refused(error)
                        if error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
                    {
                        RouteError::NoKind(device.tunnel.kind())
                    }
                    other => other,
                })?;
                let name = device.tunnel.device();
                let links: Vec<LinkMessage> =
                    self.handle.link().get().execute().try_collect().await?;
                let made = links.iter().find(|link| name_of(link) == Some(name));
                devices.extend(made.map(|link| link.header.index));
            }
            Step::SetDevice(device) => {
                let name = device.tunnel.device();
                for (setting, value) in settings(name) {
                    // Nobody needs a setting of a family that the kernel does not have.
                    if sysctl::get(&setting).ok().flatten().is_some() {
                        sysctl::set(&setting, value).map_err(|source| RouteError::Setting {
                            name: setting.clone(),
                            source,
                        })?;
                    }
                }
                let message = LinkUnspec::new_with_index(index?)
                    .alias(ALIAS)
                    .mtu(device.mtu)
                    .up()
                    .build();
                self.handle.link().change(message).execute().await?;
            }
            Step::PutForwarding(mac, node) => {
                let entries = self.handle.neighbours();
                let request = entries.add_bridge(index?, &mac.0).destination(*node);
                request
                    .flags(NeighbourFlags::Own)
                    .replace()
                    .execute()
                    .await?;
            }
            Step::PutNeighbour(hop, mac) => {
                let entries = self.handle.neighbours();
                let request = entries.add(index?, *hop).link_layer_address(&mac.0);
                request.replace().execute().await?;
            }
            Step::AddRoute(key, target) => {
                let message = route(key, target, devices.last().copied())?;
                self.handle.route().add(message).execute().await?;
            }
            Step::ReplaceRoute(key, target) => {
                let message = route(key, target, devices.last().copied())?;
                self.handle.route().add(message).replace().execute().await?;
            }
            Step::AddRule(network) => {
                let mut request = self.handle.rule().add();
                *request.message_mut() = rule(network);
                request.execute().await?;
            }
            Step::RemoveRule(network) => {
                gone(self.handle.rule().del(rule(network)).execute().await)?;
            }
            Step::RemoveRoute(key, _) => {
                gone(self.handle.route().del(any_route(key)).execute().await)?;
            }
            Step::RemoveNeighbour(hop) => {
                let mut message = NeighbourMessage::default();
                message.header.family = family_of(*hop);
                message.header.ifindex = index?;
                let attribute = NeighbourAttribute::Destination(neighbour_address(*hop));
                message.attributes.push(attribute);
                gone(self.handle.neighbours().del(message).execute().await)?;
            }
            Step::RemoveForwarding(mac, node) => {
                let mut message = NeighbourMessage::default();
                message.header.family = AddressFamily::Bridge;
                message.header.ifindex = index?;
                message.header.flags = NeighbourFlags::Own;
                message.header.state = NeighbourState::Permanent;
                message.attributes = vec![
                    NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
                    NeighbourAttribute::Destination(neighbour_address(*node)),
                ];
                gone(self.handle.neighbours().del(message).execute().await)?;
            }
        }
        Ok(())
    }
}

/// The steps that take back everything of the agent's; for `--cleanup-config`, outside of any
/// runtime.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn leftovers() -> Result<Vec<Step>, RouteError> {
    alone(async {
        let found = Kernel::open()?.observe().await?;
        Ok(diff(&Image::default(), &found.image))
    })
}

/// Does one of these steps.
///
/// # Errors
/// Where the kernel refuses.
pub fn take_back(step: &Step) -> io::Result<()> {
    let done = alone(async {
        let kernel = Kernel::open()?;
        let mut devices = kernel.observe().await?.devices;
        kernel.apply(step, &mut devices).await
    });
    done.map_err(io::Error::other)
}

fn alone<T>(work: impl Future<Output = Result<T, RouteError>>) -> Result<T, RouteError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(work)
}

/// Settings of the overlay's device. It needs no address of its own: what the node sends there has
/// the node's.
fn settings(device: &str) -> [(String, &'static str); 2] {
    [
        (format!("net.ipv4.conf.{device}.rp_filter"), LOOSE),
        (format!("net.ipv6.conf.{device}.addr_gen_mode"), "1"),
    ]
}

/// What is to be removed may be gone.
fn gone(result: Result<(), rtnetlink::Error>) -> Result<(), RouteError> {
    match result.map_err(RouteError::from) {
        Err(RouteError::Refused(error))
            if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Whether a piece of news may be about the agent's own.
pub fn concerns(message: &RouteNetlinkMessage, devices: &[u32]) -> bool {
    let of_protocol = |route: &RouteMessage| u8::from(route.header.protocol) == PROTOCOL;
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            of_protocol(route)
        }
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            name_of(link).is_some_and(|name| DEVICES.contains(&name))
        }
        RouteNetlinkMessage::NewNeighbour(entry) | RouteNetlinkMessage::DelNeighbour(entry) => {
            devices.contains(&entry.header.ifindex)
        }
        RouteNetlinkMessage::NewRule(rule) | RouteNetlinkMessage::DelRule(rule) => {
            rule_of(rule).is_some()
        }
        _ => false,
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// The overlay's device, where the link is one. An alias is set right after a device is made, so one
/// without was left by an agent that was killed in between.
fn own_device(link: &LinkMessage) -> Option<Result<Device, &'static str>> {
    let known = name_of(link)?;
    let name = DEVICES.into_iter().find(|name| *name == known)?;
    let (mut kind, mut data, mut mac, mut mtu, mut alias) = (None, None, None, 0, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::IfAlias(value) => alias = Some(value.as_str()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(value) => kind = Some(value),
                        LinkInfo::Data(value) => data = Some(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let of_kind = matches!(
        (name, kind),
        ("fairlead-vxlan", Some(InfoKind::Vxlan)) | ("fairlead-ipip", Some(InfoKind::IpIp))
    );
    if !of_kind || alias.is_some_and(|alias| alias != ALIAS) {
        return Some(Err(name));
    }
    let tunnel = match data {
        Some(InfoData::Vxlan(infos)) => vxlan(infos, mac),
        Some(InfoData::IpTunnel(infos)) => ip_ip(infos),
        _ => None,
    };
    let as_set = settings(name).iter().all(|(setting, value)| {
        let found = sysctl::get(setting).ok().flatten();
        found.is_none_or(|found| found == *value)
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    Some(Ok(Device {
        tunnel: tunnel.unwrap_or(Tunnel::Other),
        mtu,
        up: up && as_set && alias.is_some(),
    }))
}

fn vxlan(infos: &[InfoVxlan], mac: Option<Mac>) -> Option<Tunnel> {
    let (mut id, mut to, mut from, mut learning) = (None, None, None, true);
    for info in infos {
        match info {
            InfoVxlan::Id(value) => id = Some(*value),
            InfoVxlan::Port(value) => to = Some(*value),
            InfoVxlan::Local(value) => from = Some(IpAddr::from(*value)),
            InfoVxlan::Local6(value) => from = Some(IpAddr::from(*value)),
            InfoVxlan::Learning(value) => learning = *value,
            _ => {}
        }
    }
    Some(Tunnel::Vxlan {
        vni: id?,
        port: to?,
        local: from.filter(|_| !learning)?,
        mac: mac?,
    })
}

fn ip_ip(infos: &[InfoIpTunnel]) -> Option<Tunnel> {
    infos.iter().find_map(|info| match info {
        InfoIpTunnel::Local(local) => Some(Tunnel::IpIp { local: *local }),
        _ => None,
    })
}

fn fresh(device: &Device) -> LinkMessage {
    let name = device.tunnel.device();
    match device.tunnel {
        Tunnel::Vxlan {
            vni,
            port,
            local,
            mac,
        } => {
            let builder = LinkVxlan::new(name, vni).port(port).learning(false);
            let builder = match local {
                IpAddr::V4(local) => builder.local(local),
                IpAddr::V6(local) => builder.local6(local),
            };
            let builder = builder.address(mac.0.to_vec()).mtu(device.mtu);
            builder.build()
        }
        Tunnel::IpIp { local } => {
            let builder = LinkIpIp::new(name).mtu(device.mtu);
            match local {
                IpAddr::V4(local) => builder.local(local).build(),
                IpAddr::V6(_) => builder.build(),
            }
        }
        Tunnel::Other => LinkUnspec::new_with_name(name).build(),
    }
}

fn route_of(route: &RouteMessage, devices: &[u32]) -> (RouteKey, Target) {
    let v6 = route.header.address_family == AddressFamily::Inet6;
    let any = if v6 {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let (mut destination, mut gateway, mut out, mut source, mut metric) =
        (any, None, None, None, 0);
    let mut table = u32::from(route.header.table);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(found) => destination = ip(found).unwrap_or(any),
            RouteAttribute::Gateway(found) => gateway = ip(found),
            RouteAttribute::PrefSource(found) => source = ip(found),
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::Priority(found) => metric = *found,
            RouteAttribute::Table(found) => table = *found,
            _ => {}
        }
    }
    let length = route.header.destination_prefix_length;
    let destination = IpNet::new(destination, length).unwrap_or_else(|_| IpNet::from(destination));
    let target = match (route.header.kind, gateway, out) {
        (RouteType::BlackHole, _, _) => Target::Blackhole,
        (RouteType::Unicast, Some(gateway), Some(out)) => Target::Via {
            gateway,
            out: if devices.contains(&out) {
                Out::Overlay
            } else {
                Out::Link(out)
            },
            source,
        },
        _ => Target::Other,
    };
    let key = RouteKey {
        table,
        destination,
        metric,
    };
    (key, target)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// What identifies a route of the agent's, and nothing of where it leads.
fn any_route(key: &RouteKey) -> RouteMessage {
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

fn route(
    key: &RouteKey,
    target: &Target,
    overlay: Option<u32>,
) -> Result<RouteMessage, RouteError> {
    let mut message = any_route(key);
    message.header.scope = RouteScope::Universe;
    match target {
        Target::Blackhole | Target::Other => message.header.kind = RouteType::BlackHole,
        Target::Via {
            gateway,
            out,
            source,
        } => {
            message.header.kind = RouteType::Unicast;
            let index = match out {
                Out::Link(index) => *index,
                Out::Overlay => overlay.ok_or(RouteError::NoDevice)?,
            };
            if *out == Out::Overlay && gateway.is_ipv4() {
                // The device has no address, so nothing is in a network of it.
                message.header.flags = RouteFlags::Onlink;
            }
            message.attributes.extend([
                RouteAttribute::Gateway(RouteAddress::from(*gateway)),
                RouteAttribute::Oif(index),
            ]);
            let source =
                source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source)));
            message.attributes.extend(source);
        }
    }
    Ok(message)
}

fn rule(network: &IpNet) -> RuleMessage {
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
fn rule_of(rule: &RuleMessage) -> Option<IpNet> {
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

fn entry_of(entry: &NeighbourMessage) -> Option<(Option<IpAddr>, Mac)> {
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

fn neighbour_address(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Whether the table is the one that packets without a rule of their own take.
pub fn is_main(key: &RouteKey) -> bool {
    key.table == MAIN
}
