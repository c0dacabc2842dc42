//! Which way leads to a node: the networks that it shares with this one, else the overlay.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::{IpFamily, Node, NodeAddressType};

use super::{Encapsulation, NextHop, Overlay, OverlayUse, RouterOptions, Way};
use crate::desired::NodeContext;

/// What decides about ways.
pub(super) struct Ways<'a> {
    pub(super) options: RouterOptions,
    pub(super) context: &'a NodeContext,
    /// This node's address in the overlay.
    pub(super) local: Option<IpAddr>,
}

impl<'a> Ways<'a> {
    /// For a node with these addresses.
    pub(super) fn of(own: &[IpAddr], options: RouterOptions, context: &'a NodeContext) -> Self {
        Self {
            options,
            context,
            local: underlay(own),
        }
    }

    /// The way to pods of a family on a node with these addresses, or why there is none.
    pub(super) fn to(
        &self,
        family: IpFamily,
        addresses: &[IpAddr],
        overlay: Option<&Overlay>,
    ) -> Result<Way, String> {
        if self.options.overlay != OverlayUse::Full {
            let hops = self.direct(family, addresses);
            if !hops.is_empty() {
                return Ok(Way::Direct(hops));
            }
        }
        if self.options.overlay == OverlayUse::Off {
            return Err(format!(
                "has no {} in a network of this node, and --enable-overlay is false",
                name(family)
            ));
        }
        let Some(overlay) = overlay else {
            return Err("is in no network of this node, which has no overlay".to_owned());
        };
        let underlay = IpFamily::of(overlay.local);
        // Its tunnels find the node by the route's next hop, which is of the pods' family.
        if overlay.encapsulation == Encapsulation::IpIp && family == IpFamily::V6 {
            return Err(
                "is in no network of this node, and IPIP carries IPv4 alone; use --overlay-encap vxlan"
                    .to_owned(),
            );
        }
        if family == IpFamily::V4 && underlay == IpFamily::V6 {
            return Err("has no next hop for IPv4 pods: the overlay is IPv6".to_owned());
        }
        let mut peers = addresses.iter();
        let peer = peers.find(|address| IpFamily::of(**address) == underlay);
        peer.map(|peer| Way::Overlay {
            peer: *peer,
            source: self.source(family),
        })
        .ok_or_else(|| format!("has no {}, of which the overlay is", name(underlay)))
    }

    /// The next hops of a family to a node with these addresses: one for each network of this node
    /// that it is in too, as a second one there leads over the same link. The first of its addresses
    /// that is in one comes first, and alone where that is all the operator wants.
    fn direct(&self, family: IpFamily, addresses: &[IpAddr]) -> BTreeSet<NextHop> {
        let networks = &self.context.networks;
        let of_family = addresses.iter();
        let of_family = of_family.filter(|address| IpFamily::of(**address) == family);
        let shared = of_family.filter_map(|gateway| {
            let network = networks.iter().find(|network| network.contains(gateway))?;
            let (gateway, network) = (*gateway, *network);
            Some(NextHop { gateway, network })
        });
        let most = if self.options.multipath {
            usize::MAX
        } else {
            1
        };
        let mut used = BTreeSet::new();
        shared
            .filter(|hop| used.insert(hop.network.trunc()))
            .take(most)
            .collect()
    }

    /// This node's address for what it sends itself through the overlay.
    fn source(&self, family: IpFamily) -> Option<IpAddr> {
        let held = |address: &&IpAddr| {
            let mut networks = self.context.networks.iter();
            networks.any(|network| network.addr() == **address)
        };
        let mut addresses = self.context.addresses.iter();
        addresses
            .find(|address| IpFamily::of(**address) == family && held(address))
            .copied()
    }
}

/// Addresses at which the cluster reaches a node, in the order of the object.
pub(super) fn internal(node: &Node) -> Vec<IpAddr> {
    let addresses = node.addresses.iter();
    let internal = addresses.filter(|known| known.address_type == NodeAddressType::InternalIp);
    internal.map(|known| known.address).collect()
}

/// The address a node has in the overlay: IPv4 where it has it, as every node has to choose alike.
fn underlay(addresses: &[IpAddr]) -> Option<IpAddr> {
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied()
}

fn name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4 InternalIP",
        IpFamily::V6 => "IPv6 InternalIP",
    }
}
