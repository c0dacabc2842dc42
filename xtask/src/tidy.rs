//! `cargo xtask tidy`: the rules of this repository that no compiler checks.
//!
//! Also an ordinary test, so that `cargo test` finds a breach. An exception stands in
//! xtask/tidy.allow with its reason, see [`allow`]; one that is no longer used is a breach itself.

mod allow;
mod files;
mod flags;
mod graph;
mod lines;
mod scopes;

use std::fmt;

use anyhow::{Result, ensure};

/// One place that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    path: String,
    /// From 1; 0 for a file as a whole.
    line: usize,
    rule: &'static str,
    message: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            message,
        } = self;
        match line {
            0 => write!(formatter, "{path}: {rule}: {message}"),
            _ => write!(formatter, "{path}:{line}: {rule}: {message}"),
        }
    }
}

/// Checks every rule and prints what breaks one.
pub(crate) fn tidy() -> Result<()> {
    let files = files::read()?;
    for file in files.iter().filter(|file| file.is_long()) {
        anstream::eprintln!(
            "warning: {}: {} lines; think of splitting it",
            file.path,
            file.lines()
        );
    }
    let breaches = breaches(&files)?;
    for breach in &breaches {
        anstream::eprintln!("{breach}");
    }
    ensure!(
        breaches.is_empty(),
        "tidy: {} places break a rule; an exception takes a line with its reason in {}",
        breaches.len(),
        allow::PATH
    );
    anstream::println!("tidy: {} files keep the rules", files.len());
    Ok(())
}

fn breaches(files: &[files::File]) -> Result<Vec<Breach>> {
    let mut breaches = graph::check()?;
    breaches.extend(flags::check(files));
    for file in files {
        breaches.extend(file.check());
        breaches.extend(lines::check(&file.path, &file.text));
        breaches.extend(scopes::check(&file.path, &file.text));
    }
    breaches.sort();
    allow::read()?.filter(breaches)
}

/// Compares what was found in a file with the lines and rules that are expected.
#[cfg(test)]
#[track_caller]
fn expect_breaches(found: &[Breach], path: &str, text: &str, expected: &[(usize, &str)]) {
    let shown: Vec<(usize, &str)> = found
        .iter()
        .map(|breach| (breach.line, breach.rule))
        .collect();
    assert_eq!(shown, expected, "{path}: {text}");
}

#[cfg(test)]
mod tests {
    use super::{Breach, breaches, files};

    #[test]
    fn this_repository_keeps_its_rules() {
        let breaches = breaches(&files::read().unwrap()).unwrap();
        let shown: Vec<String> = breaches.iter().map(Breach::to_string).collect();
        assert!(shown.is_empty(), "{}", shown.join("\n"));
    }
}
