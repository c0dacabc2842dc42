//! What the node should balance, as values: no kernel ids, no clock, no I/O.
//!
//! [`service::compile`] turns one Service of the cluster into its [`LbService`]s; [`Desired`]
//! gathers them and settles who owns an address that two Services claim. Whether the cluster was
//! heard in one piece or in a thousand, the result is the same.

mod claims;
mod compiled;
pub mod egress;
mod endpoints;
mod frontends;
mod history;
mod host_port;
pub mod node;
pub mod policy;
pub mod route;
mod service;
mod unit;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{ChangeSet, Cluster, Kind, Problem, in_parallel};
use rpds::RedBlackTreeMapSync;

use claims::Claims;
use compiled::Compiled;
pub use compiled::HealthCheck;
use egress::Egress;
pub use history::Changed;
use history::History;
pub use node::NodeContext;
use policy::PolicyTables;
use route::Routes;
pub use unit::{Backend, Choice, Frontend, LbService, LbServiceKey, Owner, Pool, Pools, Scope};

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
    units: RedBlackTreeMapSync<Owner, Arc<Compiled>>,
    claims: Claims,
    conflicts: RedBlackTreeMapSync<LbServiceKey, Arc<[Problem]>>,
    history: History,
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
            history: History::default(),
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
                .filter(|(_, service)| frontends::is_direct(service));
            touched.extend(direct.map(|(key, _)| Owner::Service(key.clone())));
        }
        if changes.get(&Kind::Node).is_some() {
            next.nodes = node::addresses_of_all(cluster);
        }
        if next.nodes != self.nodes {
            let external = cluster
                .services()
                .filter(|(_, service)| !service.external_ips.is_empty());
            touched.extend(external.map(|(key, _)| Owner::Service(key.clone())));
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
        self.history.since(generation, self.generation)
    }

    /// Compiles every unit, where there is none yet. Tens of thousands are some tenths of a second,
    /// for which a start waits.
    fn compile_all(&mut self, cluster: &Cluster) {
        let owners: Vec<Owner> = every_owner(cluster).collect();
        let (node, nodes) = (&self.node, &self.nodes);
        let compiled = in_parallel(&owners, |owner| {
            compile_one(owner, cluster, node, nodes).map(Arc::new)
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
            let compiled = compile_one(&owner, cluster, &self.node, &self.nodes);
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
        self.history.remember(self.generation, differing);
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

fn compile_one(
    owner: &Owner,
    cluster: &Cluster,
    node: &NodeContext,
    nodes: &BTreeSet<IpAddr>,
) -> Option<Compiled> {
    match owner {
        Owner::Service(key) => {
            let service = cluster.service(key)?;
            Some(service::compile(service, cluster, node, nodes))
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
