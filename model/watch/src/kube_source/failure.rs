//! Why a request did not give what it asked for, by what has to be done about it.

use std::error::Error;
use std::fmt;

/// A request that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, no answer in time, or the server is out of order (5xx): try another.
    Down(String),
    /// No server works; each with its reason.
    AllDown(Vec<(String, String)>),
    /// 401 or 403 (405 for a watch): credentials or RBAC.
    Refused(String),
    /// 410: the version asked for is no longer kept.
    Gone,
    /// The version asked for is newer than anything the server has.
    AheadOfServer(String),
    /// 404: the server knows no such kind; its CRD is not installed.
    Unknown(String),
    /// Any other answer.
    Answered(String),
}

impl Failure {
    pub(super) fn of_status(status: &kube::core::Status) -> Self {
        let said = || {
            let kube::core::Status {
                code,
                reason,
                message,
                ..
            } = status;
            let message = if message.is_empty() {
                "no message"
            } else {
                message
            };
            format!("{code} {reason}: {message}")
        };
        match status.code {
            401 | 403 | 405 => Self::Refused(said()),
            404 => Self::Unknown(said()),
            410 => Self::Gone,
            // https://github.com/kubernetes/kubernetes: storage.NewTooLargeResourceVersionError
            504 if status.message.contains("Too large resource version") => {
                Self::AheadOfServer(said())
            }
            // 429 is a server that protects itself; another one is asked like one that is down.
            429 | 500.. => Self::Down(said()),
            _ => Self::Answered(said()),
        }
    }
}

impl From<kube::Error> for Failure {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only an API status says more than its text"
    )]
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status),
            other => Self::Down(innermost(&other)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(why)
            | Self::Refused(why)
            | Self::AheadOfServer(why)
            | Self::Unknown(why)
            | Self::Answered(why) => f.write_str(why),
            Self::Gone => f.write_str("410 Gone"),
            Self::AllDown(tried) => {
                for (position, (url, why)) in tried.iter().enumerate() {
                    let comma = if position == 0 { "" } else { ", " };
                    write!(f, "{comma}{url}: {why}")?;
                }
                Ok(())
            }
        }
    }
}

/// The cause at the bottom. The layers above it each repeat it with their own name in front.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
