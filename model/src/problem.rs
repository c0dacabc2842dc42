//! What is wrong with one object.

use std::fmt;
use std::sync::Arc;

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
    /// Which sort it is.
    pub reason: Reason,
    /// `metadata.uid` of the object, where it is known.
    pub uid: Option<Arc<str>>,
}

/// Sorts of problems, as `reason` of their Events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The object says what makes no sense.
    #[default]
    InvalidObject,
    /// Two objects ask for what only one can have.
    Conflict,
    /// A network policy is not in force as it should be.
    PolicyNotEnforced,
}

impl Reason {
    /// What an object of this kind that makes no sense comes to.
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::NetworkPolicy | Kind::ClusterNetworkPolicy => Self::PolicyNotEnforced,
            Kind::Service
            | Kind::EndpointSlice
            | Kind::Node
            | Kind::Pod
            | Kind::Namespace
            | Kind::Secret
            | Kind::Endpoints
            | Kind::Ingress
            | Kind::IngressClass
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::HttpRoute
            | Kind::TlsRoute
            | Kind::TcpRoute
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::ConfigMap => Self::InvalidObject,
        }
    }

    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidObject => "InvalidObject",
            Self::Conflict => "Conflict",
            Self::PolicyNotEnforced => "PolicyNotEnforced",
        }
    }
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
            reason: Reason::of(kind),
            uid: None,
        }
    }

    /// The same, of another sort.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// The same, of an object whose uid is known.
    #[must_use]
    pub fn of(self, uid: Option<&str>) -> Self {
        Self {
            uid: uid.map(Into::into),
            ..self
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
            reason: _,
            uid: _,
        } = self;
        let space = if field.is_empty() { "" } else { " " };
        write!(f, "{kind} {key}:{space}{field} {message}; {effect}")
    }
}
