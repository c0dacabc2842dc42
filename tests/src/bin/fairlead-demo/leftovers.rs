//! What stays behind: nothing.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tests::harness::{Agent, Answer, Lab, eventually, inventory, program_ids, remains};

use crate::LAB;
use crate::facts::Facts;
use crate::shop::Shop;

/// What was there before the lab.
#[derive(Debug)]
pub(crate) struct Before {
    programs: Result<BTreeSet<u32>>,
}

impl Before {
    pub(crate) fn now() -> Self {
        Self {
            programs: program_ids().map(BTreeSet::from_iter),
        }
    }
}

/// Stops the agents and lets each clean its node.
pub(crate) fn of_agents(facts: &mut Facts, shop: &mut Shop) {
    facts.section("fairlead-agent --cleanup-config");
    let agents = std::mem::take(&mut shop.agents);
    for (node, agent) in agents {
        drop(agent);
        let shop = &*shop;
        facts.check(&format!("{node}: --dry-run lists what is there"), || {
            let there = inventory(&shop.lab, &node)?.len();
            let answer = cleanup(&shop.lab, &node, &["--dry-run"])?;
            ensure!(
                inventory(&shop.lab, &node)?.len() == there,
                "the rehearsal changed something"
            );
            ensure!(there > 0, "there is nothing on {node}");
            Ok(format!(
                "{} lines for {there} pins, attachments and files",
                answer.output.lines().count()
            ))
        });
        facts.check(&format!("{node}: it removes everything"), || {
            cleanup(&shop.lab, &node, &[])?;
            let left = inventory(&shop.lab, &node)?;
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            Ok("no pin, no attachment, no file left".to_owned())
        });
        facts.check(&format!("{node}: a second run finds nothing"), || {
            let answer = cleanup(&shop.lab, &node, &[])?;
            Ok(answer.output.trim().to_owned())
        });
    }
}

/// Runs `--cleanup-config` on a node, which has to succeed.
fn cleanup(lab: &Lab, node: &str, more: &[&str]) -> Result<Answer> {
    let answer = Agent::cleanup(lab, node, more)?;
    ensure!(
        answer.code == Some(0),
        "exit {:?}: {}",
        answer.code,
        answer.error.trim()
    );
    Ok(answer)
}

/// Looks for anything of the lab once it is gone.
pub(crate) fn after_the_lab(facts: &mut Facts, before: Before) {
    facts.section("Nothing stays behind");
    facts.check("namespaces, cgroups, mounts, files", || {
        let left = remains(LAB)?;
        ensure!(left.is_empty(), "left: {}", left.join(", "));
        Ok("none left".to_owned())
    });
    facts.check("eBPF programs in the kernel", || {
        let before = before.programs?;
        eventually("the kernel frees the programs", || {
            let now = BTreeSet::from_iter(program_ids()?);
            let new = now.difference(&before).count();
            ensure!(
                new == 0,
                "{new} more than before, unless something else on this machine loaded them"
            );
            Ok(Some(format!(
                "{} before, {} after",
                before.len(),
                now.len()
            )))
        })
    });
}
