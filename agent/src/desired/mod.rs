//! What the node should balance, as values: no kernel ids, no clock, no I/O.
//!
//! [`service::compile`] turns one Service of the cluster into its [`LbService`]s; [`Desired`]
//! gathers them and settles who owns an address that two Services claim. Whether the cluster was
//! heard in one piece or in a thousand, the result is the same.

mod claims;
pub mod egress;
mod endpoints;
mod frontends;
mod host_port;
pub mod node;
pub mod policy;
pub mod route;
pub mod service;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{
    ChangeSet, Cluster, IpFamily, Kind, ObjectKey, PortName, Problem, Protocol, SessionAffinity,
    SourceRanges, in_parallel,
};
use rpds::RedBlackTreeMapSync;

use claims::Claims;
use egress::Egress;
pub use node::NodeContext;
use policy::PolicyTables;
use route::Routes;

/// Generations whose changes are remembered: an applier that skipped more compares everything.
const REMEMBERED: usize = 64;

/// Who asks for a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A Service.
    Service(ObjectKey),
    /// A pod with host ports.
    Pod(ObjectKey),
}

impl Owner {
    /// Namespace and name.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Service(key) | Self::Pod(key) => key,
        }
    }

    /// Kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Pod(_) => Kind::Pod,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}

/// One port of one Service or pod in one family: what is balanced as a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LbServiceKey {
    /// Whose it is.
    pub owner: Owner,
    /// Name of the port.
    pub port: PortName,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Family of frontends and backends.
    pub family: IpFamily,
}

impl fmt::Display for LbServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port `{}`/{}", self.owner, self.port, self.protocol)
    }
}

/// Where clients of a unit find it, what is behind, and how that is chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbService {
    /// Addresses and ports in order, without those that an older owner has.
    pub frontends: Arc<[Frontend]>,
    /// Targets in order, those that only finish what they have begun among them.
    pub backends: Arc<[Backend]>,
    /// How a new connection's backend is chosen.
    pub choice: Choice,
    /// Whether a client stays with its backend.
    pub affinity: SessionAffinity,
    /// Who may use a load balancer's addresses.
    pub sources: SourceRanges,
}

impl LbService {
    /// The members of a pool, in order.
    pub fn pool(&self, pool: Pool) -> impl Iterator<Item = &Backend> {
        self.backends
            .iter()
            .filter(move |backend| backend.pools.contains(pool))
    }

    /// Whether some client's connections go to this node's endpoints alone.
    pub fn uses_local_pool(&self) -> bool {
        let mut frontends = self.frontends.iter();
        frontends.any(|frontend| frontend.inside == Pool::Local || frontend.outside == Pool::Local)
    }
}

/// How a new connection's backend is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At random, by weight.
    Random,
    /// By consistent hashing of parts of the packet.
    Hash {
        /// The client's address.
        source: bool,
        /// The client's port.
        port: bool,
        /// The Service's address and port.
        destination: bool,
    },
}

/// Which endpoints a frontend leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Traffic policy Cluster.
    Cluster,
    /// Traffic policy Local.
    Local,
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
    /// For clients on this node and its pods.
    pub inside: Pool,
    /// For clients on other machines.
    pub outside: Pool,
    /// Whether replies to other machines leave from the backend's node.
    pub direct_return: bool,
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
    /// A loopback address, on a node port.
    Loopback,
    /// An address of this node, on a pod's host port.
    HostPort,
    /// One of `spec.externalIPs`.
    ExternalIp,
    /// An address of a load balancer.
    LoadBalancer,
}

impl Scope {
    /// As people know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::Loopback => "NodePort (loopback)",
            Self::HostPort => "hostPort",
            Self::ExternalIp => "externalIP",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
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
    /// Where new connections find it.
    pub pools: Pools,
    /// Its share of new connections, against the others'.
    pub weight: u16,
    /// Address of its node, where clients' packets are sent as they are.
    pub node: Option<IpAddr>,
}

/// Pools a backend is in. In none, it only finishes what it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pools {
    /// [`Pool::Cluster`].
    pub cluster: bool,
    /// [`Pool::Local`].
    pub local: bool,
}

impl Pools {
    /// Whether `pool` is one of them.
    pub fn contains(self, pool: Pool) -> bool {
        match pool {
            Pool::Cluster => self.cluster,
            Pool::Local => self.local,
        }
    }
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
    /// Addresses of all nodes, which may send packets here in a tunnel.
    pub nodes: Arc<BTreeSet<IpAddr>>,
    /// Who may send what to whom.
    pub policy: PolicyTables,
    /// How pods of other nodes are reached, where routes are kept.
    pub routes: Option<Arc<Routes>>,
    /// What of the pods' traffic leaves the cluster, where that is translated.
    pub egress: Option<Arc<Egress>>,
    units: RedBlackTreeMapSync<Owner, Arc<service::Compiled>>,
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
            nodes: Arc::default(),
            policy: PolicyTables::default(),
            routes: None,
            egress: None,
            units: RedBlackTreeMapSync::new_sync(),
            claims: Claims::default(),
            conflicts: RedBlackTreeMapSync::new_sync(),
            recent: VecDeque::new(),
        }
    }

    /// What the whole cluster asks for.
    pub fn compile(cluster: &Cluster, node: NodeContext) -> Self {
        let mut desired = Self::empty(node);
        desired.policy = PolicyTables::compile(cluster, &desired.node);
        desired.nodes = node::addresses_of_all(cluster);
        desired.routes = Routes::compile(cluster, &desired.node).map(Arc::new);
        desired.egress = Egress::compile(cluster, &desired.node).map(Arc::new);
        desired.compile_all(cluster);
        // Everything differs from nothing, which needs no list: see `changed_since`.
        desired.generation = 1;
        desired
    }

    /// What the cluster asks for now, on `node`, by looking only at what `changes` may have
    /// touched. The generation is the same where nothing differs for the kernel.
    #[must_use]
    pub fn follow(&self, cluster: &Cluster, changes: &ChangeSet, node: NodeContext) -> Self {
        let mut next = self.clone();
        let mut touched: BTreeSet<Owner> = changes
            .services()
            .iter()
            .cloned()
            .map(Owner::Service)
            .collect();
        let pods = changes.get(&Kind::Pod).into_iter().flatten();
        touched.extend(pods.cloned().map(Owner::Pod));
        if node != self.node {
            next.node = node;
            touched.extend(every_owner(cluster));
        } else if changes.get(&Kind::Node).is_some() {
            // Where packets are sent to the backend's node, its address counts.
            let direct = cluster
                .services()
                .filter(|(_, service)| service::is_direct(service));
            touched.extend(direct.map(|(key, _)| Owner::Service(key.clone())));
        }
        if changes.get(&Kind::Node).is_some() {
            next.nodes = node::addresses_of_all(cluster);
        }
        // What is the same stays the same value: who waits for a difference sees none.
        match (&self.routes, changes.get(&Kind::Node)) {
            (Some(known), Some(nodes)) if next.node == self.node => {
                next.routes = known.follow(cluster, nodes, &next.node);
            }
            (known, nodes) if nodes.is_some() || next.node != self.node => {
                let routes = Routes::compile(cluster, &next.node);
                if routes.as_ref() != known.as_deref() {
                    next.routes = routes.map(Arc::new);
                }
            }
            _ => {}
        }
        if changes.get(&Kind::Node).is_some() || next.node != self.node {
            let egress = Egress::compile(cluster, &next.node).map(Arc::new);
            if egress != next.egress {
                next.egress = egress;
            }
        }
        next.policy = self.policy.follow(cluster, changes, &next.node);
        let differing = next.recompile(cluster, touched);
        let others = next.node != self.node
            || next.nodes != self.nodes
            || next.egress != self.egress
            || next.routes.as_ref().map(Arc::as_ptr) != self.routes.as_ref().map(Arc::as_ptr)
            || next.policy.revision() != self.policy.revision();
        if !differing.is_empty() || others {
            next.advance(differing);
        }
        next
    }

    /// Health that load balancers ask for, by port: the Service and its local endpoints.
    pub fn health_checks(&self) -> BTreeMap<NonZeroU16, HealthCheck> {
        let checks = self.units.values().filter_map(|compiled| {
            let check = compiled.health_check.clone()?;
            Some((check.port, check))
        });
        checks.collect()
    }

    /// What is worth knowing about how units are balanced, in order.
    pub fn notes(&self) -> impl Iterator<Item = (&Owner, &str)> {
        let with_notes = self.units.iter();
        with_notes.flat_map(|(owner, compiled)| {
            compiled
                .notes
                .iter()
                .map(move |note| (owner, note.as_str()))
        })
    }

    /// Findings about the Services, in order, and about what policy needs.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let own = self.units.values().flat_map(|compiled| &compiled.problems);
        own.chain(self.conflicts.values().flat_map(|problems| problems.iter()))
            .chain(self.policy.problems())
            .chain(self.routes.iter().flat_map(|routes| routes.problems()))
            .chain(self.egress.iter().flat_map(|egress| &egress.problems))
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

    /// Compiles every unit, where there is none yet. Tens of thousands are some tenths of a second,
    /// for which a start waits.
    fn compile_all(&mut self, cluster: &Cluster) {
        let owners: Vec<Owner> = every_owner(cluster).collect();
        let node = &self.node;
        let compiled = in_parallel(&owners, |owner| {
            compile_one(owner, cluster, node).map(Arc::new)
        });
        self.claims = Claims::of(&compiled);
        for compiled in compiled.iter().flatten() {
            for (key, unit) in &compiled.units {
                let unit = self.settled(key, unit);
                self.services.insert_mut(key.clone(), unit);
            }
        }
        let units = owners.into_iter().zip(compiled);
        self.units = units
            .filter_map(|(owner, compiled)| Some((owner, compiled?)))
            .collect();
    }

    /// Compiles some units again; the answer are those that differ.
    fn recompile(
        &mut self,
        cluster: &Cluster,
        owners: impl IntoIterator<Item = Owner>,
    ) -> BTreeSet<LbServiceKey> {
        let mut affected = BTreeSet::new();
        for owner in owners {
            let compiled = compile_one(&owner, cluster, &self.node);
            affected.extend(
                self.claims
                    .replace(self.units.get(&owner).map(AsRef::as_ref), compiled.as_ref()),
            );
            match compiled {
                Some(compiled) => self.units.insert_mut(owner, Arc::new(compiled)),
                None => drop(self.units.remove_mut(&owner)),
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
            .get(&key.owner)
            .and_then(|compiled| compiled.unit(key))
            .cloned();
        let Some(unit) = unit else {
            self.conflicts.remove_mut(key);
            return self.services.remove_mut(key);
        };
        let settled = self.settled(key, &unit);
        if self
            .services
            .get(key)
            .is_some_and(|known| *known == settled)
        {
            return false;
        }
        self.services.insert_mut(key.clone(), settled);
        true
    }

    /// A unit without what an older one has; notes what that is.
    fn settled(&mut self, key: &LbServiceKey, unit: &Arc<LbService>) -> Arc<LbService> {
        let (frontends, problems) = self.claims.won_by(key, &unit.frontends);
        if problems.is_empty() {
            self.conflicts.remove_mut(key);
            return Arc::clone(unit);
        }
        self.conflicts.insert_mut(key.clone(), problems.into());
        Arc::new(LbService {
            frontends,
            ..LbService::clone(unit)
        })
    }
}

fn compile_one(owner: &Owner, cluster: &Cluster, node: &NodeContext) -> Option<service::Compiled> {
    match owner {
        Owner::Service(key) => {
            let service = cluster.service(key)?;
            Some(service::compile(service, cluster, node))
        }
        Owner::Pod(key) => host_port::compile(cluster.pod(key)?, node),
    }
}

/// Everybody who may ask for units, in order.
fn every_owner(cluster: &Cluster) -> impl Iterator<Item = Owner> {
    let services = cluster
        .services()
        .map(|(key, _)| Owner::Service(key.clone()));
    let pods = cluster.pods().map(|(key, _)| Owner::Pod(key.clone()));
    services.chain(pods)
}

/// What a load balancer is told that asks a `healthCheckNodePort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port.
    pub port: NonZeroU16,
    /// The Service.
    pub service: ObjectKey,
    /// Endpoints on this node that get new connections and are not terminating.
    pub local_endpoints: usize,
}
