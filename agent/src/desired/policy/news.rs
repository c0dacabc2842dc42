//! What comes into force and what no longer is, and which peers that concerns.
//!
//! A pod whose labels, ports and addresses none of it means stays in its class, so of ten thousand
//! pods the few others are looked at again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, Kind, Labels, ObjectKey, Pod};

use super::addresses::Addresses;
use super::follow::{Known, is_reachable};
use super::index::{TermIndex, named};
use super::term::{Namespaces, PortOfName, Term};

/// What differs between two states.
pub(super) struct News {
    indexes: [Arc<TermIndex>; 2],
    /// Statements that are in force in one of them.
    differing: TermIndex,
    names: BTreeSet<PortOfName>,
    /// The blocks among the statements.
    blocks: BTreeSet<IpNet>,
    /// Whether nodes are spoken of.
    of_nodes: bool,
}

impl News {
    pub(super) fn between(before: Arc<TermIndex>, after: Arc<TermIndex>) -> Self {
        let terms: BTreeSet<Arc<Term>> = in_one(before.terms(), after.terms());
        let names = before.names().symmetric_difference(after.names());
        let names = names.cloned().collect();
        let block = |term: &Arc<Term>| match &**term {
            Term::Block { cidr, .. } => Some(*cidr),
            Term::Pods { .. } | Term::Nodes(_) => None,
        };
        Self {
            blocks: terms.iter().filter_map(block).collect(),
            of_nodes: terms.iter().any(|term| matches!(**term, Term::Nodes(_))),
            differing: TermIndex::new(terms, BTreeSet::new(), &TermIndex::default()),
            indexes: [before, after],
            names,
        }
    }

    /// The networks of which something else may be said now.
    pub(super) fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        let known = self.indexes.iter().flat_map(|index| index.networks());
        let within =
            known.filter(|network| self.blocks.iter().any(|block| block.contains(*network)));
        within.chain(self.differing.networks()).copied()
    }

    /// The pods that may be of another class.
    pub(super) fn pods(
        &self,
        cluster: &Cluster,
        known: &Known,
        addresses: &Addresses,
    ) -> BTreeSet<ObjectKey> {
        let meant = |key: &ObjectKey, pod: &Pod| {
            let labels = known.labels_of(cluster, key);
            self.differing.means_pod(pod, labels) || self.has_name(pod)
        };
        let meant = |(key, pod): (&ObjectKey, &Arc<Pod>)| {
            (is_reachable(pod) && meant(key, pod)).then(|| key.clone())
        };
        let mut pods: BTreeSet<ObjectKey> = match self.namespaces(cluster) {
            Some(names) if self.names.is_empty() => names
                .iter()
                .flat_map(|name| cluster.pods_in(name).filter_map(meant))
                .collect(),
            _ => cluster.pods().filter_map(meant).collect(),
        };
        let blocks = self.blocks.iter();
        let there = blocks.flat_map(|block| addresses.claimants_in(block));
        let there = there.filter(|(kind, _)| *kind == Kind::Pod);
        pods.extend(there.map(|(_, key)| key.clone()));
        pods
    }

    /// Where the pods are that statements mean; `None` where that may be anywhere.
    fn namespaces(&self, cluster: &Cluster) -> Option<BTreeSet<Arc<str>>> {
        let mut names = BTreeSet::new();
        for term in self.differing.terms() {
            match &**term {
                Term::Pods {
                    namespaces: Namespaces::Named(name),
                    ..
                } => drop(names.insert(Arc::clone(name))),
                Term::Pods {
                    namespaces: Namespaces::Labelled(selector),
                    ..
                } => {
                    // A namespace without labels need not have an object.
                    if selector.selects(&Labels::new()) {
                        return None;
                    }
                    let all = cluster.namespaces();
                    let selected = all.filter(|(_, there)| selector.selects(&there.labels));
                    names.extend(selected.map(|(key, _)| Arc::clone(&key.name)));
                }
                Term::Nodes(_) | Term::Block { .. } => {}
            }
        }
        Some(names)
    }

    /// The same of nodes.
    pub(super) fn nodes<'a>(
        &'a self,
        cluster: &'a Cluster,
    ) -> impl Iterator<Item = ObjectKey> + 'a {
        let concerned = cluster.nodes().filter(|(_, node)| {
            let addresses: Vec<IpAddr> = node.addresses.iter().map(|at| at.address).collect();
            self.of_nodes || self.is_in_block(&addresses)
        });
        concerned.map(|(key, _)| key.clone())
    }

    fn is_in_block(&self, addresses: &[IpAddr]) -> bool {
        let is_in = |address| self.blocks.iter().any(|block| block.contains(address));
        addresses.iter().any(is_in)
    }

    fn has_name(&self, pod: &Pod) -> bool {
        !self.names.is_empty() && !named(pod, |name| self.names.contains(name)).is_empty()
    }
}

/// Values of one of two ordered lists, not of both.
fn in_one<T: Ord + Clone>(a: &[T], b: &[T]) -> BTreeSet<T> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut found = BTreeSet::new();
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        match left.cmp(right) {
            std::cmp::Ordering::Less => found.extend(a.next().cloned()),
            std::cmp::Ordering::Greater => found.extend(b.next().cloned()),
            std::cmp::Ordering::Equal => drop((a.next(), b.next())),
        }
    }
    found.extend(a.chain(b).cloned());
    found
}
