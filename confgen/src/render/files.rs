//! Files beside a configuration, named by their content.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sha256_hex;
use crate::edge::Certificate;
use crate::edge::value::Id;
use crate::output::{File, Grammar};

/// Files by name.
#[derive(Debug, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Arc<File>>);

impl Files {
    /// A list of lines.
    pub(crate) fn add_list(&mut self, kind: &str, lines: &[String], is_private: bool) -> String {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let hash = sha256_hex(text.as_bytes());
        let name = format!("lists/{kind}_{}.lst", hash.get(..16).unwrap_or_default());
        self.insert(name.clone(), text.into_bytes(), Grammar::Map, is_private);
        name
    }

    /// Certificates with their key, named by the hash of their content.
    pub(crate) fn add_pem(&mut self, id: &Id, certificate: &Certificate) -> String {
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
    pub(crate) fn add_authorities(&mut self, id: &Id, certificate: &Certificate) -> String {
        let name = format!("certificates/{id}.ca.pem");
        let content = certificate.chain.reveal().to_vec();
        self.insert(name.clone(), content, Grammar::Pem, true);
        name
    }

    pub(crate) fn insert(
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
        self.0.insert(name, Arc::new(file));
    }
}
