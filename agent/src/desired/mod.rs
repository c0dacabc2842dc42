//! What the node should balance, as values: no kernel ids, no clock, no I/O.
//!
//! [`service::compile`] turns one Service of the cluster into its [`LbService`]s; [`Desired`]
//! gathers them and settles who owns an address that two Services claim. Whether the cluster was
//! heard in one piece or in a thousand, the result is the same.

mod claims;
pub mod service;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{ChangeSet, Cluster, IpFamily, Kind, ObjectKey, PortName, Problem, Protocol};
use rpds::RedBlackTreeMapSync;

use claims::Claims;

/// Generations whose changes are remembered: an applier that skipped more compares everything.
const REMEMBERED: usize = 64;

/// What of the node matters to the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContext {
    /// The node's name.
    pub name: Arc<str>,
    /// Its addresses, on which node ports are served; internal ones first, else in the Node's order.
    pub addresses: Vec<IpAddr>,
}

impl NodeContext {
    /// The context of the node `name`, with no addresses where the cluster does not know it.
    pub fn of(cluster: &Cluster, name: &Arc<str>) -> Self {
        let node = cluster.node(&ObjectKey::cluster_scoped(name));
        let mut addresses: Vec<_> = node
            .into_iter()
            .flat_map(|node| node.addresses.clone())
            .collect();
        addresses.sort_by_key(|address| address.address_type);
        let addresses = addresses
            .into_iter()
            .map(|address| address.address)
            .collect();
        Self {
            name: Arc::clone(name),
            addresses,
        }
    }

    /// The first address of a family, for source translation.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| IpFamily::of(*address) == family)
    }
}

/// One port of one Service in one family: what is balanced as a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LbServiceKey {
    /// The Service.
    pub service: ObjectKey,
    /// Name of the port.
    pub port: PortName,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Family of frontends and backends.
    pub family: IpFamily,
}

/// Where clients of a unit find it, and what is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbService {
    /// Addresses and ports, without those that an older Service has.
    pub frontends: BTreeSet<Frontend>,
    /// Targets. With none, connections are rejected.
    pub backends: BTreeSet<Backend>,
}

/// One address, port and protocol that clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
    /// Protocol.
    pub protocol: Protocol,
    /// What kind of address it is.
    pub scope: Scope,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            SocketAddr::new(self.address, self.port.get()),
            self.protocol
        )
    }
}

/// Kind of a frontend's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Known within the cluster.
    ClusterIp,
    /// An address of this node.
    NodePort,
}

/// One target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
    /// Whether it runs on this node.
    pub local: bool,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port.get()).fmt(f)
    }
}

/// Which units differ between two generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Keys(BTreeSet<LbServiceKey>),
    /// It is not known any more: compare all.
    All,
}

/// Everything the node should balance. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Goes up with every difference.
    pub generation: u64,
    /// The node it is for.
    pub node: NodeContext,
    /// The units.
    pub services: RedBlackTreeMapSync<LbServiceKey, Arc<LbService>>,
    units: RedBlackTreeMapSync<ObjectKey, Arc<service::Compiled>>,
    claims: Claims,
    conflicts: RedBlackTreeMapSync<LbServiceKey, Arc<[Problem]>>,
    recent: VecDeque<(u64, Arc<BTreeSet<LbServiceKey>>)>,
}

impl Desired {
    /// Nothing, for a node.
    pub fn empty(node: NodeContext) -> Self {
        Self {
            generation: 0,
            node,
            services: RedBlackTreeMapSync::new_sync(),
            units: RedBlackTreeMapSync::new_sync(),
            claims: Claims::default(),
            conflicts: RedBlackTreeMapSync::new_sync(),
            recent: VecDeque::new(),
        }
    }

    /// What the whole cluster asks for.
    pub fn compile(cluster: &Cluster, node: NodeContext) -> Self {
        let mut desired = Self::empty(node);
        let all = cluster.services().map(|(key, _)| key.clone()).collect();
        let differing = desired.recompile(cluster, &all);
        desired.advance(differing);
        desired
    }

    /// What the cluster asks for now, by looking only at what `changes` may have touched. The
    /// generation is the same where nothing differs for the kernel.
    #[must_use]
    pub fn follow(&self, cluster: &Cluster, changes: &ChangeSet) -> Self {
        let mut next = self.clone();
        let mut touched: BTreeSet<ObjectKey> = changes.services().clone();
        if changes.get(&Kind::Node).is_some() {
            let node = NodeContext::of(cluster, &self.node.name);
            if node != self.node {
                next.node = node;
                touched.extend(cluster.services().map(|(key, _)| key.clone()));
            }
        }
        let differing = next.recompile(cluster, &touched);
        if !differing.is_empty() || next.node != self.node {
            next.advance(differing);
        }
        next
    }

    /// Findings about the Services, in order.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let own = self.units.values().flat_map(|compiled| &compiled.problems);
        own.chain(self.conflicts.values().flat_map(|problems| problems.iter()))
    }

    /// The units that differ from those of an earlier generation.
    pub fn changed_since(&self, generation: u64) -> Changed {
        let remembered = self
            .recent
            .front()
            .is_some_and(|(oldest, _)| *oldest <= generation.saturating_add(1));
        if generation == self.generation {
            return Changed::Keys(BTreeSet::new());
        }
        if !remembered || generation > self.generation {
            return Changed::All;
        }
        let since = self.recent.iter().filter(|(at, _)| *at > generation);
        Changed::Keys(since.flat_map(|(_, keys)| keys.iter().cloned()).collect())
    }

    /// Compiles some Services again; the answer are the units that differ.
    fn recompile(
        &mut self,
        cluster: &Cluster,
        services: &BTreeSet<ObjectKey>,
    ) -> BTreeSet<LbServiceKey> {
        let mut affected = BTreeSet::new();
        for key in services {
            let compiled = cluster.service(key).map(|service| {
                let slices: Vec<_> = cluster.slices_of(key).map(AsRef::as_ref).collect();
                service::compile(service, &slices, &self.node)
            });
            affected.extend(
                self.claims
                    .replace(self.units.get(key).map(AsRef::as_ref), compiled.as_ref()),
            );
            match compiled {
                Some(compiled) => self.units.insert_mut(key.clone(), Arc::new(compiled)),
                None => drop(self.units.remove_mut(key)),
            }
        }
        affected.retain(|key| self.settle(key));
        affected
    }

    fn advance(&mut self, differing: BTreeSet<LbServiceKey>) {
        self.generation += 1;
        self.recent
            .push_back((self.generation, Arc::new(differing)));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Brings one unit up to date with its Service and the claims; answers whether it differs.
    fn settle(&mut self, key: &LbServiceKey) -> bool {
        let unit = self
            .units
            .get(&key.service)
            .and_then(|compiled| compiled.units.get(key));
        let Some(unit) = unit else {
            self.conflicts.remove_mut(key);
            return self.services.remove_mut(key);
        };
        let (frontends, problems) = self.claims.won_by(key, &unit.frontends);
        if problems.is_empty() {
            self.conflicts.remove_mut(key);
        } else {
            self.conflicts.insert_mut(key.clone(), problems.into());
        }
        let settled = LbService {
            frontends,
            backends: unit.backends.clone(),
        };
        if self
            .services
            .get(key)
            .is_some_and(|known| **known == settled)
        {
            return false;
        }
        self.services.insert_mut(key.clone(), Arc::new(settled));
        true
    }
}

/// Units by key, as [`service::compile`] makes them.
pub type Units = BTreeMap<LbServiceKey, LbService>;
