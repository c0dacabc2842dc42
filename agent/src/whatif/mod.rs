//! Which of the flows seen lately a changed policy would cut, and which it would newly allow.
//!
//! [`read`] turns files into a [`Change`], which goes to the running agent over its socket; there
//! [`flows`] says what was seen, and [`judge`] asks the tables as they are and as they would be.
//! Nothing here changes anything.

pub mod answer;
pub mod flows;
pub mod read;
mod shown;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::k8s::reduce;
use model::{Cluster, Direction, Event, Kind, ObjectKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::desired::NodeContext;
use crate::desired::policy::{Outcome, PolicyTables, Traffic};
use answer::{Answer, FlowRow, VerdictRow};
pub use shown::table;

/// Kinds that may be changed.
pub const KINDS: [Kind; 2] = [Kind::NetworkPolicy, Kind::ClusterNetworkPolicy];

/// What is to be different, as it travels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Policies that are added, or take the place of those of their names.
    pub objects: Vec<Value>,
    /// Policies that are gone: `namespace/name`, or the name of a ClusterNetworkPolicy.
    pub deleted: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    /// Too early.
    #[error("the agent has not heard the whole cluster yet; see `fairlead-agent status`")]
    NotSynced,
    /// Nothing is judged.
    #[error(
        "network policy is off on this node, so nothing is cut; start the agent without --run-firewall=false"
    )]
    NotPoliced,
    /// No such policy.
    #[error(
        "--delete {0}: there is no such policy; give NAMESPACE/NAME of a NetworkPolicy, or NAME of a ClusterNetworkPolicy"
    )]
    NoSuchPolicy(String),
    /// An object that is no policy.
    #[error("object {0} is not a NetworkPolicy or ClusterNetworkPolicy that can be read")]
    NoPolicy(usize),
    /// The kernel does not answer.
    #[error("{0}")]
    Table(String),
}

/// Packets of one sort between a pod of this node and a peer. Where they come from does not matter:
/// a connection under way, or one that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The pod's address.
    pub pod: IpAddr,
    /// Who began it.
    pub direction: Direction,
    /// The other end, as policy sees it.
    pub peer: IpAddr,
    /// What it is, and the port of who receives.
    pub traffic: Traffic,
}

/// How often a flow was seen, and how long ago at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Connections, or attempts.
    pub connections: u64,
    /// Since the last packet.
    pub idle: Duration,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            connections: 0,
            idle: Duration::MAX,
        }
    }
}

impl Seen {
    /// Counts one more, whose last packet was `idle` ago.
    pub fn add(&mut self, idle: Duration) {
        self.connections += 1;
        self.idle = self.idle.min(idle);
    }
}

/// The cluster with the change.
///
/// # Errors
/// Where the change names what is not there, or is not a policy.
pub fn changed(cluster: &Cluster, change: &Change) -> Result<Cluster, WhatIfError> {
    let mut cluster = cluster.clone();
    drop(cluster.take_changes());
    for name in &change.deleted {
        let (kind, key, is_there) = if let Some((namespace, name)) = name.split_once('/') {
            let key = ObjectKey::new(namespace, name);
            let is_there = cluster.network_policy(&key).is_some();
            (Kind::NetworkPolicy, key, is_there)
        } else {
            let key = ObjectKey::cluster_scoped(name);
            let is_there = cluster.cluster_network_policy(&key).is_some();
            (Kind::ClusterNetworkPolicy, key, is_there)
        };
        if !is_there {
            return Err(WhatIfError::NoSuchPolicy(name.clone()));
        }
        cluster.apply(Event::Deleted { kind, key });
    }
    for (number, object) in (1..).zip(&change.objects) {
        let kind = kind_of(object).ok_or(WhatIfError::NoPolicy(number))?;
        let reduced = reduce(kind, object);
        if reduced.object.is_none() {
            return Err(WhatIfError::NoPolicy(number));
        }
        cluster.apply(Event::Applied {
            kind,
            key: reduced.key,
            object: reduced.object,
            problems: reduced.problems,
        });
    }
    Ok(cluster)
}

/// The kind of a policy.
fn kind_of(object: &Value) -> Option<Kind> {
    let name = object.get("kind")?.as_str()?;
    KINDS.into_iter().find(|kind| kind.as_str() == name)
}

/// What would become of `flows` if `change` were made.
///
/// # Errors
/// Where the change makes no sense.
pub fn judge(
    cluster: &Cluster,
    node: &NodeContext,
    change: &Change,
    flows: &BTreeMap<Flow, Seen>,
) -> Result<Answer, WhatIfError> {
    let mut then_cluster = changed(cluster, change)?;
    let changes = then_cluster.take_changes();
    let now = PolicyTables::compile(cluster, node);
    let then = now.follow(&then_cluster, &changes, node);
    let names = shown::Names::of(cluster, &now);
    let mut answer = Answer {
        node: node.name.to_string(),
        flows: flows.len(),
        ..Answer::default()
    };
    for (flow, seen) in flows {
        let ask = |tables: &PolicyTables| {
            tables.verdict(flow.pod, flow.direction, flow.peer, flow.traffic)
        };
        // A pod reaches itself whatever the rules are.
        let (before, after) = (ask(&now), ask(&then));
        let list = match (before.outcome, after.outcome) {
            _ if flow.pod == flow.peer => None,
            (Outcome::Deny, Outcome::Deny) => None,
            (_, Outcome::Deny) => Some(&mut answer.cut),
            (Outcome::Deny, _) => Some(&mut answer.allowed),
            (Outcome::Allow, Outcome::AuditDeny) => Some(&mut answer.audited),
            (Outcome::Allow | Outcome::AuditDeny, _) => None,
        };
        match list {
            None => answer.unchanged += 1,
            Some(list) => list.push(FlowRow {
                connections: seen.connections,
                seconds_ago: seen.idle.as_secs(),
                now: VerdictRow::of(&before),
                then: VerdictRow::of(&after),
                ..names.row(flow)
            }),
        }
    }
    Ok(answer)
}
