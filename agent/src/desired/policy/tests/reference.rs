//! What the Kubernetes API says of one packet, straight from the objects and as plainly as can be.
//!
//! The truth tables with real packets (`tests/tests/netns/truth`) include this file too.

use std::net::IpAddr;
use std::num::NonZeroU16;

use model::{
    Cluster, Direction, LabelSelector, Labels, Node, ObjectKey, PeerSelection, Pod, PolicyMode,
    PolicyPeer, PolicyPort, PortName, PortSelection, Protocol, RuleAction, Tier,
};

use super::{NodeContext, Outcome, Traffic};

struct Packet<'a> {
    cluster: &'a Cluster,
    pod: &'a Pod,
    address: IpAddr,
    peer_pod: Option<&'a Pod>,
    peer_nodes: Vec<&'a Node>,
    direction: Direction,
    traffic: Traffic,
}

pub(crate) fn outcome(
    cluster: &Cluster,
    node: &NodeContext,
    pod: &ObjectKey,
    direction: Direction,
    peer: IpAddr,
    traffic: Traffic,
) -> Outcome {
    if node.own.contains(&peer) {
        return Outcome::Allow;
    }
    let packet = Packet {
        cluster,
        pod: cluster.pod(pod).unwrap(),
        address: peer,
        peer_pod: pod_at(cluster, peer),
        peer_nodes: nodes_at(cluster, peer),
        direction,
        traffic,
    };
    packet.outcome()
}

/// The pod that has an address, as policies mean pods: no finished one, and none with the network of
/// its node.
pub(crate) fn pod_at(cluster: &Cluster, address: IpAddr) -> Option<&Pod> {
    let is_of_a_node = !nodes_at(cluster, address).is_empty();
    let pods = cluster.pods().map(|(_, pod)| &**pod);
    let there = pods.filter(|pod| {
        !pod.host_network && !pod.finished && pod.addresses.contains(&address) && !is_of_a_node
    });
    there.max_by(|a, b| {
        let age = a.created_unix_seconds.cmp(&b.created_unix_seconds);
        age.then(b.key.cmp(&a.key))
    })
}

fn nodes_at(cluster: &Cluster, address: IpAddr) -> Vec<&Node> {
    let nodes = cluster.nodes().map(|(_, node)| &**node);
    nodes
        .filter(|node| node.addresses.iter().any(|at| at.address == address))
        .collect()
}

impl Packet<'_> {
    fn outcome(&self) -> Outcome {
        match self.of_cluster_policies(Tier::Admin) {
            Some(RuleAction::Accept) => return Outcome::Allow,
            Some(RuleAction::Deny) => return Outcome::Deny,
            Some(RuleAction::Pass) | None => {}
        }
        let (isolated, allowed) = self.of_network_policies(PolicyMode::Enforce);
        if isolated {
            return if allowed {
                Outcome::Allow
            } else {
                Outcome::Deny
            };
        }
        let (would_isolate, would_allow) = self.of_network_policies(PolicyMode::Audit);
        match self.of_cluster_policies(Tier::Baseline) {
            Some(RuleAction::Deny) => Outcome::Deny,
            Some(RuleAction::Accept | RuleAction::Pass) | None => {
                if would_isolate && !would_allow {
                    Outcome::AuditDeny
                } else {
                    Outcome::Allow
                }
            }
        }
    }

    /// Whether policies of a mode isolate the pod, and whether any of their rules matches.
    fn of_network_policies(&self, mode: PolicyMode) -> (bool, bool) {
        let (mut isolated, mut allowed) = (false, false);
        for (key, policy) in self.cluster.network_policies() {
            let rules = match self.direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            let selected = key.namespace == self.pod.key.namespace
                && selects(&policy.pods, &self.pod.labels)
                && policy.mode == mode;
            if let (true, Some(rules)) = (selected, rules) {
                isolated = true;
                for rule in rules {
                    let namespace = &key.namespace;
                    allowed |=
                        self.is_peer(&rule.peers, namespace) && self.is_port(&rule.ports, true);
                }
            }
        }
        (isolated, allowed)
    }

    /// What the first rule of a tier that matches says.
    fn of_cluster_policies(&self, tier: Tier) -> Option<RuleAction> {
        let policies = self.cluster.cluster_network_policies();
        let mut policies: Vec<_> = policies.filter(|(_, policy)| policy.tier == tier).collect();
        policies.sort_by_key(|(key, policy)| (policy.priority, *key));
        for (_, policy) in policies {
            let subject = &policy.subject;
            if !selects(&subject.namespaces, &self.namespace_of(self.pod))
                || !selects(&subject.pods, &self.pod.labels)
            {
                continue;
            }
            let rules = match self.direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            for rule in rules {
                let accepts = rule.action == RuleAction::Accept;
                if self.is_peer(&rule.peers, "") && self.is_port(&rule.ports, accepts) {
                    return Some(rule.action);
                }
            }
        }
        None
    }

    fn namespace_of(&self, pod: &Pod) -> Labels {
        let key = ObjectKey::cluster_scoped(&pod.key.namespace);
        let namespace = self.cluster.namespace(&key);
        namespace
            .map(|namespace| namespace.labels.clone())
            .unwrap_or_default()
    }

    fn is_peer(&self, peers: &PeerSelection, own: &str) -> bool {
        let PeerSelection::Only(peers) = peers else {
            return true;
        };
        peers.iter().any(|peer| match peer {
            PolicyPeer::Pods { pods, namespaces } => self.peer_pod.is_some_and(|pod| {
                let there = match namespaces {
                    None => &*pod.key.namespace == own,
                    Some(selector) => selects(selector, &self.namespace_of(pod)),
                };
                there && selects(pods, &pod.labels)
            }),
            PolicyPeer::Nodes(selector) => self
                .peer_nodes
                .iter()
                .any(|node| selects(selector, &node.labels)),
            PolicyPeer::IpBlock { cidr, except } => {
                cidr.contains(&self.address)
                    && !except.iter().any(|except| except.contains(&self.address))
            }
        })
    }

    /// Whether the packet is for one of the ports, or, of ICMP where that follows the peers,
    /// whether there is any port at all.
    fn is_port(&self, ports: &PortSelection, follows_peers: bool) -> bool {
        let PortSelection::Only(ports) = ports else {
            return true;
        };
        let receiver = match self.direction {
            Direction::Ingress => Some(self.pod),
            Direction::Egress => self.peer_pod,
        };
        let named = receiver.map(|pod| pod.ports.clone()).unwrap_or_default();
        match self.traffic {
            Traffic::Port(protocol, number) => ports
                .iter()
                .any(|port| is_of(port, protocol, number, &named)),
            Traffic::Icmp => {
                let exists = |port: &PolicyPort| match port {
                    PolicyPort::Protocol(_) | PolicyPort::Range { .. } => true,
                    PolicyPort::Named { protocol, name } => {
                        named.iter().any(|(n, p, _)| n == name && p == protocol)
                    }
                };
                follows_peers && ports.iter().any(exists)
            }
            Traffic::Other => false,
        }
    }
}

fn is_of(
    port: &PolicyPort,
    of: Protocol,
    number: u16,
    named: &[(PortName, Protocol, NonZeroU16)],
) -> bool {
    match port {
        PolicyPort::Protocol(protocol) => *protocol == of,
        PolicyPort::Range {
            protocol,
            first,
            last,
        } => *protocol == of && (first.get()..=last.get()).contains(&number),
        PolicyPort::Named { protocol, name } => {
            *protocol == of
                && named
                    .iter()
                    .any(|(n, p, at)| n == name && *p == of && at.get() == number)
        }
    }
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    use model::Requirement::{DoesNotExist, Exists, In, NotIn};
    selector
        .requirements
        .iter()
        .all(|requirement| match requirement {
            In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            NotIn(key, values) => !labels.get(key).is_some_and(|value| values.contains(value)),
            Exists(key) => labels.get(key).is_some(),
            DoesNotExist(key) => labels.get(key).is_none(),
        })
}
