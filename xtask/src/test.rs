//! `cargo xtask test`: sets up, builds, runs the lanes and sums up.
//!
//! A lane with no test executed fails, so that a suite that was skipped is not taken for one that
//! passed. The last line of the output is the sum alone.

mod lane;
mod outcome;

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use std::{io, thread};

use anyhow::{Context, Result, anyhow, ensure};

use crate::build::{self, Profile};
use crate::{place, run, setup, tidy};
use lane::{Check, Lane};
use outcome::{Outcome, Sum};

/// Runs the lanes of these names, all of them for none.
pub(crate) fn test(names: &[String]) -> Result<ExitCode> {
    let lanes = lane::select(names)?;
    if lanes.iter().any(|lane| lane.needs_root()) {
        ensure!(
            is_root()?,
            "the lanes bpf and netns load eBPF programs and make network namespaces, which takes root; without it: cargo xtask test unit"
        );
    }
    setup::setup()?;
    build::build(Profile::Dev)?;
    let outcomes: Vec<Outcome> = lanes.into_iter().map(run_lane).collect();
    anstream::println!();
    for outcome in &outcomes {
        anstream::println!("{outcome}");
    }
    let sum: Sum = outcomes.iter().map(|outcome| outcome.sum).sum();
    anstream::println!("{} passed, {} failed", sum.passed, sum.failed);
    Ok(if outcomes.iter().all(Outcome::is_success) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_lane(lane: Lane) -> Outcome {
    anstream::println!("\n--- {}: {}", lane.name(), lane.about());
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut failures = Vec::new();
    for check in lane.checks() {
        match run_check(check) {
            Ok((of_check, Ok(()))) => sum = sum + of_check,
            Ok((of_check, Err(error))) => {
                sum = sum + of_check;
                failures.push(format!("{error:#}"));
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    for failure in &failures {
        anstream::eprintln!("{}: {failure}", lane.name());
    }
    Outcome {
        lane: lane.name(),
        sum,
        failures,
        took: began.elapsed(),
    }
}

/// What a check counted, and whether it held.
fn run_check(check: &Check) -> Result<(Sum, Result<()>)> {
    match check {
        Check::Tidy => Ok((Sum::default(), tidy::tidy())),
        Check::Cargo(arguments) => {
            let mut command = run::cargo();
            command
                .args(*arguments)
                .env("FAIRLEAD_AGENT", place::dist().join("fairlead-agent"));
            if io::stdout().is_terminal() {
                // Cargo and the test harness see a pipe below.
                command.env("CARGO_TERM_COLOR", "always");
            }
            stream(&mut command)
        }
    }
}

/// Runs a command, passes its standard output through and counts the tests in it.
fn stream(command: &mut Command) -> Result<(Sum, Result<()>)> {
    let shown = run::shown(command);
    anstream::println!("$ {shown}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{shown}: cannot be started"))?;
    let output = child.stdout.take().context("standard output is a pipe")?;
    let reader = thread::spawn(move || count(output, &mut io::stdout()));
    let status = child.wait().with_context(|| format!("{shown}: lost"))?;
    let sum = reader
        .join()
        .map_err(|_| anyhow!("{shown}: reading its output panicked"))?
        .with_context(|| format!("{shown}: its output cannot be passed on"))?;
    let held = if status.success() {
        Ok(())
    } else {
        Err(anyhow!("{shown}: {status}"))
    };
    Ok((sum, held))
}

/// Copies `from` to `to` line by line as they come and sums up the `test result:` lines.
fn count(from: impl Read, to: &mut impl Write) -> io::Result<Sum> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    let mut sum = Sum::default();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(sum);
        }
        to.write_all(&line)?;
        to.flush()?;
        sum = sum + Sum::of_line(&String::from_utf8_lossy(&line)).unwrap_or_default();
    }
}

fn is_root() -> Result<bool> {
    Ok(run::output(run::command("id").arg("-u"))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::count;
    use crate::test::outcome::Sum;

    #[test]
    fn output_is_passed_through_and_its_results_are_summed() {
        let output = "running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\n\
                      test result: FAILED. 3 passed; 1 failed; 4 ignored\nno newline at the end";
        let mut passed_on = Vec::new();
        let sum = count(output.as_bytes(), &mut passed_on).unwrap();
        assert_eq!(
            sum,
            Sum {
                passed: 5,
                failed: 1
            }
        );
        assert_eq!(String::from_utf8(passed_on).unwrap(), output);
    }
}
