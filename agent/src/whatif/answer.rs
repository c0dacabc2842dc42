//! The answer, as it travels and as `--output json` prints it.

use serde::{Deserialize, Serialize};

use crate::desired::policy::{Outcome, Reason, Verdict};

/// What would become of the flows seen lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Name of the node whose pods were looked at.
    pub node: String,
    /// Flows looked at.
    pub flows: usize,
    /// Those that go on as before.
    pub unchanged: usize,
    /// Those that pass now, and would be dropped.
    pub cut: Vec<FlowRow>,
    /// Those that are dropped now, and would pass.
    pub allowed: Vec<FlowRow>,
    /// Those that pass now, and would be reported as what an audited policy drops.
    pub audited: Vec<FlowRow>,
}

/// One flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// `namespace/name` of the pod; its address where it is not known.
    pub pod: String,
    /// Its address.
    pub address: String,
    /// `ingress` or `egress`, seen from the pod.
    pub direction: String,
    /// Address of the other end, as policy sees it.
    pub peer: String,
    /// Kind, namespace and name of what is known there.
    pub peer_object: Option<String>,
    /// Protocol.
    pub protocol: String,
    /// Port of who receives.
    pub port: Option<u16>,
    /// Connections like this.
    pub connections: u64,
    /// Seconds since the last packet.
    pub seconds_ago: u64,
    /// What decides now.
    pub now: VerdictRow,
    /// What would decide.
    pub then: VerdictRow,
}

/// What becomes of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// `allow`, `deny`, or `audit`: an audited policy would deny.
    pub outcome: String,
    /// Kind, namespace and name of the policy that decides.
    pub policy: Option<String>,
    /// Index of the rule in the policy's `ingress` or `egress`; absent where the policy isolates
    /// the pod and no rule allows it.
    pub rule: Option<u16>,
}

impl VerdictRow {
    pub(super) fn of(verdict: &Verdict) -> Self {
        let outcome = match verdict.outcome {
            Outcome::Allow => "allow",
            Outcome::Deny => "deny",
            Outcome::AuditDeny => "audit",
        };
        let (policy, rule) = match &verdict.by {
            Reason::Rule(policy, index) => (Some(policy), Some(*index)),
            Reason::Isolated(policy) => (Some(policy), None),
            Reason::NoPolicy => (None, None),
        };
        Self {
            outcome: outcome.to_owned(),
            policy: policy.map(ToString::to_string),
            rule,
        }
    }
}

impl std::fmt::Display for VerdictRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            outcome,
            policy,
            rule,
        } = self;
        match (policy, rule) {
            (Some(policy), Some(rule)) => write!(f, "{outcome}: {policy} rule {rule}"),
            (Some(policy), None) => write!(f, "{outcome}: {policy}, no rule allows it"),
            (None, _) => write!(f, "{outcome}: no policy"),
        }
    }
}
