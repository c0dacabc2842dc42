//! HAProxy's configuration as its reader sees it: words, quotes and escapes ("2.2. Quoting and
//! escaping"), and the sections they are in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::edge::EdgePlan;
use crate::render::{ShapeError, Statement, check_listens};

const SECTIONS: [&str; 14] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "mailers",
    "resolvers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "fcgi-app",
];

/// The lines of a configuration that say something.
///
/// # Errors
/// [`ShapeError`] at a quote that does not end.
pub fn statements(text: &str) -> Result<Vec<Statement<'_>>, ShapeError> {
    each(text).collect()
}

/// [`statements`], one at a time: those of ten thousand hosts take 30 MiB.
fn each(text: &str) -> impl Iterator<Item = Result<Statement<'_>, ShapeError>> {
    text.split('\n').enumerate().filter_map(|(index, line)| {
        let words = match words(line) {
            Ok(words) => words,
            Err(what) => return Some(Err(ShapeError::new(index + 1, what))),
        };
        let opens = SECTIONS.contains(&&**words.first()?);
        Some(Ok(Statement {
            line: index + 1,
            depth: usize::from(!opens),
            opens,
            words,
        }))
    })
}

fn words(line: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let is_plain = |c: char| !matches!(c, '\'' | '"' | '\\' | '#' | '\r');
    if line.chars().all(is_plain) {
        let words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        return Ok(words.map(Cow::Borrowed).collect());
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\r' => words.extend(word.take().map(Cow::Owned)),
            '#' => break,
            '\\' => {
                let next = rest.next().ok_or("the line ends in a backslash")?;
                let word = word.get_or_insert_default();
                // Before anything else the backslash is itself.
                if !matches!(next, ' ' | '\\' | '#' | '"' | '\'' | 'n' | 'r' | 't' | 'x') {
                    word.push('\\');
                }
                word.push(next);
            }
            '\'' => quoted(&mut rest, c, false, word.get_or_insert_default())?,
            '"' => quoted(&mut rest, c, true, word.get_or_insert_default())?,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.map(Cow::Owned));
    Ok(words)
}

fn quoted(
    rest: &mut std::str::Chars<'_>,
    end: char,
    escapes: bool,
    word: &mut String,
) -> Result<(), &'static str> {
    loop {
        match rest.next() {
            None => return Err("a quote does not end"),
            Some(c) if c == end => return Ok(()),
            Some('\\') if escapes => word.extend(rest.next()),
            Some(c) => word.push(c),
        }
    }
}

/// What follows `server NAME` of each server, by section: what `add server` takes too.
pub fn servers(configuration: &str) -> BTreeMap<&str, BTreeMap<&str, &str>> {
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut section = None;
    for line in configuration.lines() {
        if let Some(name) = line.strip_prefix("backend ") {
            sections.insert(name, BTreeMap::new());
            section = Some(name);
        } else if let Some((name, arguments)) = line
            .strip_prefix("    server ")
            .and_then(|rest| rest.split_once(' '))
        {
            let servers = section.and_then(|section| sections.get_mut(section));
            if let Some(servers) = servers {
                servers.insert(name, arguments);
            }
        }
    }
    sections
}

/// Compares a configuration with the plan it was made of: what is listened on, which servers there
/// are, and where.
pub(super) fn check(plan: &EdgePlan, text: &str) -> Result<(), ShapeError> {
    let mut listens = BTreeSet::new();
    let mut servers = Servers::new();
    let (mut kind, mut section) = (Cow::Borrowed(""), Cow::Borrowed(""));
    for statement in each(text) {
        let Statement {
            line, opens, words, ..
        } = statement?;
        let mut words = words.into_iter();
        let (first, second) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if opens {
            (kind, section) = (first.clone(), second.clone());
            let is_ours = matches!(
                &*kind,
                "global" | "defaults" | "frontend" | "backend" | "userlist"
            );
            if !is_ours {
                let what = format!("a section {kind}, which no template of ours has");
                return Err(ShapeError::new(line, what));
            }
            if kind == "backend" && servers.insert(section.clone(), Vec::new()).is_some() {
                return Err(ShapeError::new(line, format!("two sections {section}")));
            }
        }
        match (&*kind, &*first) {
            // Between frontends of our own.
            ("frontend", "bind") if second.starts_with("unix@") => {}
            ("frontend", "bind") => {
                listens.insert(second);
            }
            ("backend", "server") => servers.entry(section.clone()).or_default().push(second),
            (_, "server" | "bind" | "server-template") => {
                let what = format!("{first} in a section {kind}");
                return Err(ShapeError::new(line, what));
            }
            _ => {}
        }
    }
    let expected = plan.listeners.keys();
    let listens = listens.iter().map(|address| &**address).collect();
    check_listens(&listens, expected.map(|listen| listen.to_string()))?;
    check_servers(plan, &servers)
}

/// Names of servers, by section.
pub(super) type Servers<'a> = BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>;

/// Whether sections have their backends' servers.
pub(super) fn check_servers(plan: &EdgePlan, sections: &Servers<'_>) -> Result<(), ShapeError> {
    for (section, found) in sections {
        let backend = section.trim_end_matches("__tcp").trim_end_matches("__http");
        let backend = plan.backends.get(backend);
        let expected = backend.map_or(&[][..], |backend| &backend.servers);
        let names = expected.iter().map(|server| server.name.as_str());
        let is_all = found.iter().map(|name| &**name).eq(names);
        // Sections of our own have none, or the socket of another frontend.
        let is_ours =
            found.is_empty() || (expected.is_empty() && found == &[Cow::Borrowed("loopback")]);
        if !is_all && !is_ours {
            let what = format!("servers of {section} are not the plan's");
            return Err(ShapeError::new(0, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{servers, statements};

    #[test]
    fn words_are_as_haproxy_reads_them() {
        for (line, expected) in [
            ("a b", vec!["a", "b"]),
            (r"a 'b c' \ d \.", vec!["a", "b c", " d", r"\."]),
            (r#"a "b \" c"d"#, vec!["a", "b \" cd"]),
            (r"a 'it'\''s'", vec!["a", "it's"]),
            (r"a ''", vec!["a", ""]),
            ("a # b", vec!["a"]),
            ("a b#c", vec!["a", "b"]),
        ] {
            let found = statements(line).expect("statements");
            let words: Vec<&str> = found[0].words.iter().map(|word| &**word).collect();
            assert_eq!(words, expected, "{line}");
        }
        assert!(statements("a 'b").is_err());
        assert!(statements("a \\").is_err());
    }

    #[test]
    fn servers_are_told_with_their_arguments() {
        let text = "backend b\n    server s 10.0.0.1:80 weight 1\nbackend c\n";
        let found = servers(text);
        assert_eq!(found["b"]["s"], "10.0.0.1:80 weight 1");
        assert!(found["c"].is_empty());
    }
}
