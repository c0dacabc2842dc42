//! Files that HAProxy alone has: maps, and lists of certificates.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::output::Grammar;
use crate::render::Files;

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

    /// The list of a listener's certificates.
    pub(super) fn add_certificate_list(&mut self, name: &str, lines: &[CertificateLine]) {
        let mut text = String::new();
        for line in lines {
            let CertificateLine {
                file,
                authorities,
                is_required,
                filters,
            } = line;
            text.push_str(file);
            if let Some(authorities) = authorities {
                let verify = if *is_required { "required" } else { "optional" };
                write!(text, " [ca-file {authorities} verify {verify}]")
                    .unwrap_or_else(|_| unreachable!("a String takes everything"));
            }
            for filter in filters {
                text.push(' ');
                text.push_str(filter);
            }
            text.push('\n');
        }
        self.insert(name.to_owned(), text.into_bytes(), Grammar::Map, false);
    }
}

/// One line of a certificate list.
#[derive(Debug, Default)]
pub(super) struct CertificateLine {
    pub(super) file: String,
    pub(super) authorities: Option<String>,
    pub(super) is_required: bool,
    /// Names in SNI; without any the certificate's own count.
    pub(super) filters: Vec<String>,
}
