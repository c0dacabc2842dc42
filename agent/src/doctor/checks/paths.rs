//! What was found on the way to other nodes.

use std::net::IpAddr;

use crate::doctor::facts::{Carrier, Facts, Passed, Path, Seen};
use crate::doctor::finding::{Said, could_not_tell, failure, not_applicable, or_fine, warning};

fn paths(facts: &Facts) -> Seen<&[Path]> {
    facts.paths.as_deref().map_err(Clone::clone)
}

pub(super) fn mtu(facts: &Facts) -> Seen<Vec<Said>> {
    let paths = paths(facts)?;
    if paths.is_empty() {
        return Ok(vec![not_applicable("there is no other node")]);
    }
    let mut wrong = Vec::new();
    let mut passing = 0_usize;
    for path in paths {
        let Path {
            node,
            to,
            device,
            size,
            passed,
            carrier,
        } = path;
        match passed {
            Passed::All => passing += 1,
            Passed::Nothing => {}
            // What lies under the overlay is told of, and mends it.
            Passed::UpTo(_) if carrier.is_some() && is_narrow_outside(paths, *to) => {}
            Passed::UpTo(most) => wrong.push(failure(
                format!(
                    "packets of {size} bytes by {device} do not reach {node} ({to}); {most} bytes do"
                ),
                match carrier {
                    None => format!(
                        "ip link set {device} mtu {most}, for good in the node's network configuration; or raise the MTU of what lies between"
                    ),
                    // The agent would set the device's MTU back.
                    Some(Carrier { port, overhead }) => format!(
                        "start the agents with --mtu={}, or let {} through between the nodes",
                        most + overhead,
                        match port {
                            Some(port) => format!(
                                "datagrams of any size to UDP port {port} and their fragments"
                            ),
                            None => "IP in IP (protocol 4) of any size".to_owned(),
                        }
                    ),
                },
            )),
        }
    }
    if wrong.is_empty() && passing == 0 {
        return Ok(vec![could_not_tell(
            "no other node answers echo requests; see `reach`",
        )]);
    }
    Ok(or_fine(
        wrong,
        format!("full size gets through on {passing} ways"),
    ))
}

/// Whether large packets get lost on the way to an address outside of the overlay too.
fn is_narrow_outside(paths: &[Path], to: IpAddr) -> bool {
    let outside = |path: &&Path| path.to == to && path.carrier.is_none();
    let found = paths.iter().find(outside);
    found.is_some_and(|path| matches!(path.passed, Passed::UpTo(_)))
}

pub(super) fn reach(facts: &Facts) -> Seen<Vec<Said>> {
    let paths = paths(facts)?;
    if paths.is_empty() {
        return Ok(vec![not_applicable("there is no other node")]);
    }
    let is_silent = |path: &&Path| path.passed == Passed::Nothing;
    let wrong = paths.iter().filter(is_silent).filter_map(|path| {
        let Path {
            node, to, device, ..
        } = path;
        let Some(Carrier { port, .. }) = path.carrier else {
            return Some(warning(
                format!("{node} ({to}) does not answer echo requests by {device}"),
                "see whether the node is up, and whether ICMP is let through: path MTU discovery needs it too",
            ));
        };
        let outside = paths
            .iter()
            .find(|path| path.to == *to && path.carrier.is_none());
        // What does not answer outside of the overlay either is told above.
        outside.filter(|path| !is_silent(path)).map(|_| {
            failure(
                format!("{node} ({to}) answers echo requests, but none that go through {device}"),
                match port {
                    Some(port) => format!(
                        "let UDP port {port} through between the nodes, in their own firewalls and in the network's; and see whether an agent with the same --overlay-vni and --overlay-encap-port runs there"
                    ),
                    None => "let IP in IP (protocol 4) through between the nodes, in their own firewalls and in the network's; and see whether an agent with --overlay-encap ipip runs there".to_owned(),
                },
            )
        })
    });
    Ok(or_fine(
        wrong.collect(),
        format!("{} ways, all answered", paths.len()),
    ))
}
