//! The shape of an output: its statements and their words, as its reader sees them.
//!
//! A template's shape is that of its output with a stand-in for each value. The output with the
//! values must have the same statements on the same lines with the same words, and a value must lie
//! within one word. A value that broke out of its word, by whatever way, changes that.

use std::borrow::Cow;

use crate::output::Grammar;

/// What values are printed as where only the shape counts: no template has it, no lexer reads it.
pub(crate) const STAND_IN: char = '\u{e000}';

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Line of its first word, from 1.
    pub line: usize,
    /// How many blocks it is in.
    pub depth: usize,
    /// Whether a block follows.
    pub opens: bool,
    /// Its words without quotes and escapes.
    pub words: Vec<Cow<'a, str>>,
}

/// Where two shapes differ, or where one cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ShapeError {
    /// Line of the output.
    pub line: usize,
    /// What was found, and what was expected.
    pub what: String,
}

impl ShapeError {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        Self {
            line,
            what: what.into(),
        }
    }
}

/// The statements of a text.
///
/// # Errors
/// [`ShapeError`] where the grammar's reader would give up.
pub fn statements(grammar: Grammar, text: &str) -> Result<Vec<Statement<'_>>, ShapeError> {
    match grammar {
        Grammar::Haproxy => crate::haproxy::shape::statements(text),
        Grammar::Nginx => crate::nginx::shape::statements(text),
        Grammar::Json => json(text),
        Grammar::Map | Grammar::Keepalived | Grammar::Plain | Grammar::Pem => Ok(lines(text)),
    }
}

/// Compares an output with its twin, which has [`STAND_IN`]s for values.
pub(crate) fn compare(grammar: Grammar, output: &str, twin: &str) -> Result<(), ShapeError> {
    let (found, expected) = (statements(grammar, output)?, statements(grammar, twin)?);
    for (found, expected) in found.iter().zip(&expected) {
        let is_same = found.line == expected.line
            && found.depth == expected.depth
            && found.opens == expected.opens
            && found.words.len() == expected.words.len();
        let words = || found.words.iter().zip(&expected.words);
        if !is_same || !words().all(|(word, pattern)| fits(word, pattern)) {
            return Err(ShapeError::new(
                found.line,
                format!(
                    "a value changed the statement `{}` (line {} of the template's own shape)",
                    shown(expected),
                    expected.line
                ),
            ));
        }
    }
    if found.len() == expected.len() {
        return Ok(());
    }
    let line = found.get(expected.len()).or(found.last());
    Err(ShapeError::new(
        line.map_or(0, |statement| statement.line),
        format!("{} statements in place of {}", found.len(), expected.len()),
    ))
}

/// A statement as a message has it: without values, which may be secrets.
fn shown(statement: &Statement<'_>) -> String {
    let words: Vec<String> = statement
        .words
        .iter()
        .take(6)
        .map(|word| word.replace(STAND_IN, "…"))
        .collect();
    words.join(" ")
}

/// Whether a word is its pattern with something in place of each stand-in.
fn fits(word: &str, pattern: &str) -> bool {
    let mut parts = pattern.split(STAND_IN);
    let Some(rest) = parts.next().and_then(|first| word.strip_prefix(first)) else {
        return false;
    };
    let mut rest = rest;
    let mut is_last_open = false;
    for part in parts {
        is_last_open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    // What follows the last stand-in must end the word; its first occurrence need not be its last.
    let end = pattern.rsplit(STAND_IN).next().unwrap_or_default();
    rest.is_empty() || is_last_open || (pattern.contains(STAND_IN) && rest.ends_with(end))
}

/// Words between blanks, a line a statement; double quotes keep blanks.
fn lines(text: &str) -> Vec<Statement<'_>> {
    let words = |line: &str| -> Vec<Cow<'static, str>> {
        let mut words = Vec::new();
        let mut word = String::new();
        let (mut is_quoted, mut is_word) = (false, false);
        for c in line.chars() {
            match c {
                '"' => (is_quoted, is_word) = (!is_quoted, true),
                ' ' | '\t' if !is_quoted => {
                    if is_word {
                        words.push(Cow::Owned(std::mem::take(&mut word)));
                    }
                    is_word = false;
                }
                _ => {
                    word.push(c);
                    is_word = true;
                }
            }
        }
        if is_word {
            words.push(Cow::Owned(word));
        }
        words
    };
    let statements = text.split('\n').enumerate().map(|(index, line)| Statement {
        line: index + 1,
        depth: 0,
        opens: false,
        words: words(line),
    });
    statements.filter(|line| !line.words.is_empty()).collect()
}

/// Every value of a JSON document, by its path; a path is as deep as its keys are many.
fn json(text: &str) -> Result<Vec<Statement<'_>>, ShapeError> {
    let document: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| ShapeError::new(error.line(), format!("not JSON: {error}")))?;
    let mut statements = Vec::new();
    let mut open = vec![(0, String::new(), &document)];
    while let Some((depth, key, value)) = open.pop() {
        let mut words = vec![Cow::Owned(key)];
        let mut opens = true;
        match value {
            serde_json::Value::Object(members) => {
                let members = members.iter().rev();
                open.extend(members.map(|(key, value)| (depth + 1, key.clone(), value)));
            }
            serde_json::Value::Array(items) => {
                let items = items.iter().rev();
                open.extend(items.map(|value| (depth + 1, "[]".to_owned(), value)));
            }
            serde_json::Value::String(text) => {
                opens = false;
                words.push(Cow::Owned(text.clone()));
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
                opens = false;
                words.push(Cow::Owned(value.to_string()));
            }
        }
        statements.push(Statement {
            line: 0,
            depth,
            opens,
            words,
        });
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{compare, fits, statements};
    use crate::output::Grammar;

    #[test]
    fn a_word_fits_with_values_in_it() {
        for (word, pattern, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("10.0.0.1:80", "\u{e000}", true),
            ("", "\u{e000}", true),
            ("str(a)", "str(\u{e000})", true),
            ("str(a)b)", "str(\u{e000})", true),
            ("str(a", "str(\u{e000})", false),
            ("a-b", "\u{e000}-\u{e000}", true),
            ("ab", "\u{e000}-\u{e000}", false),
        ] {
            assert_eq!(fits(word, pattern), expected, "{word} {pattern}");
        }
    }

    #[test]
    fn what_breaks_out_of_its_word_is_found() {
        for (grammar, twin, good, bad) in [
            (
                Grammar::Haproxy,
                "a \u{e000}\nb\n",
                "a v\nb\n",
                "a v w\nb\n",
            ),
            (
                Grammar::Haproxy,
                "a \u{e000}\nb\n",
                "a 'v w'\nb\n",
                "a v\nc\nb\n",
            ),
            (
                Grammar::Haproxy,
                "a # \u{e000}\nb\n",
                "a # v\nb\n",
                "a # v\n\nb\n",
            ),
            (Grammar::Nginx, "a \u{e000};", "a \"v;\";", "a v; b;"),
            (
                Grammar::Nginx,
                "a { b \u{e000}; }",
                "a { b v; }",
                "a { b v; } c { }",
            ),
            (Grammar::Nginx, "# \u{e000}\na;", "# v\na;", "# v\nb; a;"),
            (Grammar::Json, "[\"\u{e000}\"]", "[\"v\"]", "[\"v\",\"w\"]"),
            (Grammar::Map, "k \u{e000}\n", "k v\n", "k v w\n"),
        ] {
            assert_eq!(compare(grammar, good, twin), Ok(()), "{good}");
            assert!(compare(grammar, bad, twin).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn lexers_never_panic(text in "(?s).{0,200}") {
            for grammar in [Grammar::Haproxy, Grammar::Nginx, Grammar::Json, Grammar::Map] {
                let outcome = statements(grammar, &text);
                prop_assert!(outcome.is_ok() || outcome.is_err());
            }
        }

        #[test]
        fn lexers_never_panic_on_what_they_read(text in "[a'\"\\\\{};# \n$]{0,60}") {
            for grammar in [Grammar::Haproxy, Grammar::Nginx] {
                let outcome = statements(grammar, &text);
                prop_assert!(outcome.is_ok() || outcome.is_err());
            }
        }
    }
}
