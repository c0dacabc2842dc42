//! Paths of URLs and what they are matched by.

use std::fmt;
use std::sync::Arc;

use super::Invalid;

/// An absolute path: begins with `/`; RFC 3986 `pchar` without `;`, `'`, `(`, `)`, `*`, `$` and `&`,
/// which outputs' grammars know; `%` only before two hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrlPath(Arc<str>);

impl UrlPath {
    /// Proxies bound a request line by some kilobytes.
    const MAX_BYTES: usize = 1024;

    /// Reads a path.
    ///
    /// # Errors
    /// [`Invalid`] where it is none, or has `.` or `..` as a segment, which proxies normalise away.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = |expected| Err(Invalid::new(text, expected));
        if !text.starts_with('/') || text.len() > Self::MAX_BYTES {
            return invalid("not an absolute path of at most 1024 bytes");
        }
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!+,=:@/%".contains(&byte);
        let mut escapes = text.split('%').skip(1);
        let is_escape = |rest: &str| {
            rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
        };
        if !text.bytes().all(is_safe) || !escapes.all(is_escape) {
            return invalid("not a path of letters, digits and -._~!+,=:@/%");
        }
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return invalid("a path with . or .. in it");
        }
        Ok(Self(text.into()))
    }

    /// The path `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A regular expression over a path, anchored at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathRegex(Arc<str>);

impl PathRegex {
    /// Longer ones are a burden on every request.
    const MAX_BYTES: usize = 512;

    /// Reads an expression.
    ///
    /// # Errors
    /// [`Invalid`] where it does not compile, does not begin with `/` or `^/`, or uses a character
    /// that outputs' grammars know (quotes, blanks, `;`, `#`, braces).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('^').unwrap_or(text);
        let is_safe =
            |byte: u8| byte.is_ascii_alphanumeric() || br"-._~!+,=:@/%*?|()[]\^$".contains(&byte);
        if bare.starts_with('/')
            && bare.len() <= Self::MAX_BYTES
            && bare.bytes().all(is_safe)
            && super::expression::check(&format!("^(?:{bare})")).is_ok()
        {
            Ok(Self(bare.into()))
        } else {
            Err(Invalid::new(text, "not an expression over paths"))
        }
    }

    /// With its anchor; a group keeps alternatives behind it.
    pub fn anchored(&self) -> String {
        format!("^(?:{})", self.0)
    }
}

/// Which paths a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// This path alone.
    Exact(UrlPath),
    /// This path and what is below it, by whole segments: `/a` takes `/a` and `/a/b`, not `/ab`
    /// (Ingress v1 `Prefix`, Gateway API `PathPrefix`).
    Prefix(UrlPath),
    /// Every path that begins with these bytes, as nginx's `location /a` does (dispatcher).
    Bytes(UrlPath),
    /// Every path whose beginning an expression matches.
    Regex(PathRegex),
}

impl PathMatch {
    /// Every path.
    pub fn all() -> Self {
        Self::Prefix(UrlPath::root())
    }

    /// Whether a path is among them.
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_str(),
            Self::Prefix(prefix) => {
                let prefix = prefix.as_str().trim_end_matches('/');
                let rest = path.strip_prefix(prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Bytes(prefix) => path.starts_with(prefix.as_str()),
            Self::Regex(regex) => {
                regex::Regex::new(&regex.anchored()).is_ok_and(|regex| regex.is_match(path))
            }
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.pad(&format!("= {path}")),
            Self::Prefix(path) | Self::Bytes(path) => path.fmt(f),
            Self::Regex(regex) => f.pad(&format!("~ {}", regex.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PathMatch, PathRegex, UrlPath};

    #[test]
    fn what_a_grammar_could_read_is_refused() {
        for good in ["/", "/a/b-c_d.e~f", "/v1/users:batch", "/%41", "/a//b"] {
            assert!(UrlPath::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "", "a", "/a b", "/a;b", "/a{b", "/a\n", "/a\r", "/a\"b", "/a#b", "/a'b", "/$host",
            "/../a", "/%4", "/%zz", "/a\\b", "/a?b",
        ] {
            assert!(UrlPath::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["a", "/a b", "/a;", "/{", "/(", "/a\"", "/a#", "/\n"] {
            assert!(PathRegex::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() -> Result<(), super::Invalid> {
        for (prefix, path, expected) in [
            ("/", "/anything", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/", "/a", true),
            ("/a/", "/a/b", true),
        ] {
            let of_segments = PathMatch::Prefix(UrlPath::parse(prefix)?);
            assert_eq!(of_segments.takes(path), expected, "{prefix} {path}");
        }
        assert!(PathMatch::Bytes(UrlPath::parse("/a")?).takes("/ab"));
        Ok(())
    }
}
