//! What each output's grammar lets in bare, and how it quotes the rest.

use crate::output::Grammar;

/// nginx has no escape for `$`: a `geo` of our own holds one.
const DOLLAR: &str = "${fairlead_dollar}";

/// Why a text cannot be in an output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a bare word of the grammar.
    #[error("{0:?} is not a bare word; use `| quote`")]
    NotBare(String),
    /// No quoting carries it.
    #[error("{0:?} has control characters, which nothing quotes")]
    Control(String),
    /// Quoted or not, the grammar reads it as its own.
    #[error("{0:?} is a word of the grammar, quoted or not")]
    Reserved(String),
    /// The grammar has no quoting.
    #[error("{0:?} is not a bare word, and this grammar quotes nothing")]
    NoQuoting(String),
}

impl Refusal {
    /// The text, shortened.
    pub fn text(&self) -> &str {
        match self {
            Self::NotBare(text)
            | Self::Control(text)
            | Self::Reserved(text)
            | Self::NoQuoting(text) => text,
        }
    }
}

/// Findings end up in logs and Events; a tenant's text is cut there.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Passes a text that is one word wherever a template puts it.
pub(crate) fn bare(grammar: Grammar, text: &str) -> Result<&str, Refusal> {
    let is_word = |extra: &[u8]| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    let is_bare = match grammar {
        // A leading `-` is a flag of an ACL (`-f` reads a file); `,`, `(` and `)` end arguments.
        Grammar::Haproxy => is_word(b"._:/@+=~*[]-") && !text.starts_with(['-', '@', '=', '~']),
        // A leading `~`, `=` or `@` changes what a `location` or `map` entry means.
        Grammar::Nginx => {
            is_word(b"._:/@+=~*[]-") && !text.starts_with(['~', '=', '@']) && !is_map_word(text)
        }
        Grammar::Map => is_word(b"._:/@+=~*-,!%[]") && !text.starts_with('~'),
        Grammar::Json | Grammar::Keepalived | Grammar::Plain => is_word(b"._:/-"),
        Grammar::Pem => false,
    };
    match is_bare {
        true => Ok(text),
        false => Err(Refusal::NotBare(shown(text))),
    }
}

/// Words that `map` and `geo` of nginx read as their own in place of a value.
fn is_map_word(text: &str) -> bool {
    matches!(
        text,
        "include" | "default" | "hostnames" | "volatile" | "delete" | "proxy" | "ranges"
    )
}

/// One word that is exactly `text` to the grammar's reader.
pub(super) fn quote(grammar: Grammar, text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::Control(shown(text)));
    }
    match grammar {
        Grammar::Haproxy => {
            // Words are compared after their quotes are gone: these end or invert conditions.
            let is_reserved = matches!(text, "{" | "}" | "if" | "unless" | "or" | "||" | "!")
                || text.starts_with('-');
            match is_reserved {
                true => Err(Refusal::Reserved(shown(text))),
                false => Ok(haproxy_word(text)),
            }
        }
        Grammar::Nginx => match is_map_word(text) {
            true => Err(Refusal::Reserved(shown(text))),
            false => Ok(nginx_word(text)),
        },
        Grammar::Json => Ok(serde_json::Value::from(text).to_string()),
        Grammar::Keepalived if !text.contains(['"', '\\', '$', '~', '!', '#', '@']) => {
            Ok(format!("\"{text}\""))
        }
        Grammar::Keepalived | Grammar::Map | Grammar::Plain | Grammar::Pem => {
            Err(Refusal::NoQuoting(shown(text)))
        }
    }
}

/// One word that the proxy still reads for its own variables, with nothing of `text` in them.
///
/// HAProxy's log-format reads `%`, nginx's variables begin with `$`.
pub(super) fn literal(grammar: Grammar, text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::Control(shown(text)));
    }
    match grammar {
        Grammar::Haproxy => Ok(haproxy_word(&text.replace('%', "%%"))),
        Grammar::Nginx => Ok(format!("\"{}\"", nginx_inner(text).replace('$', DOLLAR))),
        Grammar::Map | Grammar::Json | Grammar::Keepalived | Grammar::Pem | Grammar::Plain => {
            quote(grammar, text)
        }
    }
}

/// A part of a word of nginx between double quotes that the template writes.
pub(super) fn inside(grammar: Grammar, text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::Control(shown(text)));
    }
    if grammar != Grammar::Nginx {
        return Err(Refusal::NoQuoting(shown(text)));
    }
    Ok(nginx_inner(text))
}

/// The same where nginx reads variables.
pub(super) fn inside_literal(grammar: Grammar, text: &str) -> Result<String, Refusal> {
    inside(grammar, text).map(|text| text.replace('$', DOLLAR))
}

/// Nothing is special between single quotes but the quote itself (HAProxy, "2.2. Quoting and
/// escaping").
fn haproxy_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn nginx_word(text: &str) -> String {
    format!("\"{}\"", nginx_inner(text))
}

fn nginx_inner(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#)
}

#[cfg(test)]
mod tests {
    use super::{Refusal, bare, literal, quote};
    use crate::output::Grammar;

    #[test]
    fn what_a_grammar_reads_is_never_a_bare_word() {
        for grammar in [
            Grammar::Haproxy,
            Grammar::Nginx,
            Grammar::Map,
            Grammar::Json,
            Grammar::Keepalived,
            Grammar::Plain,
        ] {
            for bad in [
                "", "a b", "a\nb", "a;b", "a{", "a\"", "a'", "a#", "$a", "a\\", "a\u{e9}",
            ] {
                assert!(bare(grammar, bad).is_err(), "{grammar:?} {bad:?}");
            }
            assert_eq!(bare(grammar, "a.b-c:80/x"), Ok("a.b-c:80/x"), "{grammar:?}");
        }
        assert!(bare(Grammar::Haproxy, "-f").is_err());
        assert!(bare(Grammar::Haproxy, "a),b(").is_err());
        assert!(bare(Grammar::Nginx, "~a").is_err());
        assert!(bare(Grammar::Nginx, "include").is_err());
    }

    #[test]
    fn quoting_is_the_grammars_own() {
        for (grammar, text, expected) in [
            (
                Grammar::Haproxy,
                "it's 100%",
                Ok(r"'it'\''s 100%'".to_owned()),
            ),
            (Grammar::Nginx, r#"a"\$b"#, Ok(r#""a\"\\$b""#.to_owned())),
            (Grammar::Json, "a\"b", Ok(r#""a\"b""#.to_owned())),
            (
                Grammar::Haproxy,
                "}",
                Err(Refusal::Reserved("}".to_owned())),
            ),
            (
                Grammar::Haproxy,
                "-f",
                Err(Refusal::Reserved("-f".to_owned())),
            ),
            (
                Grammar::Nginx,
                "include",
                Err(Refusal::Reserved("include".to_owned())),
            ),
            (
                Grammar::Nginx,
                "a\nb",
                Err(Refusal::Control("a\nb".to_owned())),
            ),
            (
                Grammar::Plain,
                "a b",
                Err(Refusal::NoQuoting("a b".to_owned())),
            ),
        ] {
            assert_eq!(quote(grammar, text), expected, "{grammar:?} {text:?}");
        }
        assert_eq!(
            literal(Grammar::Haproxy, "1%[src]"),
            Ok("'1%%[src]'".to_owned())
        );
        assert_eq!(
            literal(Grammar::Nginx, "$host"),
            Ok("\"${fairlead_dollar}host\"".to_owned())
        );
    }
}
