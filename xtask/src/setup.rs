//! `cargo xtask setup`: installs what building and testing need, where it is missing.
//!
//! [`facts`] looks at the machine, [`plan::plan`] decides, and the steps are run here. Where a step
//! cannot be run, its command is printed and the task fails.

mod facts;
mod plan;

use anyhow::{Result, bail};

use crate::run;
use plan::Step;

/// Makes this machine able to build and test, or says what it lacks.
pub(crate) fn setup() -> Result<()> {
    let facts = facts::facts();
    let steps = plan::plan(&facts);
    if steps.is_empty() {
        return Ok(());
    }
    let by_hand: Vec<&Step> = steps.iter().filter(|step| !step.can_run(&facts)).collect();
    if !by_hand.is_empty() {
        anstream::eprintln!("this machine lacks something; to get it:");
        for step in &steps {
            anstream::eprintln!("  {step}");
        }
        bail!(
            "setup runs such steps on a Debian system as root only; {} left to you",
            by_hand.len()
        );
    }
    for step in &steps {
        anstream::println!("setup: {step}");
        if let Some(mut command) = step.command() {
            run::run(&mut command)?;
        }
    }
    // What was installed has to be what is looked for, or every later task would install it again.
    let left = plan::plan(&facts::facts());
    if let Some(step) = left.first() {
        bail!("still missing after setup: {step}");
    }
    Ok(())
}
