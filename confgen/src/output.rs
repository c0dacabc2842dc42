//! What rendering makes and applying installs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::edge::value::Id;

/// Every file of one proxy, rendered of one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// By name relative to the output's directory; names are ours, never a tenant's text.
    pub files: BTreeMap<String, Arc<File>>,
    /// The file that the proxy is started with.
    pub main: String,
    /// Hash of every file but for what changes without a reload; the proxy tells it when asked.
    pub generation: Option<Id>,
}

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Content.
    pub content: Vec<u8>,
    /// What its content must fit.
    pub grammar: Grammar,
    /// Whether only its owner may read it: keys, and configurations with API keys in them.
    pub is_private: bool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("bytes", &self.content.len())
            .field("grammar", &self.grammar)
            .field("is_private", &self.is_private)
            .finish_non_exhaustive()
    }
}

/// What a file's content must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grammar {
    /// HAProxy's configuration.
    Haproxy,
    /// nginx's configuration.
    Nginx,
    /// HAProxy's map files and lists: a key and a value a line.
    Map,
    /// JSON.
    Json,
    /// keepalived's configuration.
    Keepalived,
    /// Certificates and keys.
    Pem,
    /// Anything else: only words of letters, digits and `._:/-` are let in.
    Plain,
}
