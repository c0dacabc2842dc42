//! Findings for people, for machines, and as a page.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::checks::CHECKS;
use super::finding::{Finding, Verdict};
use crate::control::table::table as aligned;

/// All findings, the worst first; what `--output json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// How many there are of each verdict.
    pub summary: Summary,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// How many there are of each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Something does not work, or will not.
    pub failures: usize,
    /// Something may not work.
    pub warnings: usize,
    /// What is needed to know could not be read.
    pub could_not_tell: usize,
    /// As it should be.
    pub ok: usize,
    /// There is nothing of the kind.
    pub not_applicable: usize,
}

impl Report {
    /// A report of findings.
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.verdict);
        let count = |verdict| {
            findings
                .iter()
                .filter(|found| found.verdict == verdict)
                .count()
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: Summary {
                failures: count(Verdict::Failure),
                warnings: count(Verdict::Warning),
                could_not_tell: count(Verdict::CouldNotTell),
                ok: count(Verdict::Ok),
                not_applicable: count(Verdict::NotApplicable),
            },
            findings,
        }
    }

    /// How many there are of a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let findings = self.findings.iter();
        findings.filter(|found| found.verdict == verdict).count()
    }
}

/// For people: what is wrong with what to do, then the rest, then one line.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let is_wrong = |found: &&Finding| found.remedy.is_some();
    for found in report.findings.iter().filter(is_wrong) {
        let Finding {
            check,
            verdict,
            found,
            affects,
            remedy,
        } = found;
        writeln_to(
            &mut text,
            &format!("{}  {check}: {found}", verdict.as_str()),
        );
        for (name, line) in [("affects", affects), ("remedy", remedy)] {
            if let Some(line) = line {
                writeln_to(&mut text, &format!("         {name:<8} {line}"));
            }
        }
        text.push('\n');
    }
    let others = report.findings.iter().filter(|found| !is_wrong(found));
    let rows: Vec<Vec<String>> = others
        .map(|found| {
            let verdict = found.verdict.as_str().to_owned();
            vec![verdict, found.check.clone(), found.found.clone()]
        })
        .collect();
    if !rows.is_empty() {
        text += &aligned(&["VERDICT", "CHECK", "FOUND"], rows);
        text.push('\n');
    }
    let Summary {
        failures,
        warnings,
        could_not_tell,
        ok,
        not_applicable,
    } = report.summary;
    writeln_to(
        &mut text,
        &format!(
            "{failures} failures, {warnings} warnings, {could_not_tell} could not tell, {ok} ok, \
             {not_applicable} not applicable"
        ),
    );
    text
}

/// The names of the checks with what they look at.
pub fn list() -> String {
    let rows = CHECKS.iter();
    let rows = rows.map(|check| vec![check.name.to_owned(), check.looks_at.to_owned()]);
    aligned(&["CHECK", "LOOKS AT"], rows)
}

fn writeln_to(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("invariant: writing to a String does not fail");
}
