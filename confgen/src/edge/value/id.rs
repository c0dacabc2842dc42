//! Names that outputs use.

use std::fmt;
use std::sync::Arc;

use ring::digest;

/// A generated name: a readable part of letters, digits and `_`, and a hash of everything that
/// tells it from others. Safe in every grammar, as a file's name too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// HAProxy's names are bounded by its line length only; people read them.
    const READABLE_CHARS: usize = 40;

    /// A name made of `parts`; `a` and `b/c` differ from `a/b` and `c`.
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in parts {
            // The length keeps parts apart, whatever is in them.
            hash.update(&part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let readable: String = parts
            .join("_")
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '_'
                }
            })
            .take(Self::READABLE_CHARS)
            .collect();
        let short = hash
            .finish()
            .as_ref()
            .iter()
            .take(6)
            .fold(String::new(), |mut text, byte| {
                text.push_str(&format!("{byte:02x}"));
                text
            });
        Self(format!("{readable}_{short}").into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
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
