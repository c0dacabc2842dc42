//! Whose a pod network is: that of the oldest node that has it, or a part of it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use model::{Cluster, Kind, Node, ObjectKey, Problem};
use rpds::RedBlackTreeMapSync;

/// Which nodes say that a network is their own. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    by_network: RedBlackTreeMapSync<IpNet, BTreeSet<ObjectKey>>,
    by_node: RedBlackTreeMapSync<ObjectKey, BTreeSet<IpNet>>,
    /// How many networks there are of each length; most clusters have one of each family.
    lengths: RedBlackTreeMapSync<(bool, u8), usize>,
}

impl Claims {
    /// Takes what changed nodes say now. The answer are they, and all whose networks overlap theirs,
    /// as they were or as they are, and so on: of the others nothing is decided otherwise.
    pub(super) fn follow(
        &mut self,
        cluster: &Cluster,
        changed: &BTreeSet<ObjectKey>,
    ) -> BTreeSet<ObjectKey> {
        let mut touched = BTreeSet::new();
        let mut open = Vec::new();
        for key in changed {
            let node = cluster.node(key);
            let now = node.map_or_else(BTreeSet::new, |node| {
                node.pod_cidrs.iter().map(IpNet::trunc).collect()
            });
            let before = self.by_node.get(key).cloned().unwrap_or_default();
            open.extend(before.union(&now).copied());
            for network in before.difference(&now) {
                self.withdraw(key, network);
            }
            for network in now.difference(&before) {
                self.enter(key, network);
            }
            if now.is_empty() {
                self.by_node.remove_mut(key);
            } else {
                self.by_node.insert_mut(key.clone(), now);
            }
            touched.insert(key.clone());
        }
        let mut seen = BTreeSet::new();
        while let Some(network) = open.pop() {
            if !seen.insert(network) {
                continue;
            }
            for key in self.overlapping(network) {
                if touched.insert(key.clone()) {
                    open.extend(self.by_node.get(key).into_iter().flatten());
                }
            }
        }
        touched
    }

    /// What a node says.
    pub(super) fn of(&self, node: &ObjectKey) -> Option<&BTreeSet<IpNet>> {
        self.by_node.get(node)
    }

    fn enter(&mut self, key: &ObjectKey, network: &IpNet) {
        let known = self.by_network.get(network);
        if known.is_none() {
            let length = length(network);
            let count = self.lengths.get(&length).copied().unwrap_or(0);
            self.lengths.insert_mut(length, count + 1);
        }
        let mut claimants = known.cloned().unwrap_or_default();
        claimants.insert(key.clone());
        self.by_network.insert_mut(*network, claimants);
    }

    fn withdraw(&mut self, key: &ObjectKey, network: &IpNet) {
        let mut claimants = self.by_network.get(network).cloned().unwrap_or_default();
        claimants.remove(key);
        if claimants.is_empty() {
            self.by_network.remove_mut(network);
            let length = length(network);
            match self.lengths.get(&length).copied() {
                Some(count) if count > 1 => self.lengths.insert_mut(length, count - 1),
                _ => _ = self.lengths.remove_mut(&length),
            }
        } else {
            self.by_network.insert_mut(*network, claimants);
        }
    }

    /// Who says that a network is its own that holds this one, or is held by it.
    fn overlapping(&self, network: IpNet) -> impl Iterator<Item = &ObjectKey> {
        let (v6, own) = length(&network);
        let shorter = self.lengths.range((v6, 0)..(v6, own));
        let holding = shorter.filter_map(move |((_, length), _)| {
            let larger = IpNet::new(network.addr(), *length).ok()?.trunc();
            self.by_network.get(&larger)
        });
        // In the order of networks, what a network holds follows it.
        let after = self.by_network.range(network..);
        let held = after.take_while(move |(other, _)| network.contains(*other));
        holding
            .chain(held.map(|(_, claimants)| claimants))
            .flatten()
    }
}

/// Family and length.
fn length(network: &IpNet) -> (bool, u8) {
    (network.addr().is_ipv6(), network.prefix_len())
}

/// Of these nodes, those that are there, with the pod networks that are their own, the oldest first;
/// what another has already is reported. Whoever overlaps one of them has to be among them.
pub(super) fn settle<'a>(
    cluster: &'a Cluster,
    keys: &BTreeSet<ObjectKey>,
) -> Vec<(&'a Node, Vec<IpNet>, Vec<Problem>)> {
    let nodes = keys.iter().filter_map(|key| cluster.node(key));
    let mut nodes: Vec<&Node> = nodes.map(|node| &**node).collect();
    nodes.sort_by_key(|node| (node.created_unix_seconds, &node.key));
    let mut claimed: BTreeMap<IpNet, &Node> = BTreeMap::new();
    let mut settled = Vec::with_capacity(nodes.len());
    for node in nodes {
        let (mut won, mut problems) = (Vec::new(), Vec::new());
        for network in node.pod_cidrs.iter().map(IpNet::trunc) {
            match overlapping(&claimed, network) {
                None => {
                    claimed.insert(network, node);
                    won.push(network);
                }
                Some((_, owner)) if owner.key == node.key => {}
                Some((other, owner)) => problems.push(Problem::new(
                    Kind::Node,
                    node.key.clone(),
                    "spec.podCIDRs",
                    format!(
                        "has {network}, which overlaps {other} of node {}, which is older",
                        owner.key
                    ),
                    "its pods of this network get no address, and are not reached",
                )),
            }
        }
        settled.push((node, won, problems));
    }
    settled
}

/// The network among those that do not overlap that overlaps this one. In the order of networks,
/// what holds it is the one before, what it holds the one after.
fn overlapping<'a>(
    claimed: &BTreeMap<IpNet, &'a Node>,
    network: IpNet,
) -> Option<(IpNet, &'a Node)> {
    let before = claimed.range(..=network).next_back();
    let after = claimed.range(network..).next();
    let mut beside = before.into_iter().chain(after);
    beside
        .find(|(other, _)| other.contains(&network) || network.contains(*other))
        .map(|(other, node)| (*other, *node))
}
