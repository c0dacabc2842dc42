//! Why a template gives no text.

use std::fmt;
use std::sync::Arc;

use super::super::grammar::Refusal;
use crate::edge::Origin;

/// Why a template gives no text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{template}:{line}: {reason}{}", Within { expression, origin })]
pub struct RenderError {
    /// The template's name.
    pub template: Arc<str>,
    /// Line in it; 0 where it is not known.
    pub line: usize,
    /// The expression, where one is to blame.
    pub expression: Option<String>,
    /// The object whose value it was, where it is known.
    pub origin: Option<Box<Origin>>,
    /// What was refused.
    pub refused: Option<Refusal>,
    /// In words.
    pub reason: String,
}

/// The end of a [`RenderError`]'s text.
struct Within<'a> {
    expression: &'a Option<String>,
    origin: &'a Option<Box<Origin>>,
}

impl fmt::Display for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(expression) = self.expression {
            write!(f, " in `{expression}`")?;
        }
        if let Some(origin) = self.origin {
            write!(f, " of {} {} {}", origin.kind, origin.key, origin.field)?;
        }
        Ok(())
    }
}
