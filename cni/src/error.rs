//! Errors as a runtime reads them: a number, a short text, and details with the remedy.

use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::version::Version;

/// Sorts of errors. Those below 100 are the specification's (section "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The version, or a command that the version has not.
    IncompatibleVersion = 1,
    /// A key of the configuration; the message has its value.
    UnsupportedField = 2,
    /// The container is not there, and needs no DEL.
    UnknownContainer = 3,
    /// A variable; the message has its name.
    InvalidEnvironment = 4,
    /// Reading or writing.
    Io = 5,
    /// Not JSON.
    Decode = 6,
    /// The configuration makes no sense.
    InvalidConfig = 7,
    /// The same request may succeed later.
    TryAgain = 11,
    /// STATUS: no ADD can be served.
    NotAvailable = 50,
    /// The kernel refused a step.
    Kernel = 100,
    /// The attachment is there already.
    AlreadyAttached = 101,
    /// No address is free.
    Exhausted = 102,
    /// The address that was asked for is another's.
    AddressInUse = 103,
    /// CHECK: something is not as ADD left it.
    NotAsMade = 104,
    /// The agent does not understand, and would not later.
    AgentRefused = 105,
}

/// An error of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// Which sort it is.
    pub code: Code,
    /// What was tried, on what.
    pub msg: String,
    /// Why, and what to do.
    pub details: String,
}

impl CniError {
    /// An error.
    pub fn new(code: Code, msg: impl Into<String>, details: impl fmt::Display) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.to_string(),
        }
    }

    /// An error at a file.
    pub fn file(path: &Path, what: &str, error: &io::Error) -> Self {
        let is_shut = matches!(
            error.kind(),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
        );
        let remedy = match is_shut {
            true => "; `stateDir` has to be a directory that root can write to",
            false => "",
        };
        Self::new(
            Code::Io,
            format!("{}: {what}", path.display()),
            format!("{error}{remedy}"),
        )
    }

    /// The same, and what went wrong after it.
    #[must_use]
    pub fn and(mut self, also: &Self) -> Self {
        self.details = format!("{}; also: {also}", self.details);
        self
    }

    /// As it is printed.
    pub fn to_json(&self, version: Version) -> Value {
        json!({
            "cniVersion": version,
            "code": self.code as u32,
            "msg": self.msg,
            "details": self.details,
        })
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.msg, self.details)
    }
}

impl std::error::Error for CniError {}
