//! Names that outputs use.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ring::digest;

use crate::edge::Listen;

/// A generated name: a readable part of letters, digits and `_`, and a hash of everything that
/// tells it from others. Safe in every grammar, as a file's name too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// HAProxy's names are bounded by its line length only; people read them.
    const READABLE_CHARS: usize = 40;
    /// 48 bits: with 100,000 names, two are equal once in 56,000 clusters.
    const HASH_BYTES: usize = 6;

    /// A name made of `parts`; `a` and `b/c` differ from `a/b` and `c`.
    pub fn of(parts: &[&str]) -> Self {
        Self::made(&parts.join("_"), parts.iter().map(|part| part.as_bytes()))
    }

    /// The name of what listens somewhere.
    pub fn of_listener(kind: &str, listen: Listen) -> String {
        let (address, port) = (listen.address.to_string(), listen.port.to_string());
        Self::of(&[kind, &address, &port]).to_string()
    }

    /// The name of a content: equal contents have equal names.
    pub fn of_content(readable: &str, parts: &[&[u8]]) -> Self {
        Self::made(readable, parts.iter().copied())
    }

    fn made(readable: &str, parts: impl Iterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in parts {
            let part = part.as_ref();
            // The length keeps parts apart, whatever is in them.
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        }
        let safe = |c: char| match c {
            'A'..='Z' => c.to_ascii_lowercase(),
            'a'..='z' | '0'..='9' => c,
            _ => '_',
        };
        let mut name: String = readable
            .chars()
            .map(safe)
            .take(Self::READABLE_CHARS)
            .collect();
        name.push('_');
        for byte in hash.finish().as_ref().iter().take(Self::HASH_BYTES) {
            for digit in [byte >> 4, byte & 15] {
                name.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        Self(name.into())
    }

    /// The name of a server: an address and port make it unique within its backend, and people
    /// find the pod by it.
    pub fn of_server(address: IpAddr, port: NonZeroU16) -> Self {
        let address = address.to_string().replace(['.', ':'], "_");
        Self(format!("s_{address}_{port}").into())
    }

    /// A name that was generated before and kept on disk.
    pub(crate) fn generated(text: &str) -> Option<Self> {
        let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        (!text.is_empty() && text.bytes().all(is_safe)).then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps by name are asked with a text; both compare alike.
impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn parts_are_kept_apart_and_text_is_made_safe() {
        assert_ne!(Id::of(&["a-b", "c"]), Id::of(&["a", "b-c"]));
        assert_ne!(Id::of(&["a.b"]), Id::of(&["a_b"]));
        let hostile = Id::of(&["x\n}; include /etc/passwd", "../.."]);
        let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(hostile.as_str().bytes().all(is_safe), "{hostile}");
    }
}
