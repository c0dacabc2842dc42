//! What is wrong with one object.

use std::fmt;

use crate::{Kind, ObjectKey};

/// A finding about one object: which, where, what, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Kind of the object.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
    /// Path of the field, as in `spec.ports[1].port`; empty where the whole object is meant.
    pub field: String,
    /// What was found and what was expected.
    pub message: String,
    /// What follows: what is left out, what goes on.
    pub effect: String,
}

impl Problem {
    /// A finding about one object.
    pub fn new(
        kind: Kind,
        key: ObjectKey,
        field: impl Into<String>,
        message: impl Into<String>,
        effect: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            key,
            field: field.into(),
            message: message.into(),
            effect: effect.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            key,
            field,
            message,
            effect,
        } = self;
        let space = if field.is_empty() { "" } else { " " };
        write!(f, "{kind} {key}:{space}{field} {message}; {effect}")
    }
}
