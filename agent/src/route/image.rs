//! What the kernel should have for the pod routes, and how it gets there.
//!
//! [`lower`] turns `Routes` into the exact links, routes, neighbours, forwarding entries and rules;
//! [`diff`] compares with what was found of the agent's own and orders the steps: what adds first,
//! from the device up to the routes over it, then what removes. Nothing here talks to the kernel.

mod diff;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::desired::route::{Encapsulation, NextHop, Overlay, Routes, Way};

pub use diff::{Step, diff};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere, without an answer.
    Blackhole,
    /// To one of these next hops, each with an equal share of the flows; at least one.
    Via {
        /// The next hops.
        hops: BTreeSet<Via>,
        /// Address of what this node sends itself; of several interfaces each has its own.
        source: Option<IpAddr>,
    },
    /// Something else with the agent's mark.
    Other,
}

impl Target {
    /// The way by one next hop.
    fn via(gateway: IpAddr, out: Out, source: Option<IpAddr>) -> Self {
        let hops = [Via { gateway, out }].into();
        Self::Via { hops, source }
    }

    fn leads_over(&self, out: Out) -> bool {
        matches!(self, Self::Via { hops, .. } if hops.iter().any(|hop| hop.out == out))
    }
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Via {
    /// Its address.
    pub gateway: IpAddr,
    /// Its interface.
    pub out: Out,
}

/// What is known of a next hop in a network of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Index of the interface that leads there.
    pub index: u32,
    /// Whether there is a carrier, and the next hop has not been found silent.
    pub usable: bool,
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

/// What `routes` need. `reach` finds the interface that has an address with the next hop's network.
pub fn lower(routes: &Routes, reach: impl Fn(&NextHop) -> Option<Reach>) -> (Image, Unroutable) {
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
        let target = match &route.way {
            Way::Overlay { peer, source } => {
                let gateway = next_hop(routes, *peer, destination.addr().is_ipv6());
                Target::via(gateway, Out::Overlay, *source)
            }
            Way::Direct(hops) => match direct(hops, &reach) {
                Ok(target) => target,
                Err(why) => {
                    unroutable.insert(*destination, why);
                    continue;
                }
            },
        };
        image.routes.insert(key, target);
    }
    if let Some(overlay) = &routes.overlay {
        image.add_overlay(routes, overlay);
    }
    (image, unroutable)
}

/// The way by those of the next hops that can be used; where none can, by all that there are.
fn direct(
    hops: &BTreeSet<NextHop>,
    reach: impl Fn(&NextHop) -> Option<Reach>,
) -> Result<Target, String> {
    let found = hops.iter().filter_map(|hop| Some((hop, reach(hop)?)));
    let mut found: Vec<(&NextHop, Reach)> = found.collect();
    if found.iter().any(|(_, reach)| reach.usable) {
        found.retain(|(_, reach)| reach.usable);
    }
    let only = match found[..] {
        [] => {
            let networks: Vec<_> = hops.iter().map(|hop| hop.network.to_string()).collect();
            return Err(format!("no interface has {}", networks.join(" or ")));
        }
        [(hop, _)] => Some(hop.network.addr()),
        _ => None,
    };
    let hops = found.iter().map(|(hop, reach)| Via {
        gateway: hop.gateway,
        out: Out::Link(reach.index),
    });
    Ok(Target::Via {
        hops: hops.collect(),
        source: only,
    })
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
                let target = Target::via(next_hop(routes, *peer, v6), Out::Overlay, None);
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

#[cfg(test)]
mod tests;
