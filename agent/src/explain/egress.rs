//! Whether the packet leaves the cluster, and as what.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use agent_abi::egress::{EGRESS_KEEP, EGRESS_POD, EgressSourceV1};

use super::landing::TRANSLATED_PORTS;
use super::source::Hook;
use super::{ExplainError, Explanation, Facts, Packet, Step, Topic, Verdict, ip, some_of};
use crate::desired::egress::Egress;
use crate::lb::ebpf::entries::address;

/// Adds to an answer what becomes of packets that leave by an uplink.
pub(super) fn leave(
    packet: &Packet,
    facts: &Facts<'_>,
    mut explanation: Explanation,
) -> Result<Explanation, ExplainError> {
    let Some(egress) = &facts.desired.egress else {
        return Ok(explanation);
    };
    let targets: BTreeSet<IpAddr> = match explanation.verdict {
        _ if packet.client.hook != Hook::Workload => return Ok(explanation),
        Verdict::Untouched => [packet.target.address.ip()].into(),
        Verdict::Balanced => {
            let backends = explanation.backends.iter();
            let sockets = backends.filter_map(|backend| backend.parse::<SocketAddr>().ok());
            sockets.map(|socket| socket.ip()).collect()
        }
        Verdict::Masqueraded | Verdict::Rejected | Verdict::Dropped => return Ok(explanation),
    };
    let mut leaving = Vec::new();
    for target in targets {
        let (step, is_outside) = look(packet, target, egress, facts)?;
        // That a backend is in the cluster goes without saying.
        if is_outside || explanation.verdict == Verdict::Untouched {
            explanation.steps.push(step);
        }
        if is_outside {
            leaving.push(target.to_string());
        }
    }
    let source = sources(packet, facts)?;
    match (&source, leaving.as_slice()) {
        (None, _) | (_, []) => {}
        (Some(source), _) if explanation.verdict == Verdict::Untouched => {
            explanation.verdict = Verdict::Masqueraded;
            explanation.result =
                format!("{packet} leaves the cluster as {source} ({TRANSLATED_PORTS})");
        }
        (Some(source), leaving) => {
            let where_to = some_of(leaving);
            explanation.result += &format!("; to {where_to} it leaves the cluster as {source}");
        }
    }
    Ok(explanation)
}

/// What the table says of a destination, and whether that is outside.
fn look(
    packet: &Packet,
    target: IpAddr,
    egress: &Egress,
    facts: &Facts<'_>,
) -> Result<(Step, bool), ExplainError> {
    let client = packet.client.address;
    let bits = |at: IpAddr| {
        facts
            .lookups
            .egress(address(at))
            .map(Option::unwrap_or_default)
    };
    let (from, to) = (bits(client)?, bits(target)?);
    let is_pod = from & EGRESS_POD != 0;
    let is_kept = to & EGRESS_KEEP != 0;
    let wanted = egress.why_kept(target);
    let looked_at = format!("EGRESS_V1[{target}]");
    let found = match wanted {
        Some((network, why)) => format!("{network}: {why}"),
        None => "no network that knows pods by their own addresses".to_owned(),
    };
    let source = sources(packet, facts)?;
    let (follows, is_outside) = match &source {
        _ if !is_pod => (
            format!("{client} is of no pod network of this node: nothing is translated"),
            false,
        ),
        _ if is_kept => ("the packet keeps the pod's address".to_owned(), false),
        None => (
            "no uplink has an address of this family: the packet keeps the pod's".to_owned(),
            false,
        ),
        Some(source) => (
            format!(
                "by an uplink the packet leaves as {source}, {TRANSLATED_PORTS} (--enable-pod-egress)"
            ),
            true,
        ),
    };
    let step = Step::new(Topic::Egress, looked_at, found, follows);
    if wanted.is_some() != is_kept || egress.is_pod(client) != is_pod {
        return Ok((step.differing(), is_outside));
    }
    Ok((step, is_outside))
}

/// What a packet may leave as, by the uplinks there are.
fn sources(packet: &Packet, facts: &Facts<'_>) -> Result<Option<String>, ExplainError> {
    let of_family = |source: EgressSourceV1| match packet.client.address {
        IpAddr::V4(_) => source.v4,
        IpAddr::V6(_) => source.v6,
    };
    let known = facts.lookups.egress_sources()?;
    let addresses: BTreeSet<String> = known
        .into_iter()
        .map(of_family)
        .filter(|address| *address != [0; 16])
        .map(|address| ip(&address).to_string())
        .collect();
    let addresses: Vec<String> = addresses.into_iter().collect();
    Ok(match addresses.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        several => Some(format!("{}, as the route goes", some_of(several))),
    })
}
