//! Host names and what they are matched by.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::sync::Arc;

use super::Invalid;

/// A DNS name (RFC 1123 labels, and `_` as in use), lower case, without the final dot; or an
/// address, as a `Host` header may carry it, IPv6 without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// RFC 1035 §2.3.4, as text.
    const MAX_BYTES: usize = 253;

    /// Reads a name; upper case is lowered.
    ///
    /// # Errors
    /// [`Invalid`] where it is neither a DNS name nor an address.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_address = lower.parse::<std::net::IpAddr>().is_ok();
        let is_name = lower.len() <= Self::MAX_BYTES && lower.split('.').all(is_label);
        if is_address || is_name {
            Ok(Self(lower.into()))
        } else {
            Err(Invalid::new(text, "not a DNS name"))
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `suffix` or ends in `.suffix`.
    pub fn is_within(&self, suffix: &Self) -> bool {
        let rest = self.0.strip_suffix(&*suffix.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

fn is_label(label: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(byte)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A regular expression over a whole lower-case host name without its port. Anchored at both ends
/// wherever it is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostRegex(Arc<str>);

impl HostRegex {
    /// Longer ones are a burden on every request.
    const MAX_BYTES: usize = 256;

    /// Reads an expression, with or without its anchors `^` and `$`.
    ///
    /// # Errors
    /// [`Invalid`] where it does not compile, or uses a character that no expression over host
    /// names needs (quotes, blanks, braces with more than digits, `#`, `;`, `/`).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('^').unwrap_or(text);
        let bare = match bare.strip_suffix('$') {
            Some(rest) if !rest.ends_with('\\') => rest,
            Some(_) | None => bare,
        };
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || br".-_*+?|()[]\".contains(&byte);
        let compiles = || super::expression::check(&format!("^(?:{bare})$")).is_ok();
        if !bare.is_empty()
            && bare.len() <= Self::MAX_BYTES
            && bare.bytes().all(is_safe)
            && compiles()
        {
            Ok(Self(bare.to_ascii_lowercase().into()))
        } else {
            Err(Invalid::new(text, "not an expression over host names"))
        }
    }

    /// With both anchors; a group keeps alternatives within them.
    pub fn anchored(&self) -> String {
        format!("^(?:{})$", self.0)
    }
}

/// Which hosts a claim is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// One host.
    Exact(Hostname),
    /// `*.suffix`: every host below the suffix, at any depth, not the suffix itself (Gateway API).
    Wildcard(Hostname),
    /// Every host that an expression matches in full.
    Regex(HostRegex),
    /// Every host that nothing else matches.
    Any,
}

impl Ord for HostMatch {
    /// That of precedence: of two that take one name, the lesser is asked. Exact, then the longest
    /// wildcard (Gateway API), then expressions in the order of their text, then any.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |host: &Self| match host {
            Self::Exact(_) => (0, Reverse(0)),
            Self::Wildcard(suffix) => (1, Reverse(suffix.as_str().len())),
            Self::Regex(_) => (2, Reverse(0)),
            Self::Any => (3, Reverse(0)),
        };
        key(self)
            .cmp(&key(other))
            .then_with(|| match (self, other) {
                (Self::Exact(one), Self::Exact(other))
                | (Self::Wildcard(one), Self::Wildcard(other)) => one.cmp(other),
                (Self::Regex(one), Self::Regex(other)) => one.cmp(other),
                _ => Ordering::Equal,
            })
    }
}

impl PartialOrd for HostMatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl HostMatch {
    /// Reads `name`, `*.name`, or `*` and the empty text for any host.
    ///
    /// # Errors
    /// [`Invalid`] where the name is none.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "" | "*" => Ok(Self::Any),
            _ => match text.strip_prefix("*.") {
                Some(suffix) => Hostname::parse(suffix)
                    .map(Self::Wildcard)
                    .map_err(|_| Invalid::new(text, "not a DNS name")),
                None => Hostname::parse(text).map(Self::Exact),
            },
        }
    }

    /// Whether a host is among them. `Any` takes every host.
    pub fn takes(&self, host: &Hostname) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => host != suffix && host.is_within(suffix),
            Self::Regex(regex) => regex::Regex::new(&regex.anchored())
                .is_ok_and(|regex| regex.is_match(host.as_str())),
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(suffix) => f.pad(&format!("*.{suffix}")),
            Self::Regex(regex) => f.pad(&format!("~{}", regex.0)),
            Self::Any => f.pad("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HostMatch, HostRegex, Hostname};

    #[test]
    fn names_are_lowered_and_everything_else_is_refused() {
        assert_eq!(
            Hostname::parse("Shop.Example.COM.").map(|name| name.to_string()),
            Ok("shop.example.com".to_owned())
        );
        assert!(Hostname::parse("2001:db8::1").is_ok());
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a;b",
            "a\nb",
            "a{b",
            "a/b",
            "a:80",
            "é.example",
        ] {
            assert!(Hostname::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Hostname::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_wildcard_takes_what_is_below_it_alone() -> Result<(), super::Invalid> {
        let wildcard = HostMatch::parse("*.example.com")?;
        for (host, expected) in [
            ("shop.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            ("badexample.com", false),
        ] {
            assert_eq!(wildcard.takes(&Hostname::parse(host)?), expected, "{host}");
        }
        Ok(())
    }

    #[test]
    fn an_expression_covers_the_whole_name() -> Result<(), super::Invalid> {
        let regex = HostMatch::Regex(HostRegex::parse(r"^shop|store\.example\.com$")?);
        for (host, expected) in [
            ("shop", true),
            ("store.example.com", true),
            ("shop.example.com", false),
            ("mystore.example.com", false),
        ] {
            assert_eq!(regex.takes(&Hostname::parse(host)?), expected, "{host}");
        }
        for bad in ["", "a b", "a;b", "a{2}\n", "(", "a\"b", "a#b", "a/b"] {
            assert!(HostRegex::parse(bad).is_err(), "{bad:?}");
        }
        Ok(())
    }
}
