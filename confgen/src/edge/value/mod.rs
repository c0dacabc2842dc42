//! Values that tenants write, each with the grammar it must fit.
//!
//! Constructors are allowlists: what a value may hold is safe in every output (HAProxy, nginx, map
//! files, JSON, comments, file names). Whatever has none of these types reaches an output only
//! through the quoting of that output's grammar.

pub mod expression;
mod header;
mod host;
mod id;
mod path;
mod secret;

pub use header::{HeaderName, HeaderValue, Method};
pub use host::{HostMatch, HostRegex, Hostname};
pub use id::Id;
pub use path::{PathMatch, PathRegex, UrlPath};
pub use secret::{ApiKey, Pem};

/// Why a text is not the value it should be: what was expected, in words that follow "is".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is {expected}")]
pub struct Invalid {
    /// What was found, shortened.
    text: String,
    /// For example "not a DNS name".
    expected: &'static str,
}

impl Invalid {
    /// Findings end up in logs, Events and status; a tenant's text is cut there.
    const SHOWN_CHARS: usize = 80;

    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        let mut shown: String = text.chars().take(Self::SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self {
            text: shown,
            expected,
        }
    }
}
