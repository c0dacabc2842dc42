//! Which of many statements mean a peer, without asking each of them.
//!
//! A statement about pods is filed under one label that it needs; a pod asks at its own labels.
//! A statement about addresses is filed under its network; an address asks for the longest one
//! that it is in. So a new pod costs what its labels cost, however many policies there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Labels, Node, Pod};

use super::term::{ByLabel, Class, Namespaces, PortOfName, Term};

/// Statements, numbered in their order, so that the numbers depend on the set of them alone.
#[derive(Debug, Default)]
pub(super) struct TermIndex {
    terms: Vec<Arc<Term>>,
    /// Names that matter of a peer's ports.
    names: BTreeSet<PortOfName>,
    in_namespace: BTreeMap<Arc<str>, ByLabel>,
    by_pod: ByLabel,
    by_namespace: ByLabel,
    nodes: Vec<u32>,
    /// Every network that a statement names, and the statements that mean all of it.
    atoms: HashMap<IpNet, Vec<u32>>,
    /// Prefix lengths of each family, longest first.
    lengths: [Vec<u8>; 2],
}

impl TermIndex {
    /// Files `terms`; `known` has some of them already, and theirs are kept.
    pub(super) fn new(
        terms: BTreeSet<Arc<Term>>,
        names: BTreeSet<PortOfName>,
        known: &Self,
    ) -> Self {
        let kept = |term: Arc<Term>| {
            known
                .id(&term)
                .map_or(term, |id| Arc::clone(known.term(id)))
        };
        let mut index = Self {
            terms: terms.into_iter().map(kept).collect(),
            names,
            ..Self::default()
        };
        let mut blocks: HashMap<IpNet, Vec<u32>> = HashMap::new();
        let mut networks = BTreeSet::new();
        for (id, term) in (0..).zip(&index.terms) {
            match &**term {
                Term::Pods {
                    namespaces: Namespaces::Named(name),
                    pods,
                } => {
                    let there = index.in_namespace.entry(Arc::clone(name)).or_default();
                    there.file(pods, id);
                }
                Term::Pods {
                    namespaces: Namespaces::Labelled(namespaces),
                    pods,
                } if pods.requirements.is_empty() => index.by_namespace.file(namespaces, id),
                Term::Pods { pods, .. } => index.by_pod.file(pods, id),
                Term::Nodes(_) => index.nodes.push(id),
                Term::Block { cidr, except } => {
                    blocks.entry(*cidr).or_default().push(id);
                    networks.insert(*cidr);
                    networks.extend(except);
                }
            }
        }
        for network in &networks {
            let lengths = &mut index.lengths[usize::from(network.addr().is_ipv6())];
            if !lengths.contains(&network.prefix_len()) {
                lengths.push(network.prefix_len());
            }
        }
        for lengths in &mut index.lengths {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        for network in networks {
            let around = index.around(network.addr(), network.prefix_len());
            let ids = around.flat_map(|around| blocks.get(&around).into_iter().flatten());
            let means = |id: &u32| index.term(*id).means_network(&network);
            let mut ids: Vec<u32> = ids.copied().filter(means).collect();
            ids.sort_unstable();
            index.atoms.insert(network, ids);
        }
        index
    }

    /// Whether it is an index of just these.
    pub(super) fn is_of(&self, terms: &BTreeSet<Arc<Term>>, names: &BTreeSet<PortOfName>) -> bool {
        self.terms.iter().eq(terms) && self.names == *names
    }

    pub(super) fn id(&self, term: &Term) -> Option<u32> {
        let at = self.terms.binary_search_by(|known| (**known).cmp(term));
        u32::try_from(at.ok()?).ok()
    }

    fn term(&self, id: u32) -> &Arc<Term> {
        &self.terms[id as usize]
    }

    /// The statements that mean a pod, in order.
    pub(super) fn of_pod(&self, pod: &Pod, labels_of_namespace: &Labels) -> Vec<u32> {
        let mut ids: Vec<u32> = self.that_mean(pod, labels_of_namespace).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether any statement means a pod.
    pub(super) fn means_pod(&self, pod: &Pod, labels_of_namespace: &Labels) -> bool {
        self.that_mean(pod, labels_of_namespace).next().is_some()
    }

    /// The statements that mean a pod; some come twice.
    fn that_mean<'a>(
        &'a self,
        pod: &'a Pod,
        labels_of_namespace: &'a Labels,
    ) -> impl Iterator<Item = u32> + 'a {
        let there = self.in_namespace.get(&pod.key.namespace).into_iter();
        there
            .flat_map(|there| there.candidates(&pod.labels))
            .chain(self.by_pod.candidates(&pod.labels))
            .chain(self.by_namespace.candidates(labels_of_namespace))
            .filter(|id| self.term(*id).means_pod(pod, labels_of_namespace))
    }

    /// The statements that mean a node, in order.
    pub(super) fn of_node(&self, node: &Node) -> Vec<u32> {
        let ids = self.nodes.iter().copied();
        ids.filter(|id| self.term(*id).means_node(node)).collect()
    }

    /// The numbers that a pod has for the names that matter, in order.
    pub(super) fn ports_of(&self, pod: &Pod) -> Vec<(model::PortName, model::Protocol, Port)> {
        named(pod, |name| self.names.contains(name))
    }

    /// The statements, in order.
    pub(super) fn terms(&self) -> &[Arc<Term>] {
        &self.terms
    }

    /// The names that matter of a peer's ports.
    pub(super) fn names(&self) -> &BTreeSet<PortOfName> {
        &self.names
    }

    /// Every network that a statement names.
    pub(super) fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.atoms.keys()
    }

    /// The class of the addresses of a named network that are in no longer one.
    pub(super) fn class_of_network(&self, network: &IpNet) -> Option<Class> {
        let ids = self.atoms.get(network)?;
        Some(Class {
            terms: ids.iter().map(|id| Arc::clone(self.term(*id))).collect(),
            ports: Vec::new(),
        })
    }

    /// The class of an address that, besides what is said of addresses, `ids` mean.
    pub(super) fn class(
        &self,
        address: IpAddr,
        ids: &[u32],
        ports: &[(model::PortName, model::Protocol, Port)],
    ) -> Class {
        let longest = u8::MAX;
        let atom = self
            .around(address, longest)
            .find_map(|network| self.atoms.get(&network));
        let mut ids: Vec<u32> = ids
            .iter()
            .chain(atom.into_iter().flatten())
            .copied()
            .collect();
        ids.sort_unstable();
        Class {
            terms: ids.iter().map(|id| Arc::clone(self.term(*id))).collect(),
            ports: ports.to_vec(),
        }
    }

    /// The networks of named lengths, no longer than `longest`, that an address is in.
    fn around(&self, address: IpAddr, longest: u8) -> impl Iterator<Item = IpNet> + '_ {
        let lengths = self.lengths[usize::from(address.is_ipv6())].iter();
        lengths
            .filter(move |length| **length <= longest)
            .filter_map(move |length| Some(IpNet::new(address, *length).ok()?.trunc()))
    }
}

type Port = std::num::NonZeroU16;

/// The numbers that a pod has for some names, in order. A name that two containers use has two.
pub(super) fn named(
    pod: &Pod,
    matters: impl Fn(&PortOfName) -> bool,
) -> Vec<(model::PortName, model::Protocol, Port)> {
    let ports = pod.ports.iter();
    let mut ports: Vec<_> = ports
        .filter(|(name, protocol, _)| matters(&(name.clone(), *protocol)))
        .cloned()
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
