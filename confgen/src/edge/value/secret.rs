//! What must never be shown.

use std::fmt;
use std::sync::Arc;

/// The value that a request's key header must have. Any bytes; outputs quote it, and those that
/// cannot carry it refuse it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<[u8]>);

impl ApiKey {
    /// A key; an empty one is none, since it would let everybody in.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// The bytes, for an output that only its owner may read.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// PEM text: certificates, or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Arc<[u8]>);

impl Pem {
    /// PEM text as it was found.
    pub fn new(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }

    /// The bytes, for a file that only its owner may read.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem(…)")
    }
}
