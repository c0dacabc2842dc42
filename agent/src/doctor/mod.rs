//! `fairlead-agent doctor`: what on this node stands in the way, each with what to do.
//!
//! [`gather`] reads the node and asks a running agent, [`checks`] decides over the [`Facts`] that
//! come of it, [`report`] shows it. Nothing is changed. What could not be read is said so, and is
//! never taken for being as it should.

pub mod checks;
pub mod facts;
pub mod finding;
pub mod gather;
mod mtu;
pub mod report;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use crate::config::arguments::{DoctorArguments, Output};
use crate::control::view::{ViewError, print};
pub use facts::Facts;
use finding::Verdict;
use report::Report;

/// Exit status where a check has failed; also that of an error.
const FAILED: u8 = 1;

/// Runs the checks and shows what they find; the answer is the exit status.
///
/// # Errors
/// Where a check is named that is not there, or nothing can be printed.
pub fn show(arguments: &DoctorArguments) -> Result<ExitCode, ViewError> {
    if arguments.list {
        print(Output::Table, &(), |()| report::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let named = |name: &String| checks::CHECKS.iter().any(|check| check.name == name);
    if let Some(name) = arguments.only.iter().find(|name| !named(name)) {
        return Err(ViewError::NoCheck(name.clone()));
    }
    let facts = gather::gather(arguments);
    let report = Report::of(checks::run(&facts, &arguments.only));
    print(arguments.view.output, &report, report::table)?;
    Ok(if report.count(Verdict::Failure) > 0 {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}
