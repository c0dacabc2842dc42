//! What a check says.

use serde::{Deserialize, Serialize};

/// How bad it is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Something does not work, or will not.
    Failure,
    /// Something may not work.
    Warning,
    /// What is needed to know could not be read.
    CouldNotTell,
    /// As it should be.
    Ok,
    /// There is nothing of the kind on this node.
    NotApplicable,
}

impl Verdict {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "FAILURE",
            Self::Warning => "warning",
            Self::CouldNotTell => "could not tell",
            Self::Ok => "ok",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One thing that a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the check.
    pub check: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found; where it could not be told, why.
    pub found: String,
    /// What suffers, of a failure or a warning.
    pub affects: Option<String>,
    /// What to do about it, in one line.
    pub remedy: Option<String>,
}

/// The same as the check itself says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub(super) verdict: Verdict,
    pub(super) found: String,
    pub(super) remedy: Option<String>,
}

/// Something does not work, or will not.
pub(super) fn failure(found: impl Into<String>, remedy: impl Into<String>) -> Said {
    said(Verdict::Failure, found, Some(remedy.into()))
}

/// Something may not work.
pub(super) fn warning(found: impl Into<String>, remedy: impl Into<String>) -> Said {
    said(Verdict::Warning, found, Some(remedy.into()))
}

/// As it should be.
pub(super) fn fine(found: impl Into<String>) -> Said {
    said(Verdict::Ok, found, None)
}

/// There is nothing of the kind.
pub(super) fn not_applicable(found: impl Into<String>) -> Said {
    said(Verdict::NotApplicable, found, None)
}

/// It could not be read.
pub(super) fn could_not_tell(why: impl Into<String>) -> Said {
    said(Verdict::CouldNotTell, why, None)
}

fn said(verdict: Verdict, found: impl Into<String>, remedy: Option<String>) -> Said {
    Said {
        verdict,
        found: found.into(),
        remedy,
    }
}

/// What is wrong, or that nothing is.
pub(super) fn or_fine(wrong: Vec<Said>, found: impl Into<String>) -> Vec<Said> {
    if wrong.is_empty() {
        vec![fine(found)]
    } else {
        wrong
    }
}
