//! Reads and writes what `image` speaks of, through rtnetlink.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's attributes are an open set, of which a few matter here"
)]

mod device;
mod neighbours;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec, new_connection_with_strict_check};
use tokio_util::task::AbortOnDropHandle;

use super::hops::{Heard, Hops, Key};
use super::image::{ALIAS, DEVICES, Device, Image, MAIN, PROTOCOL, RouteKey, Step, Tunnel, diff};
use crate::sys::sysctl;
use device::{fresh, name_of, own_device, settings};
use neighbours::{entry_of, forwarding, heard_of, neighbour};
use routes::{any_route, key_of, merged, route, route_of, rule, rule_of};

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
            let routes = &mut found.image.routes;
            let target = match routes.remove(&key) {
                Some(other) => merged(other, target),
                None => target,
            };
            routes.insert(key, target);
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

    /// What the kernel knows of these neighbours.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn neighbours(&self, of: &BTreeSet<Key>) -> Result<BTreeMap<Key, Heard>, RouteError> {
        let mut found = BTreeMap::new();
        if of.is_empty() {
            return Ok(found);
        }
        for family in FAMILIES {
            let request = self.handle.neighbours().get().set_address_family(family);
            let mut entries = request.execute();
            while let Some(entry) = entries.try_next().await? {
                found.extend(heard_of(&entry).filter(|(key, _)| of.contains(key)));
            }
        }
        Ok(found)
    }

    /// Asks these neighbours whether they are there; the kernel tells what comes of it.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn ask(&self, whom: &BTreeSet<Key>) -> Result<(), RouteError> {
        let heard = self.neighbours(whom).await?;
        for key in whom {
            let request = self.handle.neighbours().add(key.0, key.1).replace();
            let request = match heard.get(key) {
                Some(Heard::Known) => request.state(NeighbourState::Probe),
                // There is nothing to confirm: as if a packet were to be sent.
                Some(Heard::Silent | Heard::Open) | None => request
                    .state(NeighbourState::None)
                    .flags(NeighbourFlags::Use),
            };
            request.execute().await?;
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
                let message = neighbour(index?, *hop);
                gone(self.handle.neighbours().del(message).execute().await)?;
            }
            Step::RemoveForwarding(mac, node) => {
                let message = forwarding(index?, *mac, *node);
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

/// Whether a piece of news may be about the agent's own, of which `wanted` are the routes.
pub fn concerns(
    message: &RouteNetlinkMessage,
    devices: &[u32],
    hops: &Hops,
    wanted: &BTreeSet<RouteKey>,
) -> bool {
    let of_protocol = |route: &RouteMessage| u8::from(route.header.protocol) == PROTOCOL;
    match message {
        // Another's of the same key has taken the place of one of the agent's, for which there is
        // no message of its own, or has left it.
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            of_protocol(route) || wanted.contains(&key_of(route))
        }
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            name_of(link).is_some_and(|name| DEVICES.contains(&name))
        }
        RouteNetlinkMessage::NewNeighbour(entry) | RouteNetlinkMessage::DelNeighbour(entry) => {
            devices.contains(&entry.header.ifindex)
                || heard_of(entry).is_some_and(|(key, heard)| hops.is_news(&key, heard))
        }
        RouteNetlinkMessage::NewRule(rule) | RouteNetlinkMessage::DelRule(rule) => {
            rule_of(rule).is_some()
        }
        _ => false,
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
