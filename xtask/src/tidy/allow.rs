//! The exceptions: lines `RULE PATH: REASON`. The rule `*` is any; a path ending in `/` stands
//! for all below it.

use std::fs;

use anyhow::{Context, Result, bail};

use super::Breach;
use crate::place;

pub(super) const PATH: &str = "xtask/tidy.allow";

/// The list of exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    line: usize,
    rule: String,
    path: String,
}

/// Reads the list.
pub(super) fn read() -> Result<Allowed> {
    let text = fs::read_to_string(place::root().join(PATH))
        .with_context(|| format!("{PATH}: cannot be read"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Allowed> {
    let mut exceptions = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let parts = line
            .split_once(' ')
            .and_then(|(rule, rest)| Some((rule, rest.split_once(": ")?)));
        let Some((rule, (path, reason))) = parts else {
            bail!("{PATH}:{number}: expected RULE PATH: REASON");
        };
        if reason.split_whitespace().count() < 3 {
            bail!("{PATH}:{number}: a reason is a sentence");
        }
        exceptions.push(Exception {
            line: number,
            rule: rule.to_owned(),
            path: path.to_owned(),
        });
    }
    Ok(Allowed(exceptions))
}

impl Exception {
    fn covers(&self, breach: &Breach) -> bool {
        (self.rule == breach.rule || self.rule == "*")
            && (self.path == breach.path
                || (self.path.ends_with('/') && breach.path.starts_with(&self.path)))
    }
}

impl Allowed {
    /// The breaches that are no exceptions, and the exceptions that no breach needs.
    pub(super) fn filter(&self, breaches: Vec<Breach>) -> Result<Vec<Breach>> {
        let unused = self
            .0
            .iter()
            .filter(|exception| !breaches.iter().any(|breach| exception.covers(breach)));
        let unused: Vec<Breach> = unused
            .map(|exception| Breach {
                path: PATH.to_owned(),
                line: exception.line,
                rule: "unused-exception",
                message: format!("nothing in {} breaks {}", exception.path, exception.rule),
            })
            .collect();
        let mut left: Vec<Breach> = breaches
            .into_iter()
            .filter(|breach| !self.0.iter().any(|exception| exception.covers(breach)))
            .collect();
        left.extend(unused);
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::tidy::Breach;

    fn breach(path: &str, rule: &'static str) -> Breach {
        Breach {
            path: path.to_owned(),
            line: 7,
            rule,
            message: "as it is".to_owned(),
        }
    }

    #[test]
    fn an_exception_covers_its_rule_below_its_path() {
        let allowed = parse(
            "# comment\n\nword a/b.rs: the list of words\ncommand tests/: starts what it tests\n",
        )
        .unwrap();
        let left = allowed
            .filter(vec![
                breach("a/b.rs", "word"),
                breach("a/b.rs", "command"),
                breach("a/b.rs.rs", "word"),
                breach("tests/x.rs", "command"),
            ])
            .unwrap();
        assert_eq!(
            left,
            [breach("a/b.rs", "command"), breach("a/b.rs.rs", "word")]
        );
    }

    #[test]
    fn an_unused_exception_is_a_breach() {
        let left = parse("word a.rs: it was needed")
            .unwrap()
            .filter(Vec::new())
            .unwrap();
        let shown: Vec<String> = left.iter().map(Breach::to_string).collect();
        assert_eq!(
            shown,
            ["xtask/tidy.allow:1: unused-exception: nothing in a.rs breaks word"]
        );
    }

    #[test]
    fn an_exception_without_a_reason_is_an_error() {
        for text in ["word a.rs", "word a.rs: ok", "word: a reason of words"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
