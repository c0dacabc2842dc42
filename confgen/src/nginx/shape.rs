//! nginx's configuration as its reader sees it: words, quotes, `;` and blocks.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::edge::EdgePlan;
use crate::render::{ShapeError, Statement, check_listens};

/// Blocks within blocks; ours are at most four deep.
const MAX_DEPTH: usize = 64;

/// The directives of a configuration, blocks before what is in them.
///
/// # Errors
/// [`ShapeError`] where nginx would give up: at a quote or block that does not end, or begin.
pub fn statements(text: &str) -> Result<Vec<Statement<'_>>, ShapeError> {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
    };
    let mut statements = Vec::new();
    let mut depth = 0;
    let mut words = Vec::new();
    let mut start = 1;
    while let Some(token) = reader.next()? {
        match token {
            Token::Word(line, word) => {
                if words.is_empty() {
                    start = line;
                }
                words.push(word);
            }
            Token::End | Token::Open => {
                let opens = matches!(token, Token::Open);
                if words.is_empty() {
                    return Err(ShapeError::new(reader.line, "a directive without a name"));
                }
                statements.push(Statement {
                    line: start,
                    depth,
                    opens,
                    words: std::mem::take(&mut words),
                });
                depth += usize::from(opens);
                if depth > MAX_DEPTH {
                    return Err(ShapeError::new(reader.line, "blocks are too deep"));
                }
            }
            Token::Close if words.is_empty() && depth > 0 => depth -= 1,
            Token::Close => return Err(ShapeError::new(reader.line, "an unexpected `}`")),
        }
    }
    if depth > 0 || !words.is_empty() {
        return Err(ShapeError::new(reader.line, "an unexpected end"));
    }
    Ok(statements)
}

enum Token<'a> {
    Word(usize, Cow<'a, str>),
    End,
    Open,
    Close,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, c: char) {
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, ShapeError> {
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Ok(None);
            };
            let token = match c {
                ' ' | '\t' | '\r' | '\n' => {
                    self.skip(c);
                    continue;
                }
                '#' => {
                    let comment = self.rest();
                    self.at += comment.find('\n').unwrap_or(comment.len());
                    continue;
                }
                ';' => Token::End,
                '{' => Token::Open,
                '}' => Token::Close,
                '"' | '\'' => return self.quoted(c).map(Some),
                _ => return Ok(Some(self.bare())),
            };
            self.skip(c);
            return Ok(Some(token));
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token<'a>, ShapeError> {
        let line = self.line;
        self.skip(quote);
        let mut word = String::new();
        loop {
            let mut rest = self.rest().chars();
            let Some(c) = rest.next() else {
                return Err(ShapeError::new(line, "a quote does not end"));
            };
            self.skip(c);
            if c == quote {
                break;
            }
            match (c, rest.next()) {
                ('\\', Some(escaped)) => {
                    self.skip(escaped);
                    match escaped {
                        '"' | '\'' | '\\' => word.push(escaped),
                        _ => word.extend(['\\', escaped]),
                    }
                }
                _ => word.push(c),
            }
        }
        // nginx wants a blank, `;`, `{` or `)` behind a quoted word.
        match self.rest().chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => {
                Ok(Token::Word(line, Cow::Owned(word)))
            }
            Some(c) => Err(ShapeError::new(line, format!("{c:?} behind a quoted word"))),
        }
    }

    fn bare(&mut self) -> Token<'a> {
        let (line, start) = (self.line, self.at);
        let mut is_variable = false;
        while let Some(c) = self.rest().chars().next() {
            match c {
                // `${name}` is no block.
                '{' if is_variable => {}
                ' ' | '\t' | '\r' | '\n' | ';' | '{' => break,
                '\\' => {
                    self.skip(c);
                    let Some(escaped) = self.rest().chars().next() else {
                        break;
                    };
                    self.skip(escaped);
                    is_variable = false;
                    continue;
                }
                _ => {}
            }
            is_variable = c == '$';
            self.skip(c);
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        Token::Word(line, Cow::Borrowed(word))
    }
}

/// Compares a configuration with the plan it was made of: what is listened on, and which servers
/// upstreams have.
pub(super) fn check(plan: &EdgePlan, text: &str) -> Result<(), ShapeError> {
    let statements = statements(text)?;
    let mut listens = BTreeSet::new();
    let mut upstreams: BTreeMap<(usize, &str), Vec<&str>> = BTreeMap::new();
    let (mut block, mut part) = (0, None);
    for statement in &statements {
        let word = |index: usize| statement.words.get(index).map_or("", |word| &**word);
        match (statement.depth, statement.opens, word(0)) {
            (0, true, "events" | "http" | "stream") => block += 1,
            (0, true, name) => {
                let what = format!("a block {name}, which no template of ours has");
                return Err(ShapeError::new(statement.line, what));
            }
            (1, true, kind) => {
                part = (kind == "upstream").then(|| word(1));
                if let Some(name) = part {
                    upstreams.insert((block, name), Vec::new());
                }
            }
            (2, false, "server") => {
                let servers = part.and_then(|name| upstreams.get_mut(&(block, name)));
                let wrong = || ShapeError::new(statement.line, "a server outside an upstream");
                servers.ok_or_else(wrong)?.push(word(1));
            }
            (_, _, "listen") if !word(1).starts_with("unix:") => {
                listens.insert(word(1));
            }
            (_, _, "include" | "load_module") if statement.depth > 0 => {
                let what = "an include, which no template of ours has";
                return Err(ShapeError::new(statement.line, what));
            }
            _ => {}
        }
    }
    let expected = plan.listeners.keys();
    check_listens(&listens, expected.map(|listen| listen.to_string()))?;
    let names: BTreeMap<&str, usize> = plan
        .backends
        .iter()
        .map(|(id, backend)| (id.as_str(), backend.servers.len()))
        .collect();
    for ((_, name), servers) in upstreams {
        // One of our own answers for a backend without servers.
        let expected = names.get(name).copied().unwrap_or_default().max(1);
        if servers.len() != expected {
            let what = format!("{} servers of {name} in place of {expected}", servers.len());
            return Err(ShapeError::new(0, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn words_are_as_nginx_reads_them() {
        for (line, expected) in [
            ("a b;", vec!["a", "b"]),
            (r#"a "b; }" c;"#, vec!["a", "b; }", "c"]),
            (r#"a "b\"\\\d";"#, vec!["a", r#"b"\\d"#]),
            ("a b#c;", vec!["a", "b#c"]),
            ("# x\na;", vec!["a"]),
            ("a ${b}c;", vec!["a", "${b}c"]),
        ] {
            let found = statements(line).expect(line);
            let words: Vec<&str> = found[0].words.iter().map(|word| &**word).collect();
            assert_eq!(words, expected, "{line}");
        }
        for bad in ["a", "a {", "}", ";", "a \"b", "a \"b\"c;", "a {{ b; }"] {
            assert!(statements(bad).is_err(), "{bad}");
        }
        let depths: Vec<usize> = statements("a { b { c; } } d;")
            .expect("statements")
            .iter()
            .map(|statement| statement.depth)
            .collect();
        assert_eq!(depths, [0, 1, 2, 0]);
    }
}
