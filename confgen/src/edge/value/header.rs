//! Header names and values, and methods.

use std::fmt;
use std::sync::Arc;

use super::Invalid;

/// A header's name: letters, digits, `-` and `_`, lower case (a subset of RFC 9110 §5.1 `token`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Arc<str>);

impl HeaderName {
    /// Reads a name; upper case is lowered.
    ///
    /// # Errors
    /// [`Invalid`] where it is none.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=128).contains(&text.len()) && text.bytes().all(is_safe) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(Invalid::new(text, "not a header's name"))
        }
    }

    /// Reads the name of a query parameter, where upper and lower case differ.
    ///
    /// # Errors
    /// [`Invalid`] where it is none, or of other characters than headers' names.
    pub fn of_parameter(text: &str) -> Result<Self, Invalid> {
        Self::parse(text).map(|_| Self(text.into()))
    }

    /// As text: lower case, but for a query parameter's.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A header's value, or the value of a query parameter: visible ASCII and inner blanks. Quotes,
/// `\`, `%`, `$`, `{` and `}` are in it only if the output's grammar quotes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderValue(Arc<str>);

impl HeaderValue {
    /// Proxies bound a request's headers by some kilobytes.
    const MAX_BYTES: usize = 4096;

    /// Reads a value.
    ///
    /// # Errors
    /// [`Invalid`] where it has control characters or is not ASCII.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let is_trimmed = text.trim() == text;
        if text.len() <= Self::MAX_BYTES && is_trimmed && text.bytes().all(is_visible) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(text, "not a header's value of visible ASCII"))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request's method (RFC 9110 §9): upper-case letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(Arc<str>);

impl Method {
    /// Reads a method.
    ///
    /// # Errors
    /// [`Invalid`] where it is none.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(text, "not a method in upper case"))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
