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
            size,
            passed,
        } = path;
        match passed {
            Passed::All => passing += 1,
            Passed::Nothing => {}
            Passed::UpTo(most) => wrong.push(failure(
                format!(
                    "packets of {size} bytes by {device} do not reach {node} ({to}); {most} bytes do"
                ),
                format!(
                    "ip link set {device} mtu {most}, for good in the node's network configuration; or raise the MTU of what lies between"
                ),
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

pub(super) fn reach(facts: &Facts) -> Seen<Vec<Said>> {
    let paths = paths(facts)?;
    if paths.is_empty() {
        return Ok(vec![not_applicable("there is no other node")]);
    }
    let silent = paths.iter().filter(|path| path.passed == Passed::Nothing);
    let wrong = silent.map(|path| {
        let Path {
            node, to, device, ..
        } = path;
        warning(
            format!("{node} ({to}) does not answer echo requests by {device}"),
            "see whether the node is up, and whether ICMP is let through: path MTU discovery needs it too",
        )
    });
    Ok(or_fine(
        wrong.collect(),
        format!("{} ways, all answered", paths.len()),
    ))
}
