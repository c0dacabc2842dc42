//! How the certificates became others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::Command;
use super::maps::Uses;
use crate::edge::value::Pem;
use crate::output::{File, Grammar};

/// Commands, those that add before those that take away.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    pub(super) additions: Vec<Command>,
    pub(super) removals: Vec<Command>,
    /// What commands cannot do.
    pub(super) reloads: Vec<String>,
}

type Files = BTreeMap<String, Arc<File>>;

/// What makes the certificates of `old` those of `new`.
pub(super) fn changes(old: &Files, new: &Files, uses: &Uses) -> Certificates {
    let mut found = Certificates::default();
    let (before, after) = (served(old, uses), served(new, uses));
    let (known, asked) = (authorities(old, uses), authorities(new, uses));
    let news = asked.difference(&known);
    found
        .reloads
        .extend(news.map(|name| format!("authorities {name} are new, which a start reads")));
    for (name, file) in pems(new) {
        let pem = Pem::new(file.content.as_slice().into());
        match old.get(name) {
            Some(was) if was.content == file.content => {}
            Some(_) if uses.authorities.contains(name) || asked.contains(name.as_str()) => {
                found.reloads.push(format!("authorities {name} changed"));
            }
            Some(_) => found.additions.push(Command::SetCertificate {
                name: name.clone(),
                pem,
            }),
            None if after.contains(name.as_str()) => {
                found.additions.push(Command::NewCertificate {
                    name: name.clone(),
                    pem,
                });
            }
            None => {}
        }
    }
    for list in &uses.lists {
        let (Some(old), Some(new)) = (text(old, list), text(new, list)) else {
            continue;
        };
        list_changes(list, &lines(old), &lines(new), &mut found);
    }
    let gone = before.difference(&after).map(|name| (*name).to_owned());
    found.removals.extend(gone.map(Command::DeleteCertificate));
    found
}

fn list_changes(list: &str, old: &[&str], new: &[&str], found: &mut Certificates) {
    if old == new {
        return;
    }
    if old.first() != new.first() {
        found
            .reloads
            .push(format!("{list}: another default certificate"));
        return;
    }
    let by_certificate = |lines: &[&'_ str]| -> BTreeMap<String, String> {
        let pair = |line: &&str| (certificate(line).to_owned(), (*line).to_owned());
        lines.iter().map(pair).collect()
    };
    let (before, after) = (by_certificate(old), by_certificate(new));
    if before.len() < old.len() || after.len() < new.len() {
        found
            .reloads
            .push(format!("{list}: a certificate is there twice"));
        return;
    }
    for line in new {
        match before.get(certificate(line)) {
            Some(was) if was == line => {}
            // Between taking a line away and adding it, its hosts would get the default certificate.
            Some(_) => found
                .reloads
                .push(format!("{list}: other names of one certificate")),
            None => found.additions.push(Command::AddToList {
                list: list.to_owned(),
                line: (*line).to_owned(),
            }),
        }
    }
    let gone = old
        .iter()
        .filter(|line| !after.contains_key(certificate(line)));
    found
        .removals
        .extend(gone.map(|line| Command::RemoveFromList {
            list: list.to_owned(),
            certificate: certificate(line).to_owned(),
        }));
}

fn pems(files: &Files) -> impl Iterator<Item = (&String, &Arc<File>)> {
    files
        .iter()
        .filter(|(_, file)| file.grammar == Grammar::Pem)
}

/// The files that any line's options name: authorities, and revocations.
fn authorities<'a>(files: &'a Files, uses: &Uses) -> BTreeSet<&'a str> {
    let texts = uses.lists.iter().filter_map(|list| text(files, list));
    let options = texts.flat_map(lines).filter_map(options);
    let mut found = BTreeSet::new();
    for options in options {
        let mut words = options.split_whitespace();
        while let Some(word) = words.next() {
            if matches!(word, "ca-file" | "ca-verify-file" | "crl-file") {
                found.extend(words.next());
            }
        }
    }
    found
}

/// The certificates that any list serves.
fn served<'a>(files: &'a Files, uses: &Uses) -> BTreeSet<&'a str> {
    let texts = uses.lists.iter().filter_map(|list| text(files, list));
    texts.flat_map(lines).map(certificate).collect()
}

fn text<'a>(files: &'a Files, name: &str) -> Option<&'a str> {
    std::str::from_utf8(&files.get(name)?.content).ok()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

fn certificate(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// What stands in brackets.
pub(in crate::haproxy) fn options(line: &str) -> Option<&str> {
    let (_, options) = line.split_once('[')?;
    options.split_once(']').map(|(options, _)| options)
}
