//! The originals' own interfaces. Each turns its flags or variables into a native
//! [`File`](super::File); what it cannot carry over is said, never dropped in silence.

pub mod dispatcher;
pub mod kube2lb;
pub mod pyconfd;

use super::File;

/// A native file, and what its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The equal native configuration.
    pub file: File,
    /// What differs from the original, a sentence each.
    pub notes: Vec<String>,
}
