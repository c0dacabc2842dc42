//! Files beside the configuration: maps, lists, certificates.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::view::Files;
use crate::edge::Certificate;
use crate::edge::value::Id;
use crate::output::{File, Grammar};
use crate::render::sha256_hex;

impl Files {
    /// A map file, whose content changes at runtime; it is there even if it is empty.
    pub(super) fn add_map(&mut self, name: &str, entries: &BTreeMap<String, String>) {
        let mut text = String::with_capacity(entries.len() * 64);
        for (key, value) in entries {
            // Keys and values are checked where they are made; a blank would end the key.
            debug_assert!(!key.contains(char::is_whitespace) && !key.starts_with('#'));
            text.push_str(key);
            text.push(' ');
            text.push_str(value);
            text.push('\n');
        }
        self.insert(name.to_owned(), text.into_bytes(), Grammar::Map, false);
    }

    /// A list of patterns, named by its content: it changes with a reload alone.
    pub(super) fn add_list(&mut self, kind: &str, lines: &[String], is_private: bool) -> String {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let name = format!("lists/{kind}_{}.lst", short_hash(text.as_bytes()));
        self.insert(name.clone(), text.into_bytes(), Grammar::Map, is_private);
        name
    }

    /// Certificates with their key, named by the hash of their content.
    pub(super) fn add_pem(&mut self, id: &Id, certificate: &Certificate) -> String {
        let name = format!("certificates/{id}.pem");
        if !self.0.contains_key(&name) {
            let mut content = certificate.chain.reveal().to_vec();
            if let Some(key) = &certificate.key {
                if !content.ends_with(b"\n") {
                    content.push(b'\n');
                }
                content.extend_from_slice(key.reveal());
            }
            self.insert(name.clone(), content, Grammar::Pem, true);
        }
        name
    }

    /// Authorities alone.
    pub(super) fn add_authorities(&mut self, id: &Id, certificate: &Certificate) -> String {
        let name = format!("certificates/{id}.ca.pem");
        let content = certificate.chain.reveal().to_vec();
        self.insert(name.clone(), content, Grammar::Pem, true);
        name
    }

    /// The list of a listener's certificates.
    pub(super) fn add_certificate_list(&mut self, name: &str, lines: &[CertificateLine]) {
        let mut text = String::new();
        for line in lines {
            let CertificateLine {
                file,
                authorities,
                is_required,
                filter,
            } = line;
            text.push_str(file);
            if let Some(authorities) = authorities {
                let verify = if *is_required { "required" } else { "optional" };
                write!(text, " [ca-file {authorities} verify {verify}]")
                    .unwrap_or_else(|_| unreachable!("a String takes everything"));
            }
            if let Some(filter) = filter {
                text.push(' ');
                text.push_str(filter);
            }
            text.push('\n');
        }
        self.insert(name.to_owned(), text.into_bytes(), Grammar::Map, false);
    }

    pub(super) fn insert(
        &mut self,
        name: String,
        content: Vec<u8>,
        grammar: Grammar,
        is_private: bool,
    ) {
        let file = File {
            content,
            grammar,
            is_private,
        };
        self.0.insert(name, file);
    }
}

/// One line of a certificate list.
#[derive(Debug)]
pub(super) struct CertificateLine {
    pub(super) file: String,
    pub(super) authorities: Option<String>,
    pub(super) is_required: bool,
    /// The name in SNI; without it the certificate's own names count.
    pub(super) filter: Option<String>,
}

fn short_hash(content: &[u8]) -> String {
    sha256_hex(content).chars().take(16).collect()
}
