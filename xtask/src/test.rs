//! `cargo xtask test`: sets up, builds, runs the lanes and sums up.
//!
//! A lane with no test executed fails, so that a suite that was skipped is not taken for one that
//! passed. Tests that failed are named in the sum; a few of real time and traffic are tried once
//! more alone, and one that passes then is named as flaky. The last line of the output is the sum
//! alone.

mod kernel;
mod lane;
mod outcome;

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use crate::build::{self, Profile};
use crate::{place, run, setup, tidy};
pub(crate) use kernel::kernel;
use lane::{Check, Lane};
use outcome::{Outcome, Results, Sum};

/// More failures than these are no matter of chance.
const TRIED_AGAIN: usize = 5;

/// Runs the lanes of these names, all of them for none.
pub(crate) fn test(names: &[String]) -> Result<ExitCode> {
    let lanes = lane::select(names)?;
    if lanes.iter().any(|lane| lane.needs_root()) {
        ensure!(
            is_root()?,
            "the lanes bpf, netns and chaos load eBPF programs and make network namespaces, which takes root; without it: cargo xtask test unit"
        );
    }
    let build = || {
        if lanes.iter().any(|lane| lane.needs_next()) {
            build::build_next()?;
        }
        build::build(Profile::Dev)
    };
    if let Err(error) = setup::setup().and_then(|()| build()) {
        anstream::eprintln!("xtask: {error:#}");
        anstream::println!("0 passed, 1 failed");
        return Ok(ExitCode::FAILURE);
    }
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
    let mut flaky = Vec::new();
    for check in lane.checks() {
        let (results, held) = run_check(check, lane.environment());
        let Err(error) = held else {
            sum = sum + results.sum;
            continue;
        };
        if lane.is_timed() && pass_alone(check, &results, lane.environment()) {
            sum = sum + results.all_passed();
            flaky.extend(results.failed);
            continue;
        }
        sum = sum + results.sum.of_failed_check();
        failures.push(format!("{error:#}"));
        failures.extend(results.failed);
    }
    for failure in &failures {
        anstream::eprintln!("{}: {failure}", lane.name());
    }
    Outcome::of(lane.name(), sum, failures, began.elapsed()).with_flaky(flaky)
}

/// Whether the few tests that failed pass one after another with nothing beside them.
fn pass_alone(check: &Check, results: &Results, environment: &[(&str, &str)]) -> bool {
    let Check::Cargo(arguments) = check else {
        return false;
    };
    let named = u32::try_from(results.failed.len()).ok() == Some(results.sum.failed);
    if !named || results.failed.is_empty() || results.failed.len() > TRIED_AGAIN {
        return false;
    }
    let failed: Vec<&str> = results.failed.iter().map(String::as_str).collect();
    anstream::println!("\n--- once more, alone: {}", failed.join(", "));
    let mut command = cargo(&[], arguments);
    command
        .envs(environment.iter().copied())
        .args(["--", "--test-threads", "1", "--exact"])
        .args(&failed);
    let (again, held) = stream(command, Stream::Stdout);
    held.is_ok() && again.sum.passed == results.sum.failed
}

/// What a check counted, and whether it held.
fn run_check(check: &Check, environment: &[(&str, &str)]) -> (Results, Result<()>) {
    match check {
        Check::Tidy => (Results::default(), tidy::tidy()),
        Check::Cargo(arguments) => {
            let mut command = cargo(&[], arguments);
            command.envs(environment.iter().copied());
            stream(command, Stream::Stdout)
        }
        Check::Tests(arguments) => {
            let has_nextest = run::output(run::cargo().args(["nextest", "--version"])).is_ok();
            if has_nextest {
                let run = ["nextest", "run", "--no-fail-fast"];
                stream(cargo(&run, arguments), Stream::Stderr)
            } else {
                stream(
                    cargo(&["test", "--no-fail-fast"], arguments),
                    Stream::Stdout,
                )
            }
        }
    }
}

fn cargo(task: &[&str], arguments: &[&str]) -> Command {
    let mut command = run::cargo();
    command
        .args(task)
        .args(arguments)
        .env("FAIRLEAD_AGENT", place::dist().join("fairlead-agent"))
        .env("FAIRLEAD_CNI", place::dist().join("fairlead-cni"))
        .env("FAIRLEAD_AGENT_NEXT", build::next_agent());
    if io::stdout().is_terminal() {
        // Cargo and the test harness see a pipe below.
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// Where a command writes the results of its tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs a command, passes the stream with its results through and reads them.
fn stream(mut command: Command, results: Stream) -> (Results, Result<()>) {
    let shown = run::shown(&command);
    anstream::println!("$ {shown}");
    match read_through(&mut command, results) {
        Ok((seen, status)) if status.success() => (seen, Ok(())),
        Ok((seen, status)) => (seen, Err(anyhow!("{shown}: {status}"))),
        Err(error) => (Results::default(), Err(error.context(shown))),
    }
}

fn read_through(command: &mut Command, results: Stream) -> Result<(Results, ExitStatus)> {
    match results {
        Stream::Stdout => command.stdout(Stdio::piped()),
        Stream::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().context("cannot be started")?;
    let seen = match results {
        Stream::Stdout => child
            .stdout
            .take()
            .map(|from| read(from, &mut io::stdout())),
        Stream::Stderr => child
            .stderr
            .take()
            .map(|from| read(from, &mut io::stderr())),
    };
    let status = child.wait().context("its end cannot be waited for")?;
    let seen = seen
        .context("the stream is a pipe")?
        .context("its output cannot be passed on")?;
    Ok((seen, status))
}

/// Copies `from` to `to` line by line as they come and reads the lines with results.
fn read(from: impl Read, to: &mut impl Write) -> io::Result<Results> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    let mut results = Results::default();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(results);
        }
        to.write_all(&line)?;
        to.flush()?;
        results.read_line(&String::from_utf8_lossy(&line));
    }
}

fn is_root() -> Result<bool> {
    Ok(run::output(run::command("id").arg("-u"))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::test::outcome::{Results, Sum};

    #[test]
    fn output_is_passed_through_and_its_results_are_summed() {
        let output = "running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\n\
                      test routes::heal ... FAILED\n\
                      test result: FAILED. 3 passed; 1 failed; 4 ignored\nno newline at the end";
        let mut passed_on = Vec::new();
        let results = read(output.as_bytes(), &mut passed_on).unwrap();
        let sum = Sum {
            passed: 5,
            failed: 1,
        };
        let failed = vec!["routes::heal".to_owned()];
        assert_eq!(results, Results { sum, failed });
        assert_eq!(String::from_utf8(passed_on).unwrap(), output);
    }
}
