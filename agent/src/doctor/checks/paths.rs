//! What was found on the way to other nodes.

use crate::doctor::facts::{Facts, Passed, Path, Seen};
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
            overlay,
            size,
            passed,
        } = path;
        match passed {
            Passed::All => passing += 1,
            Passed::Nothing => {}
            // What is too large outside of the overlay is so in it, and mended with it.
            Passed::UpTo(_) if *overlay && is_short(paths, path) => {}
            Passed::UpTo(most) => {
                let found = format!(
                    "packets of {size} bytes by {device} do not reach {node} ({to}); {most} bytes do"
                );
                wrong.push(if *overlay {
                    failure(found, "give the interface that the overlay leaves by an MTU that gets through; see the nodes' own ways with --only mtu on each")
                } else {
                    failure(found, format!("ip link set {device} mtu {most}, for good in the node's network configuration; or raise the MTU of what lies between"))
                });
            }
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

/// Whether the same node is not reached in full size outside of the overlay.
fn is_short(paths: &[Path], overlay: &Path) -> bool {
    let mut others = paths
        .iter()
        .filter(|path| !path.overlay && path.node == overlay.node);
    others.any(|path| matches!(path.passed, Passed::UpTo(_)))
}

pub(super) fn reach(facts: &Facts) -> Seen<Vec<Said>> {
    let paths = paths(facts)?;
    if paths.is_empty() {
        return Ok(vec![not_applicable("there is no other node")]);
    }
    let silent: Vec<&Path> = paths
        .iter()
        .filter(|path| path.passed == Passed::Nothing)
        .collect();
    let outside = |node: &str| silent.iter().any(|path| !path.overlay && path.node == node);
    let mut wrong = Vec::new();
    for path in &silent {
        let Path {
            node, to, device, ..
        } = path;
        if path.overlay && outside(node) {
            continue;
        }
        wrong.push(if path.overlay {
            failure(
                format!("{node} ({to}) answers outside of the overlay and not through {device}"),
                "let the overlay's packets in there and on the way (by default UDP port 4789), and see that its agent runs with the same --overlay-* flags",
            )
        } else {
            warning(
                format!("{node} ({to}) does not answer echo requests by {device}"),
                "see whether the node is up, and whether ICMP is let through: path MTU discovery needs it too",
            )
        });
    }
    Ok(or_fine(
        wrong,
        format!("{} ways, all answered", paths.len()),
    ))
}
