//! Who sends, and by which way its packets come.

use std::net::IpAddr;
use std::num::NonZeroU16;

use model::{ObjectKey, Pod};

use super::source::Hook;
use super::{ExplainError, Facts, Step, Topic, ask, endpoint};

/// Who sends.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    pub(super) port: Option<NonZeroU16>,
    pub(super) hook: Hook,
    who: String,
    pod: Option<ObjectKey>,
}

impl Client {
    /// Whether it gets what clients of this node get.
    pub(super) fn is_inside(&self) -> bool {
        self.hook != Hook::Uplink
    }

    pub(super) fn step(&self) -> Step {
        let follows = match self.hook {
            Hook::Workload => {
                "inside: a client of this node, whose packets come by its interface here"
            }
            Hook::Egress => "inside: a process in the node's own network",
            Hook::Uplink => "outside: its packets come from another machine",
        };
        let pod = self.pod.as_ref().map(|pod| format!("Pod {pod}"));
        let asked = endpoint(self.address, self.port);
        Step::new(Topic::Client, asked, &self.who, follows).because_of(pod)
    }
}

/// Addresses a client may have.
pub(super) fn addresses(
    from: &ask::Sender,
    facts: &Facts<'_>,
) -> Result<Vec<IpAddr>, ExplainError> {
    match &from.peer {
        ask::Peer::Address(address) => Ok(vec![*address]),
        ask::Peer::Pod(key) => {
            let pod = facts.cluster.pod(key);
            let pod = pod.ok_or_else(|| ExplainError::UnknownPod(key.clone()))?;
            match pod.node_name.as_deref() {
                Some(node) if node != &*facts.desired.node.name => {
                    Err(ExplainError::PodElsewhere {
                        pod: key.clone(),
                        node: node.to_owned(),
                    })
                }
                _ if pod.finished => Err(ExplainError::PodWithoutAddress(key.clone())),
                _ => Ok(pod.addresses.clone()),
            }
        }
    }
}

/// Who has an address.
pub(super) fn at(address: IpAddr, from: &ask::Sender, facts: &Facts<'_>) -> Client {
    let node = &facts.desired.node;
    let is_here = |pod: &Pod| pod.node_name.as_ref() == Some(&node.name);
    let pod = match &from.peer {
        ask::Peer::Pod(key) => facts.cluster.pod(key),
        ask::Peer::Address(_) => {
            let mut pods = facts.cluster.pods().map(|(_, pod)| pod);
            pods.find(|pod| !pod.finished && !pod.host_network && pod.addresses.contains(&address))
        }
    };
    let (hook, who) = match pod {
        Some(pod) if is_here(pod) && pod.host_network => (
            Hook::Egress,
            format!("Pod {} in the network of this node", pod.key),
        ),
        Some(pod) if is_here(pod) => (Hook::Workload, format!("Pod {} of this node", pod.key)),
        Some(pod) => (
            Hook::Uplink,
            format!(
                "Pod {} of {}: its own node balances it, so this is a packet that node let pass",
                pod.key,
                pod.node_name.as_deref().unwrap_or("no node yet")
            ),
        ),
        None if node.owns(address) || address.is_loopback() => {
            (Hook::Egress, format!("this node, {}", node.name))
        }
        None if is_in_pod_network(address, facts) => (
            Hook::Workload,
            "no Pod that is known, but of this node's pod network".to_owned(),
        ),
        None => (
            Hook::Uplink,
            "neither this node nor one of its pods".to_owned(),
        ),
    };
    Client {
        address,
        port: from.port,
        hook,
        who,
        pod: pod.map(|pod| pod.key.clone()),
    }
}

fn is_in_pod_network(address: IpAddr, facts: &Facts<'_>) -> bool {
    let key = ObjectKey::cluster_scoped(&facts.desired.node.name);
    let node = facts.cluster.node(&key);
    node.is_some_and(|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(&address)))
}
