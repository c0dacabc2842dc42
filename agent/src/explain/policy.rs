//! What network policy says of the connection, to each backend that may get it.
//!
//! Asked of the tables as they are wanted; whether they are in force, `status` says.

use std::net::{IpAddr, SocketAddr};

use model::Direction;

use super::{Explanation, Facts, Packet, Step, Topic, Verdict, some_of};
use crate::desired::policy::{Outcome, Reason, Traffic};

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
    let mut forbidden_there = Vec::new();
    for target in &targets {
        let client = packet.client.address;
        let ends = [
            (client, Direction::Egress, target.ip()),
            (target.ip(), Direction::Ingress, client),
        ];
        let steps: Vec<(Step, Outcome)> = ends
            .iter()
            .copied()
            .filter_map(|end| step(packet, facts, *target, end))
            .collect();
        if steps.iter().any(|(_, outcome)| *outcome == Outcome::Deny) {
            forbidden.push(target.to_string());
        }
        let there: Vec<(Step, Outcome)> = ends
            .into_iter()
            .filter_map(|end| step_elsewhere(packet, facts, *target, end))
            .collect();
        if there.iter().any(|(_, outcome)| *outcome == Outcome::Deny) {
            forbidden_there.push(target.to_string());
        }
        let steps = steps.into_iter().chain(there);
        explanation.steps.extend(steps.map(|(step, _)| step));
    }
    forbidden_there.retain(|target| !forbidden.contains(target));
    if !forbidden_there.is_empty() {
        let targets = some_of(&forbidden_there);
        explanation.result += &format!("; the pod's node decides, and is to drop it: {targets}");
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
    let verdict = tables.verdict(pod, direction, peer, traffic(packet, target));
    let found = if known {
        found(&verdict.by)
    } else {
        "no pod is known at the address, and --netpol-default-deny is given".to_owned()
    };
    let follows = match verdict.outcome {
        Outcome::Deny => "it is dropped",
        Outcome::Allow => "it passes",
        Outcome::AuditDeny => "it passes; the policy is audited, else it would be dropped",
    };
    let looked_at = looked_at(packet, target, (pod, direction, peer));
    let step = Step::new(Topic::Policy, looked_at, found, follows);
    Some((step.because_of(object(&verdict.by)), verdict.outcome))
}

/// What this node knows of a pod of another one, which decides there.
fn step_elsewhere(
    packet: &Packet,
    facts: &Facts<'_>,
    target: SocketAddr,
    (address, direction, peer): (IpAddr, Direction, IpAddr),
) -> Option<(Step, Outcome)> {
    let (tables, cluster) = (&facts.desired.policy, facts.cluster);
    if address == peer {
        return None;
    }
    let pod = tables.pod_elsewhere(cluster, address)?;
    let node = pod.node_name.as_deref().unwrap_or_default();
    let traffic = traffic(packet, target);
    let verdict = tables.verdict_elsewhere(cluster, pod, direction, peer, traffic);
    let outcome = match verdict.outcome {
        Outcome::Deny => "to be dropped there",
        Outcome::Allow => "to pass there",
        Outcome::AuditDeny => {
            "to pass there; the policy is audited, else it would be to be dropped"
        }
    };
    let step = Step::new(
        Topic::Policy,
        looked_at(packet, target, (address, direction, peer)),
        format!(
            "Pod {} is of {node}, whose agent decides; as this node knows the policies, {}",
            pod.key,
            found(&verdict.by)
        ),
        format!("it is {outcome}"),
    );
    Some((step.because_of(object(&verdict.by)), verdict.outcome))
}

fn traffic(packet: &Packet, target: SocketAddr) -> Traffic {
    Traffic::Port(packet.target.protocol, target.port())
}

fn looked_at(
    packet: &Packet,
    target: SocketAddr,
    (pod, direction, peer): (IpAddr, Direction, IpAddr),
) -> String {
    let protocol = packet.target.protocol;
    match direction {
        Direction::Ingress => format!(
            "ingress of {pod}: {peer} to port {}/{protocol}",
            target.port()
        ),
        Direction::Egress => format!("egress of {pod}: {target}/{protocol}"),
    }
}

fn found(by: &Reason) -> String {
    match by {
        Reason::Rule(policy, index) => format!("rule {index} of {policy} decides"),
        Reason::Isolated(policy) => format!("{policy} isolates the pod, and no rule allows it"),
        Reason::NoPolicy => "no policy says anything of it".to_owned(),
    }
}

fn object(by: &Reason) -> Option<String> {
    match by {
        Reason::Rule(policy, _) | Reason::Isolated(policy) => Some(policy.to_string()),
        Reason::NoPolicy => None,
    }
}
