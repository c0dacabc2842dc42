//! Which certificates a running HAProxy has, against those of its files. Pure.

use std::collections::BTreeSet;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_parser::pem::Pem as PemBlock;

use crate::apply::files::hexadecimal;
use crate::output::{Grammar, Rendered};

/// Names of certificates that the lists of a configuration serve.
pub fn served(rendered: &Rendered) -> Vec<String> {
    let text = |name: &str| {
        let file = rendered.files.get(name)?;
        Some(String::from_utf8_lossy(&file.content).into_owned())
    };
    let main = text(&rendered.main).unwrap_or_default();
    let mut words = main.split_whitespace();
    let mut lists = BTreeSet::new();
    while let Some(word) = words.next() {
        if word == "crt-list" {
            lists.extend(words.next());
        }
    }
    let lines = lists.into_iter().filter_map(text);
    let names: BTreeSet<String> = lines
        .flat_map(|list| {
            let firsts = list
                .lines()
                .filter_map(|line| line.split([' ', '[']).next());
            firsts.map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|name| {
            let file = rendered.files.get(name);
            file.is_some_and(|file| file.grammar == Grammar::Pem)
        })
        .collect();
    names.into_iter().collect()
}

/// Names of the answer to `show ssl cert`; a name with a star has a change that is not committed.
pub fn names(answer: &str) -> BTreeSet<&str> {
    let lines = answer.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '*']))
        .collect()
}

/// How the certificate of an answer to `show ssl cert NAME` differs from a file's.
pub fn difference(name: &str, answer: &str, rendered: &Rendered) -> Option<String> {
    let live = answer
        .lines()
        .find_map(|line| line.strip_prefix("SHA1 FingerPrint:"))?;
    let file = rendered.files.get(name)?;
    let mut blocks = PemBlock::iter_from_buffer(&file.content).filter_map(Result::ok);
    let leaf = blocks.find(|block| block.label == "CERTIFICATE")?;
    let meant = hexadecimal(digest(&SHA1_FOR_LEGACY_USE_ONLY, &leaf.contents).as_ref());
    let is_same = live.trim().replace(':', "").eq_ignore_ascii_case(&meant);
    (!is_same).then(|| format!("certificate {name} is another"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{difference, names, served};
    use crate::output::{File, Grammar, Rendered};

    #[test]
    fn served_certificates_are_those_of_lists() {
        let file = |content: &str, grammar| {
            Arc::new(File {
                content: content.as_bytes().to_vec(),
                grammar,
                is_private: false,
            })
        };
        let files = BTreeMap::from([
            (
                "main".to_owned(),
                file("bind :443 ssl crt-list a.list\n", Grammar::Haproxy),
            ),
            (
                "a.list".to_owned(),
                file("a.pem [verify required] a.example\nb.pem\n", Grammar::Map),
            ),
            ("a.pem".to_owned(), file("", Grammar::Pem)),
            ("b.pem".to_owned(), file("", Grammar::Pem)),
            ("ca.pem".to_owned(), file("", Grammar::Pem)),
        ]);
        let rendered = Rendered {
            files,
            main: "main".to_owned(),
            generation: None,
        };
        assert_eq!(served(&rendered), ["a.pem", "b.pem"]);
        let answer = "# transaction\n*b.pem\n# filename\na.pem\nb.pem\n";
        assert_eq!(
            names(answer).into_iter().collect::<Vec<_>>(),
            ["a.pem", "b.pem"]
        );
        // Nothing is said of what cannot be compared.
        assert_eq!(
            difference("a.pem", "SHA1 FingerPrint: 00\n", &rendered),
            None
        );
    }
}
