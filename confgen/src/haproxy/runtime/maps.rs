//! How a map's file became another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::Command;

/// Above this many single commands, the map is replaced as a whole, so that nobody sees half of it.
const MAX_SINGLE_CHANGES: usize = 200;

/// How a configuration uses its other files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// Maps, and whether the order of their entries matters.
    pub(super) maps: BTreeMap<String, bool>,
    /// Lists of certificates.
    pub(super) lists: BTreeSet<String>,
    /// Authorities and revocations, which a `set ssl cert` does not change.
    pub(super) authorities: BTreeSet<String>,
}

impl Uses {
    pub(super) fn of(text: &str) -> Self {
        let mut uses = Self::default();
        for line in text.lines() {
            let mut rest = line;
            while let Some(at) = rest.find("map") {
                let call = rest.get(at..).unwrap_or_default();
                rest = call.get("map".len()..).unwrap_or_default();
                let Some((converter, arguments)) = call.split_once('(') else {
                    break;
                };
                let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                if !converter.bytes().all(is_name) {
                    continue;
                }
                let file = arguments
                    .split([',', ')'])
                    .next()
                    .unwrap_or_default()
                    .trim();
                *uses.maps.entry(file.to_owned()).or_default() |= is_ordered(converter);
            }
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                let files = match word {
                    "crt-list" => &mut uses.lists,
                    "ca-file" | "crl-file" | "ca-verify-file" => &mut uses.authorities,
                    _ => continue,
                };
                files.extend(words.next().map(str::to_owned));
            }
        }
        uses
    }
}

/// Exact and prefix maps are trees; the first entry that fits counts in every other one.
fn is_ordered(converter: &str) -> bool {
    !matches!(
        converter.split('_').nth(1),
        None | Some("str" | "beg" | "int" | "ip")
    )
}

/// The entries of a map's file, in order.
pub(super) fn entries(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            (key, value.trim())
        })
        .collect()
}

/// The maps that a configuration uses, with the entries that a running HAProxy should have, for
/// comparing with [`super::entries_of_map`].
pub fn expected_entries(
    config: &str,
    files: &BTreeMap<String, Arc<crate::output::File>>,
) -> BTreeMap<String, Vec<(String, String)>> {
    let uses = Uses::of(config);
    let maps = uses.maps.into_keys().filter_map(|map| {
        let text = std::str::from_utf8(&files.get(&map)?.content).ok()?;
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Some((map, entries(text).into_iter().map(owned).collect()))
    });
    maps.collect()
}

/// What makes `old` into `new`.
pub(super) fn changes(map: &str, old: &str, new: &str, is_ordered: bool) -> Vec<Command> {
    let (old, new) = (entries(old), entries(new));
    if old == new {
        return Vec::new();
    }
    let replace = || {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        vec![Command::ReplaceMap {
            map: map.to_owned(),
            entries: new.iter().map(owned).collect(),
        }]
    };
    let before: BTreeMap<&str, &str> = old.iter().copied().collect();
    let after: BTreeMap<&str, &str> = new.iter().copied().collect();
    // A command about a key that is there twice is about both.
    if before.len() < old.len() || after.len() < new.len() {
        return replace();
    }
    // Commands keep the order of what stays, and append.
    let kept = old.iter().filter(|(key, _)| after.contains_key(key));
    let added = new.iter().filter(|(key, _)| !before.contains_key(key));
    let order = kept.chain(added).map(|(key, _)| *key);
    if is_ordered && !order.eq(new.iter().map(|(key, _)| *key)) {
        return replace();
    }
    let mut commands = Vec::new();
    let map = || map.to_owned();
    for (key, value) in &new {
        let (key, value) = ((*key).to_owned(), (*value).to_owned());
        match before.get(key.as_str()) {
            Some(was) if *was == value => {}
            // `set map` takes one word.
            Some(_) if value.is_empty() || value.contains([' ', '\t']) => return replace(),
            Some(_) => commands.push(Command::SetEntry {
                map: map(),
                key,
                value,
            }),
            None => commands.push(Command::AddEntry {
                map: map(),
                key,
                value,
            }),
        }
    }
    let gone = old.iter().filter(|(key, _)| !after.contains_key(key));
    commands.extend(gone.map(|(key, _)| Command::DeleteEntry {
        map: map(),
        key: (*key).to_owned(),
    }));
    if commands.len() > MAX_SINGLE_CHANGES {
        return replace();
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::{Uses, changes};

    #[test]
    fn files_are_known_by_their_use() {
        let uses = Uses::of(
            "bind :443 ssl crt-list certs.list ca-file ca.pem\n\
             use_backend %[req.hdr(host),lower,map_str(hosts.map,x)] if { path,map_reg(p.map) -m found }\n\
             http-request set-var(txn.m) base,map_beg(b.map)\n",
        );
        let maps: Vec<_> = uses.maps.into_iter().collect();
        let expected = [("b.map", false), ("hosts.map", false), ("p.map", true)];
        assert_eq!(maps, expected.map(|(name, is)| (name.to_owned(), is)));
        assert!(uses.lists.contains("certs.list"));
        assert!(uses.authorities.contains("ca.pem"));
    }

    #[track_caller]
    fn check(old: &str, new: &str, is_ordered: bool, expected: &[&str]) {
        let found: Vec<String> = changes("m", old, new, is_ordered)
            .iter()
            .map(|command| match format!("{command:?}") {
                text if text.starts_with("Replace") => "replace".to_owned(),
                text => text.replace("map: \"m\", ", "").replace("Entry", ""),
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn entries_change_one_by_one_where_their_order_stays() {
        check("a 1\nb 2\n", "# x\na 1\nb 2", true, &[]);
        let set_and_deleted = [
            "Set { key: \"b\", value: \"3\" }",
            "Add { key: \"c\", value: \"4\" }",
            "Delete { key: \"a\" }",
        ];
        check("a 1\nb 2\n", "b 3\nc 4\n", true, &set_and_deleted);
        let added = ["Add { key: \"a\", value: \"1\" }"];
        check("b 2\n", "a 1\nb 2\n", false, &added);
        check("b 2\n", "a 1\nb 2\n", true, &["replace"]);
        check("b 2\nb 3\n", "b 2\n", false, &["replace"]);
        let many: String = (0..300).map(|n| format!("k{n} 1\n")).collect();
        check("", &many, false, &["replace"]);
    }
}
