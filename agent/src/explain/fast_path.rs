//! Whether the packets skip the host's stack.

use std::net::{IpAddr, SocketAddr};

use super::{Explanation, Facts, Packet, Step, Topic, Verdict, some_of};
use crate::devices::fast_path::{FastPath, Reach};

/// Adds whether packets between pods skip the stack to an answer; of others there is nothing to say.
pub(super) fn add(packet: &Packet, facts: &Facts<'_>, mut explanation: Explanation) -> Explanation {
    let FastPath::On(reach) = facts.fast_path else {
        return explanation;
    };
    let targets: Vec<IpAddr> = match explanation.verdict {
        Verdict::Untouched => vec![packet.target.address.ip()],
        Verdict::Balanced => {
            let backends = explanation.backends.iter();
            let parsed = backends.filter_map(|backend| backend.parse::<SocketAddr>().ok());
            parsed.map(|backend| backend.ip()).collect()
        }
        Verdict::Rejected | Verdict::Dropped | Verdict::Masqueraded => return explanation,
    };
    let client = packet.client.address;
    let steps = targets
        .into_iter()
        .filter(|target| reach.joins(client, *target));
    let found: Vec<String> = steps.map(|target| way(reach, target)).collect();
    if !found.is_empty() {
        explanation.steps.push(Step::new(
            Topic::FastPath,
            "FAST_DEVICES_V1, POD_NETWORKS_V1",
            some_of(&found),
            "skips the host's stack, and its netfilter rules",
        ));
    }
    explanation
}

fn way(reach: &Reach, target: IpAddr) -> String {
    match reach.pods.get(&target) {
        Some(interface) => format!("{target} is the pod behind {interface}"),
        None => format!("{target} is a pod of another node"),
    }
}
