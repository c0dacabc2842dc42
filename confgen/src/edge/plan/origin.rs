//! Who asked for something, and who did not get it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use model::{Kind, ObjectKey, Problem};

/// Which object, and which part of it, asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `metadata.creationTimestamp`: the oldest of two claims wins.
    pub created_unix_seconds: i64,
    /// The object.
    pub key: ObjectKey,
    /// Its kind.
    pub kind: Kind,
    /// Path of the field.
    pub field: Arc<str>,
}

impl Ord for Origin {
    /// By age, then by name, then in the order of lists: the second rule is before the eleventh.
    fn cmp(&self, other: &Self) -> Ordering {
        let object = (self.created_unix_seconds, &self.key, self.kind);
        object
            .cmp(&(other.created_unix_seconds, &other.key, other.kind))
            .then_with(|| self.parts().cmp(other.parts()))
    }
}

impl Origin {
    /// The configuration itself, at one of its keys. No object's name is empty.
    pub fn of_configuration(kind: Kind, field: Arc<str>) -> Self {
        Self {
            created_unix_seconds: i64::MIN,
            key: ObjectKey::cluster_scoped(""),
            kind,
            field,
        }
    }

    /// Whether no object asked, but the configuration.
    pub fn is_configuration(&self) -> bool {
        self.key.name.is_empty()
    }

    /// Something that is wrong with it, and what comes of that.
    pub fn problem(&self, message: impl Into<String>, effect: &str) -> Problem {
        Problem::new(self.kind, self.key.clone(), &*self.field, message, effect)
    }

    /// Parts of the field. Of two indices the longer text is the greater number.
    fn parts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.field.split(['[', ']']).map(|part| {
            let is_index = part.bytes().all(|byte| byte.is_ascii_digit());
            (if is_index { part.len() } else { 0 }, part)
        })
    }
}

impl PartialOrd for Origin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A claim that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Who made it.
    pub origin: Origin,
    /// What it was about: a host, a path, a port.
    pub about: String,
    /// Why.
    pub cause: LossCause,
}

/// Why a claim is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// An older one has it.
    OlderClaim(Origin),
    /// The host-claim policy does not let its namespace have the host.
    HostNotAllowed,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OlderClaim(by) => write!(f, "{} {} {} is older", by.kind, by.key, by.field),
            Self::HostNotAllowed => f.write_str("host_claims does not let its namespace have it"),
        }
    }
}
