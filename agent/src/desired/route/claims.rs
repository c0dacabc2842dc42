//! Whose a pod network is: that of the oldest node that has it, or a part of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, Kind, Node, Problem};

/// Every node with the pod networks that are its own, the oldest first; what another has already is
/// reported.
pub(super) fn settle<'a>(
    cluster: &'a Cluster,
    problems: &mut Vec<Problem>,
) -> Vec<(&'a Node, Vec<IpNet>)> {
    let mut nodes: Vec<&Arc<Node>> = cluster.nodes().map(|(_, node)| node).collect();
    nodes.sort_by_key(|node| (node.created_unix_seconds, &node.key));
    let mut claimed: BTreeMap<IpNet, &Node> = BTreeMap::new();
    let mut settled = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut won = Vec::new();
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
        settled.push((&**node, won));
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
