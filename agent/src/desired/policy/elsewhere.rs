//! What another node is to say about a pod of its own, by what this one knows of the cluster.
//!
//! The tables hold this node's pods alone. Here the policies are asked one after the other, which
//! is for a question of an operator and not for packets. What is not in the cluster is not known:
//! the flags of the other agent, and addresses of its node that the Node object does not name.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, Direction, Kind, ObjectKey, Pod};

use super::PolicyTables;
use super::entries::{Concerning, Outcome, Traffic, Verdict, decide};
use super::follow::is_reachable;
use super::index::named;
use super::rules::{Policy, Reason, Rule, list};
use super::term::Term;

impl PolicyTables {
    /// The pod of another node at an address.
    pub fn pod_elsewhere<'a>(&self, cluster: &'a Cluster, address: IpAddr) -> Option<&'a Pod> {
        let (kind, key) = &self.addresses.owner(address)?.claimant;
        let pod = cluster.pod(key).filter(|_| *kind == Kind::Pod)?;
        let is_here = self.pods.contains_key(key);
        (is_reachable(pod) && !is_here && pod.node_name.is_some()).then_some(pod)
    }

    /// What its node is to say of a new connection between it and a peer.
    pub fn verdict_elsewhere(
        &self,
        cluster: &Cluster,
        pod: &Pod,
        direction: Direction,
        peer: IpAddr,
        traffic: Traffic,
    ) -> Verdict {
        let free = Verdict {
            outcome: Outcome::Allow,
            by: Reason::NoPolicy,
        };
        let node = pod.node_name.as_ref();
        let node = node.and_then(|name| cluster.node(&ObjectKey::cluster_scoped(name)));
        let mut of_node = node.iter().flat_map(|node| &node.addresses);
        if of_node.any(|at| at.address == peer) {
            return free;
        }
        let labels = self.known.labels_of(cluster, &pod.key);
        let selected = self.known.selection.select(pod, labels);
        let Some(key) = selected.set(direction) else {
            return free;
        };
        let policies = key.policies.iter();
        let policies: Vec<Arc<Policy>> = policies.filter_map(|id| self.known.policy(id)).collect();
        let rules = list(key, &policies);
        let owner = self.addresses.owner(peer).map(|claim| &claim.claimant);
        let pod_there = owner.filter(|(kind, _)| *kind == Kind::Pod);
        let pod_there = pod_there.and_then(|(_, key)| cluster.pod(key));
        let means = |term: &Arc<Term>| {
            let of_owner = match (owner, pod_there) {
                (_, Some(pod)) => term.means_pod(pod, self.known.labels_of(cluster, &pod.key)),
                (Some((_, key)), None) => {
                    cluster.node(key).is_some_and(|node| term.means_node(node))
                }
                (None, None) => false,
            };
            of_owner || term.means_network(&IpNet::from(peer))
        };
        let ports = pod_there.map_or(Vec::new(), |pod| named(pod, |_| true));
        let concerns = |rule: &&Rule| {
            let peers = rule.peers.as_ref();
            peers.is_none_or(|peers| peers.iter().any(means))
        };
        let concerning: Vec<Concerning<'_>> = rules
            .iter()
            .filter(concerns)
            .map(|rule| Concerning {
                rule,
                ports: rule.ports.as_ref().map(|of_rule| of_rule.resolved(&ports)),
            })
            .collect();
        decide(&concerning, traffic)
    }
}
