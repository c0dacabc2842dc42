//! What the kernel should have for the pod routes, and how it gets there.
//!
//! [`lower`] turns `Routes` into the exact links, routes, neighbours, forwarding entries and rules;
//! [`diff`] compares with what was found of the agent's own and orders the steps: what adds first,
//! from the device up to the routes over it, then what removes. Nothing here talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::desired::route::{Encapsulation, Hop, Overlay, Routes};

/// Marks the agent's routes and rules (`ip route show proto 71`); no number of iproute2's
/// `rt_protos`, nor that of the plugin's routes to pods.
pub const PROTOCOL: u8 = 71;
/// Table of the routes to nodes for what pods send (see [`Image::rules`]), and its rules' priority.
pub const PEERS_TABLE: u8 = 71;
/// Before the main table's rule, after those that people number by hundreds.
pub const PEERS_PRIORITY: u32 = 7100;
/// Whoever else has a route to the same network is preferred: whether by hand, or learned.
const METRIC: u32 = 4000;
/// After every other route, as it says that nobody has the address.
const LAST_METRIC: u32 = 8000;
/// Says whose the device is.
pub const ALIAS: &str = "fairlead-agent: overlay of the pod network";
/// Names the overlay's device can have.
pub const DEVICES: [&str; 2] = ["fairlead-vxlan", "fairlead-ipip"];

/// What the kernel should have, or has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The overlay's device.
    pub device: Option<Device>,
    /// Where the overlay's device has a node's pods: hardware address by next hop.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Which node a hardware address is at.
    pub forwarding: BTreeMap<Mac, IpAddr>,
    /// The routes.
    pub routes: BTreeMap<RouteKey, Target>,
    /// Networks of this node's pods, whose packets to nodes behind the overlay take it too: the
    /// network between would not know the pods' addresses.
    pub rules: BTreeSet<IpNet>,
}

/// The overlay's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub tunnel: Tunnel,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// What cannot be changed without making the device anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// VXLAN.
    Vxlan {
        /// Network identifier.
        vni: u32,
        /// UDP port.
        port: u16,
        /// This node's address.
        local: IpAddr,
        /// Its hardware address.
        mac: Mac,
    },
    /// IPIP.
    IpIp {
        /// This node's address.
        local: IpAddr,
    },
    /// Something else of the same name that is the agent's too.
    Other,
}

impl Tunnel {
    /// Name of its device.
    pub fn device(self) -> &'static str {
        match self {
            Self::Vxlan { .. } | Self::Other => DEVICES[0],
            Self::IpIp { .. } => DEVICES[1],
        }
    }

    /// As people know it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Vxlan { .. } | Self::Other => "VXLAN",
            Self::IpIp { .. } => "IPIP",
        }
    }
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// That of a node's end of the overlay. Every node knows every other's without being told.
    pub fn of(node: IpAddr) -> Self {
        // Locally administered, unicast.
        const FIRST: u8 = 0x0a;
        let [a, b, c, d, e] = match node {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                [0xf1, a, b, c, d]
            }
            IpAddr::V6(v6) => {
                // FNV-1a: two of 5,000 nodes are the same in one cluster out of 80,000.
                let hash = v6
                    .octets()
                    .iter()
                    .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                    });
                let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
                [a, b, c, d, e]
            }
        };
        Self([FIRST, a, b, c, d, e])
    }

    /// The next hop of IPv6 that stands for it (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let interface = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&interface);
        octets.into()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What tells routes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Number of the table.
    pub table: u32,
    /// Where to.
    pub destination: IpNet,
    /// The smallest is taken.
    pub metric: u32,
}

/// The main table.
pub const MAIN: u32 = 254;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere, without an answer.
    Blackhole,
    /// To a next hop.
    Via {
        /// The next hop.
        gateway: IpAddr,
        /// Its interface.
        out: Out,
        /// Address of what this node sends itself.
        source: Option<IpAddr>,
    },
    /// Something else with the agent's mark.
    Other,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Out {
    /// The overlay's.
    Overlay,
    /// One of the node's, by its index.
    Link(u32),
}

/// A route that cannot be made, and why.
pub type Unroutable = BTreeMap<IpNet, String>;

/// What `routes` need. `index` finds the interface that has an address with its network.
pub fn lower(routes: &Routes, index: impl Fn(&IpNet) -> Option<u32>) -> (Image, Unroutable) {
    let mut image = Image::default();
    let mut unroutable = Unroutable::new();
    for network in &routes.own {
        let key = RouteKey {
            table: MAIN,
            destination: *network,
            metric: LAST_METRIC,
        };
        image.routes.insert(key, Target::Blackhole);
    }
    for (destination, route) in &routes.to {
        let key = RouteKey {
            table: MAIN,
            destination: *destination,
            metric: METRIC,
        };
        let (gateway, out) = match &route.hop {
            Hop::Overlay { peer } => (
                next_hop(routes, *peer, destination.addr().is_ipv6()),
                Out::Overlay,
            ),
            Hop::Direct { gateway, network } => match index(network) {
                Some(index) => (*gateway, Out::Link(index)),
                None => {
                    unroutable.insert(*destination, format!("no interface has {network}"));
                    continue;
                }
            },
        };
        let source = route.source;
        image.routes.insert(
            key,
            Target::Via {
                gateway,
                out,
                source,
            },
        );
    }
    if let Some(overlay) = &routes.overlay {
        image.add_overlay(routes, overlay);
    }
    (image, unroutable)
}

impl Image {
    fn add_overlay(&mut self, routes: &Routes, overlay: &Overlay) {
        let Overlay {
            encapsulation,
            local,
            mtu,
            ref peers,
        } = *overlay;
        let tunnel = match encapsulation {
            Encapsulation::Vxlan { vni, port } => Tunnel::Vxlan {
                vni,
                port,
                local,
                mac: Mac::of(local),
            },
            Encapsulation::IpIp => Tunnel::IpIp { local },
        };
        self.device = Some(Device {
            tunnel,
            mtu,
            up: true,
        });
        for ((peer, _), addresses) in peers {
            if matches!(encapsulation, Encapsulation::Vxlan { .. }) {
                let mac = Mac::of(*peer);
                self.forwarding.insert(mac, *peer);
                self.neighbours.insert(mac.link_local().into(), mac);
                if peer.is_ipv4() {
                    self.neighbours.insert(*peer, mac);
                }
            }
            for address in addresses.iter() {
                let v6 = address.is_ipv6();
                // As of pods: see `Routes`.
                let carried = match encapsulation {
                    Encapsulation::Vxlan { .. } => v6 || peer.is_ipv4(),
                    Encapsulation::IpIp => !v6,
                };
                if !carried {
                    continue;
                }
                let key = RouteKey {
                    table: PEERS_TABLE.into(),
                    destination: IpNet::from(*address),
                    metric: METRIC,
                };
                let target = Target::Via {
                    gateway: next_hop(routes, *peer, v6),
                    out: Out::Overlay,
                    source: None,
                };
                self.routes.insert(key, target);
            }
        }
        if !peers.is_empty() {
            self.rules.extend(&routes.own);
        }
    }
}

/// The next hop in the overlay that stands for a node. Over IPv6, where a node may have no address
/// of the pods' family, it is made of the hardware address.
fn next_hop(routes: &Routes, peer: IpAddr, v6: bool) -> IpAddr {
    let encapsulation = routes.overlay.as_ref().map(|overlay| overlay.encapsulation);
    match encapsulation {
        Some(Encapsulation::Vxlan { .. }) if v6 => Mac::of(peer).link_local().into(),
        _ => peer,
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Removes the overlay's device, and with it what is on it.
    RemoveDevice,
    /// Makes it.
    AddDevice(Device),
    /// Changes its MTU, and brings it up.
    SetDevice(Device),
    /// Adds or replaces an entry.
    PutForwarding(Mac, IpAddr),
    /// Adds or replaces a neighbour.
    PutNeighbour(IpAddr, Mac),
    /// Adds a route.
    AddRoute(RouteKey, Target),
    /// Replaces a route that is there.
    ReplaceRoute(RouteKey, Target),
    /// Adds a rule.
    AddRule(IpNet),
    /// Removes a rule.
    RemoveRule(IpNet),
    /// Removes a route.
    RemoveRoute(RouteKey, Target),
    /// Removes a neighbour.
    RemoveNeighbour(IpAddr),
    /// Removes an entry.
    RemoveForwarding(Mac, IpAddr),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveDevice => write!(f, "remove the overlay's device"),
            Self::AddDevice(device) => write!(f, "make {}", device.tunnel.device()),
            Self::SetDevice(device) => write!(f, "set up {}", device.tunnel.device()),
            Self::PutForwarding(mac, node) => write!(f, "forwarding entry {mac} at {node}"),
            Self::PutNeighbour(hop, mac) => write!(f, "neighbour {hop} at {mac}"),
            Self::AddRoute(key, _) | Self::ReplaceRoute(key, _) => {
                write!(f, "route to {}", key.destination)
            }
            Self::AddRule(network) => write!(f, "rule for {network}"),
            Self::RemoveRule(network) => write!(f, "remove the rule for {network}"),
            Self::RemoveRoute(key, _) => write!(f, "remove the route to {}", key.destination),
            Self::RemoveNeighbour(hop) => write!(f, "remove neighbour {hop}"),
            Self::RemoveForwarding(mac, _) => write!(f, "remove forwarding entry {mac}"),
        }
    }
}

/// The steps from what was found to what is wanted.
pub fn diff(wanted: &Image, found: &Image) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut found = found.clone();
    let same = |a: &Device, b: &Device| a.tunnel == b.tunnel;
    match (&wanted.device, &found.device) {
        (Some(device), Some(there)) if same(device, there) => {
            if device != there {
                steps.push(Step::SetDevice(device.clone()));
            }
            // What leads over an interface goes when it goes down.
        }
        (device, there) => {
            if there.is_some() {
                steps.push(Step::RemoveDevice);
                found.without_device();
            }
            if let Some(device) = device {
                steps.push(Step::AddDevice(device.clone()));
                steps.push(Step::SetDevice(device.clone()));
            }
        }
    }
    for (mac, node) in &wanted.forwarding {
        if found.forwarding.get(mac) != Some(node) {
            steps.push(Step::PutForwarding(*mac, *node));
        }
    }
    for (hop, mac) in &wanted.neighbours {
        if found.neighbours.get(hop) != Some(mac) {
            steps.push(Step::PutNeighbour(*hop, *mac));
        }
    }
    for (key, target) in &wanted.routes {
        match found.routes.get(key) {
            Some(there) if there == target => {}
            Some(_) => steps.push(Step::ReplaceRoute(*key, *target)),
            None => steps.push(Step::AddRoute(*key, *target)),
        }
    }
    let fresh = wanted.rules.difference(&found.rules);
    steps.extend(fresh.copied().map(Step::AddRule));
    let stale = found.rules.difference(&wanted.rules);
    steps.extend(stale.copied().map(Step::RemoveRule));
    for (key, target) in &found.routes {
        if !wanted.routes.contains_key(key) {
            steps.push(Step::RemoveRoute(*key, *target));
        }
    }
    for hop in found.neighbours.keys() {
        if !wanted.neighbours.contains_key(hop) {
            steps.push(Step::RemoveNeighbour(*hop));
        }
    }
    for (mac, node) in &found.forwarding {
        if !wanted.forwarding.contains_key(mac) {
            steps.push(Step::RemoveForwarding(*mac, *node));
        }
    }
    steps
}

impl Image {
    /// What stays when the overlay's device goes.
    fn without_device(&mut self) {
        let leads_over = |target: &Target| {
            matches!(
                target,
                Target::Via {
                    out: Out::Overlay,
                    ..
                }
            )
        };
        self.routes.retain(|_, target| !leads_over(target));
        self.neighbours.clear();
        self.forwarding.clear();
        self.device = None;
    }
}

#[cfg(test)]
mod tests;
