//! `cargo xtask setup`: installs what building and testing need, where it is missing.
//!
//! [`facts`] looks at the machine, [`plan::plan`] decides, and the steps are run here. Where a step
//! cannot be run, its command is printed and the task fails.

mod distribution;
mod facts;
mod packages;
mod plan;
mod step;

use anyhow::{Result, bail};

use crate::run;
use step::Step;

/// Makes this machine able to build and test, or says what it lacks.
pub(crate) fn setup() -> Result<()> {
    let mut done: Vec<Step> = Vec::new();
    loop {
        // Anew after each step: apt knows more after an update, a compiler brings its LLVM.
        let facts = facts::facts(done.contains(&Step::UpdateLists));
        let steps = plan::plan(&facts);
        let Some(next) = steps.first() else {
            let before = if done.is_empty() { "already " } else { "" };
            anstream::println!("setup: everything needed is {before}here");
            return Ok(());
        };
        if let Some(step) = steps.iter().find(|step| done.contains(step)) {
            bail!("still missing after `{step}`");
        }
        if !steps.iter().all(|step| step.can_run(&facts)) {
            anstream::eprintln!("this machine lacks something; to get it:");
            for step in &steps {
                anstream::eprintln!("  {step}");
            }
            bail!("setup installs packages as root on Debian only; the rest is left to you");
        }
        if let Some(mut command) = next.command() {
            run::phase(&format!("setup: {next}"), || run::run(&mut command))?;
        }
        done.push(next.clone());
    }
}
