//! How pods of other nodes are reached.
//!
//! [`Routes::compile`] looks at every Node: whose pod networks are reached directly, whose through
//! the overlay, whose not at all, and says why; [`Routes::follow`] at those that changed. Interfaces, indexes and hardware addresses first
//! appear in `route::image`.

mod claims;
pub mod mtu;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, IpFamily, Kind, Node, NodeAddressType, ObjectKey, Problem};

use rpds::RedBlackTreeMapSync;

use super::NodeContext;
use claims::Claims;

/// What the operator decides about pod routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterOptions {
    /// What goes through the overlay.
    pub overlay: OverlayUse,
    /// What the overlay is made of.
    pub encapsulation: Encapsulation,
}

/// `--enable-overlay` and `--overlay-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayUse {
    /// Nothing goes through an overlay.
    Off,
    /// What goes to nodes in other subnets.
    Subnet,
    /// What goes to any node.
    Full,
}

/// `--overlay-encap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// RFC 7348.
    Vxlan {
        /// Network identifier.
        vni: u32,
        /// UDP port.
        port: u16,
    },
    /// RFC 2003.
    IpIp,
}

/// How pods of other nodes are reached. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// By pod network.
    pub to: RedBlackTreeMapSync<IpNet, PodRoute>,
    /// Pod networks of this node.
    pub own: BTreeSet<IpNet>,
    /// The overlay, where there is one.
    pub overlay: Option<Overlay>,
    /// Largest packet of this node's pods in bytes, where known.
    pub mtu: Option<u32>,
    problems: RedBlackTreeMapSync<ObjectKey, Vec<Problem>>,
    claims: Claims,
    settled: RedBlackTreeMapSync<ObjectKey, Arc<Settled>>,
}

/// What there is of a node, and goes when it changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settled {
    routes: Vec<(IpNet, PodRoute)>,
    peers: Vec<(IpAddr, Arc<BTreeSet<IpAddr>>)>,
}

/// The way to one pod network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRoute {
    /// Name of its node.
    pub node: Arc<str>,
    /// The way.
    pub hop: Hop,
    /// This node's address, for what it sends itself.
    pub source: Option<IpAddr>,
}

/// The next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The node itself, which is in a network of this node.
    Direct {
        /// Its address.
        gateway: IpAddr,
        /// This node's address there, with the network.
        network: IpNet,
    },
    /// The overlay.
    Overlay {
        /// Address of the node at which the overlay reaches it.
        peer: IpAddr,
    },
}

/// The overlay as this node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// What it is made of.
    pub encapsulation: Encapsulation,
    /// This node's address in it.
    pub local: IpAddr,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Nodes reached through it, by address and name: all of their addresses.
    pub peers: RedBlackTreeMapSync<(IpAddr, Arc<str>), Arc<BTreeSet<IpAddr>>>,
}

impl Routes {
    /// Routes of a node, where it keeps any.
    pub fn compile(cluster: &Cluster, context: &NodeContext) -> Option<Self> {
        let options = context.router?;
        let key = ObjectKey::cluster_scoped(&context.name);
        let mut routes = Self::default();
        let own = cluster.node(&key);
        let own_addresses = own.map_or(Vec::new(), |node| internal(node));
        let ways = Ways {
            options,
            context,
            local: underlay(&own_addresses),
        };
        match own {
            None => routes.report(&key, "", "is not there", "this node's pods get no network"),
            Some(node) if node.pod_cidrs.is_empty() => routes.report(
                &key,
                "spec.podCIDRs",
                "is empty; the controller manager allocates it with --allocate-node-cidrs",
                "this node's pods get no network",
            ),
            Some(_) if ways.local.is_none() => routes.report(
                &key,
                "status.addresses",
                "has no InternalIP",
                "other nodes do not reach this node's pods, and no overlay is made",
            ),
            Some(_) => {}
        }
        routes.set_mtu(&ways, &key);
        let all = cluster.nodes().map(|(key, _)| key.clone()).collect();
        let all = routes.claims.follow(cluster, &all);
        routes.settle(cluster, &ways, &key, &all);
        Some(routes)
    }

    /// The routes after these nodes have changed, and nothing of `context`. Where nothing comes of
    /// that, the same.
    #[must_use]
    pub fn follow(
        self: &Arc<Self>,
        cluster: &Cluster,
        changed: &BTreeSet<ObjectKey>,
        context: &NodeContext,
    ) -> Option<Arc<Self>> {
        let options = context.router?;
        let key = ObjectKey::cluster_scoped(&context.name);
        let mut next = Self::clone(self);
        let touched = next.claims.follow(cluster, changed);
        if touched.contains(&key) {
            let whole = Self::compile(cluster, context)?;
            return Some(if whole == **self {
                Arc::clone(self)
            } else {
                whole.into()
            });
        }
        let own = cluster.node(&key);
        let ways = Ways {
            options,
            context,
            local: underlay(&own.map_or(Vec::new(), |node| internal(node))),
        };
        touched.iter().for_each(|node| next.forget(node));
        next.settle(cluster, &ways, &key, &touched);
        let same = |node| {
            self.settled.get(node) == next.settled.get(node)
                && self.problems.get(node) == next.problems.get(node)
                && self.claims.of(node) == next.claims.of(node)
        };
        if touched.iter().all(same) {
            return Some(Arc::clone(self));
        }
        Some(next.into())
    }

    /// What is wrong with nodes, in their order.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    fn settle(
        &mut self,
        cluster: &Cluster,
        ways: &Ways<'_>,
        own: &ObjectKey,
        nodes: &BTreeSet<ObjectKey>,
    ) {
        for (node, networks, problems) in claims::settle(cluster, nodes) {
            problems.into_iter().for_each(|problem| self.note(problem));
            if node.key == *own {
                self.own.extend(networks);
            } else {
                self.add(ways, node, networks);
            }
        }
    }

    fn forget(&mut self, node: &ObjectKey) {
        self.problems.remove_mut(node);
        let Some(settled) = self.settled.get(node).map(Arc::clone) else {
            return;
        };
        self.settled.remove_mut(node);
        for (network, _) in &settled.routes {
            self.to.remove_mut(network);
        }
        if let Some(overlay) = &mut self.overlay {
            for (peer, _) in &settled.peers {
                overlay.peers.remove_mut(&(*peer, Arc::clone(&node.name)));
            }
        }
    }

    fn set_mtu(&mut self, ways: &Ways<'_>, own: &ObjectKey) {
        let uplink = ways.context.mtu;
        let encapsulation = ways.options.encapsulation;
        let local = ways
            .local
            .filter(|_| ways.options.overlay != OverlayUse::Off);
        if uplink == 0 {
            if ways.local.is_some() {
                self.report(
                    own,
                    "status.addresses",
                    "is of no interface",
                    "the MTU is not known, and no overlay is made",
                );
            }
            return;
        }
        let overlay = local.map(|local| (encapsulation, IpFamily::of(local)));
        let mtu = mtu::of_pods(uplink, overlay);
        if mtu < mtu::LEAST_WITH_V6 {
            let message = format!("is of an interface whose MTU of {uplink} leaves {mtu} for pods");
            let effect = "pods have no IPv6 below 1280";
            self.report(own, "status.addresses", &message, effect);
        }
        self.mtu = Some(mtu);
        self.overlay = local.map(|local| Overlay {
            encapsulation,
            local,
            mtu,
            peers: RedBlackTreeMapSync::new_sync(),
        });
    }

    /// Adds the ways to a node's pods.
    fn add(&mut self, ways: &Ways<'_>, node: &Node, networks: Vec<IpNet>) {
        const UNREACHED: &str = "its pods are not reached";
        if networks.is_empty() && node.pod_cidrs.is_empty() {
            return self.report(&node.key, "spec.podCIDRs", "is empty", UNREACHED);
        }
        let addresses = internal(node);
        if addresses.is_empty() {
            let found = "has no InternalIP";
            return self.report(&node.key, "status.addresses", found, UNREACHED);
        }
        let name = &node.key.name;
        let mut settled = Settled::default();
        for network in networks {
            let family = IpFamily::of(network.addr());
            let way = ways.to(family, &addresses, self.overlay.as_ref());
            match way {
                Ok(hop) => {
                    if let (Hop::Overlay { peer }, Some(overlay)) = (hop, &mut self.overlay) {
                        let known: Arc<BTreeSet<_>> = Arc::new(addresses.iter().copied().collect());
                        let key = (peer, Arc::clone(name));
                        overlay.peers.insert_mut(key, Arc::clone(&known));
                        settled.peers.push((peer, known));
                    }
                    let route = PodRoute {
                        node: Arc::clone(name),
                        hop,
                        source: ways.source(family, &hop),
                    };
                    self.to.insert_mut(network, route.clone());
                    settled.routes.push((network, route));
                }
                Err(why) => {
                    let effect = format!("pods of {network} are not reached");
                    self.report(&node.key, "status.addresses", &why, &effect);
                }
            }
        }
        self.settled.insert_mut(node.key.clone(), Arc::new(settled));
    }

    fn report(&mut self, node: &ObjectKey, field: &str, message: &str, effect: &str) {
        let problem = Problem::new(Kind::Node, node.clone(), field, message, effect);
        self.note(problem);
    }

    fn note(&mut self, problem: Problem) {
        let known = self.problems.get(&problem.key);
        let mut problems = known.cloned().unwrap_or_default();
        if let Err(place) = problems.binary_search(&problem) {
            let key = problem.key.clone();
            problems.insert(place, problem);
            self.problems.insert_mut(key, problems);
        }
    }
}

/// What decides about ways.
struct Ways<'a> {
    options: RouterOptions,
    context: &'a NodeContext,
    /// This node's address in the overlay.
    local: Option<IpAddr>,
}

impl Ways<'_> {
    /// The way to pods of a family on a node with these addresses, or why there is none.
    fn to(
        &self,
        family: IpFamily,
        addresses: &[IpAddr],
        overlay: Option<&Overlay>,
    ) -> Result<Hop, String> {
        let of_family = |address: &&IpAddr| IpFamily::of(**address) == family;
        if self.options.overlay != OverlayUse::Full {
            for address in addresses.iter().filter(of_family) {
                let networks = &self.context.networks;
                let shared = networks.iter().find(|network| network.contains(address));
                if let Some(network) = shared {
                    let (gateway, network) = (*address, *network);
                    return Ok(Hop::Direct { gateway, network });
                }
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
        peer.map(|peer| Hop::Overlay { peer: *peer })
            .ok_or_else(|| format!("has no {}, of which the overlay is", name(underlay)))
    }

    /// This node's address for what it sends itself by a hop.
    fn source(&self, family: IpFamily, hop: &Hop) -> Option<IpAddr> {
        if let Hop::Direct { network, .. } = hop {
            return Some(network.addr());
        }
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
fn internal(node: &Node) -> Vec<IpAddr> {
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
