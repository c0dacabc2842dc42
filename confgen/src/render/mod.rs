//! Templates to text that fits a grammar, or an error.
//!
//! ```text
//! values ─ formatter: bare word of the grammar? ─► text ─┐
//!        └ stand-in for every value ────────────► text ─┴► same shape, or refused
//! ```
//!
//! A template prints a value bare only if it is a word that the grammar cannot misread, and else
//! through `quote` (one word, as it is) or `literal` (one word, in which the proxy's own variables
//! are off). There is no way to mark a text as safe. Nothing here touches files or proxies.

mod built_in;
mod environment;
mod files;
mod filters;
pub(crate) mod grammar;
mod operator;
pub mod shape;
mod source_map;
pub(crate) mod waits;

use std::sync::Arc;

use model::Problem;
use ring::digest;

pub(crate) use built_in::{BuiltIn, NO_GENERATION, check_listens, generation_of};
pub use environment::{RenderError, Template};
pub(crate) use files::Files;
pub use grammar::Refusal;
pub(crate) use grammar::bare;
pub use operator::{OperatorOutput, OperatorTemplate};
pub use shape::{ShapeError, Statement};
pub use waits::Waits;

use crate::edge::value::Hostname;
use crate::output::Rendered;

/// What rendering a plan gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// The files.
    pub rendered: Rendered,
    /// What this proxy cannot do as it was asked, and does instead.
    pub problems: Vec<Problem>,
}

/// Why a plan is not rendered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A template gave no text.
    #[error(transparent)]
    Template(#[from] RenderError),
    /// An output has not its template's shape, or not the plan's.
    #[error("{file}: {error}; the output is refused")]
    Shape {
        /// The output's file or its template.
        file: Arc<str>,
        /// Where and what.
        error: ShapeError,
    },
}

/// A host as a `Host` header has it: IPv6 in brackets.
pub(crate) fn host_text(host: &Hostname) -> String {
    match host.as_str().contains(':') {
        true => format!("[{host}]"),
        false => host.to_string(),
    }
}

pub(crate) fn sha256_hex(content: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, content).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
