//! How pods of other nodes are reached.
//!
//! [`Routes::compile`] looks at every Node: whose pod networks are reached directly, whose through
//! the overlay, whose not at all, and says why; [`Routes::follow`] at those that changed. Interfaces, indexes and hardware addresses first
//! appear in `route::image`.

mod claims;
pub mod mtu;
mod ways;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, IpFamily, Kind, Node, ObjectKey, Problem};
use rpds::RedBlackTreeMapSync;

use super::NodeContext;
use claims::Claims;
use ways::{Ways, internal};

/// What the operator decides about pod routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterOptions {
    /// What goes through the overlay.
    pub overlay: OverlayUse,
    /// What the overlay is made of.
    pub encapsulation: Encapsulation,
    /// Whether a node is reached by each network that it shares with this one; else by the first of
    /// its addresses alone.
    pub multipath: bool,
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
    pub way: Way,
}

/// A way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The node itself, which is in networks of this node; at least one next hop.
    Direct(BTreeSet<NextHop>),
    /// The overlay.
    Overlay {
        /// Address of the node at which the overlay reaches it.
        peer: IpAddr,
        /// This node's address, for what it sends itself.
        source: Option<IpAddr>,
    },
}

/// A node in a network of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// Its address.
    pub gateway: IpAddr,
    /// This node's address there, with the network.
    pub network: IpNet,
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
        let ways = Ways::of(&own_addresses, options, context);
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
        let own_addresses = own.map_or(Vec::new(), |node| internal(node));
        let ways = Ways::of(&own_addresses, options, context);
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
            match ways.to(family, &addresses, self.overlay.as_ref()) {
                Ok(way) => {
                    if let (Way::Overlay { peer, .. }, Some(overlay)) = (&way, &mut self.overlay) {
                        let known: Arc<BTreeSet<_>> = Arc::new(addresses.iter().copied().collect());
                        let key = (*peer, Arc::clone(name));
                        overlay.peers.insert_mut(key, Arc::clone(&known));
                        settled.peers.push((*peer, known));
                    }
                    let node = Arc::clone(name);
                    let route = PodRoute { node, way };
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
