//! What network policy says of the connection, to each backend that may get it.
//!
//! Asked of the tables as they are wanted; whether they are in force, `status` says.

use std::net::{IpAddr, SocketAddr};

use model::Direction;

use super::{Explanation, Facts, Packet, Step, Topic, Verdict, some_of};
use crate::desired::policy::{self, Outcome, Reason, Traffic};

/// Adds what policy says to an answer; what it forbids everywhere is dropped.
pub(super) fn judge(
    packet: &Packet,
    facts: &Facts<'_>,
    mut explanation: Explanation,
) -> Explanation {
    let targets: Vec<SocketAddr> = match explanation.verdict {
        _ if !facts.policed => return explanation,
        Verdict::Balanced => {
            let backends = explanation.backends.iter();
            backends
                .filter_map(|backend| backend.parse().ok())
                .collect()
        }
        Verdict::Untouched | Verdict::Masqueraded => vec![packet.target.address],
        Verdict::Rejected | Verdict::Dropped => return explanation,
    };
    let mut forbidden = Vec::new();
    for target in &targets {
        let client = packet.client.address;
        let ends = [
            (client, Direction::Egress, target.ip()),
            (target.ip(), Direction::Ingress, client),
        ];
        let steps: Vec<(Step, Outcome)> = ends
            .into_iter()
            .filter_map(|end| step(packet, facts, *target, end))
            .collect();
        if steps.iter().any(|(_, outcome)| *outcome == Outcome::Deny) {
            forbidden.push(target.to_string());
        }
        explanation
            .steps
            .extend(steps.into_iter().map(|(step, _)| step));
    }
    if forbidden.is_empty() {
        return explanation;
    }
    if forbidden.len() == targets.len() {
        explanation.verdict = Verdict::Dropped;
        explanation.result = format!("{packet} is dropped: network policy forbids it");
    } else {
        explanation.result += &format!("; network policy forbids {}", some_of(&forbidden));
    }
    explanation
}

/// What goes for a pod of this node; `None` where it is none.
fn step(
    packet: &Packet,
    facts: &Facts<'_>,
    target: SocketAddr,
    (pod, direction, peer): (IpAddr, Direction, IpAddr),
) -> Option<(Step, Outcome)> {
    let tables = &facts.desired.policy;
    let known = tables.endpoints().contains_key(&pod);
    let closed = tables.closed().iter().any(|network| network.contains(&pod));
    if pod == peer || !(known || closed) {
        return None;
    }
    let protocol = packet.target.protocol;
    let traffic = Traffic::Port(protocol, target.port());
    let verdict = tables.verdict(pod, direction, peer, traffic);
    let looked_at = match direction {
        Direction::Ingress => format!(
            "ingress of {pod}: {peer} to port {}/{protocol}",
            target.port()
        ),
        Direction::Egress => format!("egress of {pod}: {target}/{protocol}"),
    };
    let (object, found) = match &verdict.by {
        Reason::Rule(policy, index) => (Some(policy), format!("rule {index} of {policy} decides")),
        Reason::Isolated(policy) => (
            Some(policy),
            format!("{policy} isolates the pod, and no rule allows it"),
        ),
        Reason::NoPolicy if !known => (
            None,
            "no pod is known at the address, and --netpol-default-deny is given".to_owned(),
        ),
        Reason::NoPolicy => (None, "no policy says anything of it".to_owned()),
    };
    let follows = match verdict.outcome {
        Outcome::Deny => "it is dropped",
        Outcome::Allow => "it passes",
        Outcome::AuditDeny => "it passes; the policy is audited, else it would be dropped",
    };
    let step = Step::new(Topic::Policy, looked_at, found, follows);
    let object = object.map(|policy: &std::sync::Arc<policy::PolicyRef>| policy.to_string());
    Some((step.because_of(object), verdict.outcome))
}
