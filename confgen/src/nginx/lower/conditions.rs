//! What rules look at beside host and path, as variables.

use super::Lowering;
use crate::edge::value::{HeaderName, Id, PathMatch};
use crate::edge::{HttpRule, ValueMatch};
use crate::nginx::view::{Choice, Condition};

impl Lowering<'_> {
    /// The variable that is 1 where a rule's conditions hold; `None` if nginx cannot ask them.
    pub(super) fn choice(&mut self, rule: &HttpRule) -> Option<String> {
        let name = format!("rule_{}", rule.id);
        if self.choices.contains_key(&name) {
            return Some(name);
        }
        let mut conditions = Vec::new();
        if let PathMatch::Regex(regex) = &rule.matches.path {
            conditions.push(self.condition("uri", format!("~{}", regex.anchored())));
        }
        if let Some(method) = &rule.matches.method {
            let pattern = format!("~^{}$", method.as_str());
            conditions.push(self.condition("request_method", pattern));
        }
        let headers = rule.matches.headers.iter();
        let headers = headers.map(|(name, value)| header_pattern(name, value));
        let query = rule.matches.query.iter();
        let query = query.map(|(name, value)| query_pattern(name, value));
        for asked in headers.chain(query) {
            match asked {
                Ok((source, pattern)) => conditions.push(self.condition(&source, pattern)),
                Err(message) => {
                    self.problem(&rule.origin, message, "the rule takes no request");
                    return None;
                }
            }
        }
        let choice = Choice {
            name: name.clone(),
            all: "1".repeat(conditions.len()),
            conditions,
        };
        self.choices.insert(name.clone(), choice);
        Some(name)
    }

    fn condition(&mut self, source: &str, pattern: String) -> String {
        let name = Id::of(&["is", source, &pattern]).to_string();
        self.conditions
            .entry(name.clone())
            .or_insert_with(|| Condition {
                name: name.clone(),
                source: source.to_owned(),
                patterns: vec![pattern],
                found: 1,
                otherwise: 0,
            });
        name
    }
}

/// The variable of a request's header.
pub(super) fn header_variable(name: &HeaderName) -> Result<String, String> {
    // nginx drops such headers, since it could not tell them from those with `-`.
    match name.as_str().contains('_') {
        true => Err(format!(
            "nginx drops headers with `_` in their names ({name})"
        )),
        false => Ok(format!("http_{}", name.as_str().replace('-', "_"))),
    }
}

fn header_pattern(name: &HeaderName, value: &ValueMatch) -> Result<(String, String), String> {
    let pattern = match value {
        ValueMatch::Present => "~.".to_owned(),
        ValueMatch::Exact(value) if value.as_str().is_empty() => {
            return Err(format!("nginx takes an empty header for none ({name})"));
        }
        // `map` compares values without regard to case, expressions with.
        ValueMatch::Exact(value) => format!("~^{}$", regex::escape(value.as_str())),
        ValueMatch::Regex(value) => format!("~{}", checked_regex(value.as_str())?),
    };
    Ok((header_variable(name)?, pattern))
}

/// A parameter is looked for in the query as it came: nginx decodes none.
fn query_pattern(name: &HeaderName, value: &ValueMatch) -> Result<(String, String), String> {
    let name = regex::escape(name.as_str());
    let first = format!("~^(?:(?!{name}(?:=|&|$))[^&]*&)*{name}");
    let pattern = match value {
        ValueMatch::Present => format!("{first}(?:=|&|$)"),
        ValueMatch::Exact(value) => format!("{first}={}(?:&|$)", encoded(value.as_str())),
        ValueMatch::Regex(_) => {
            return Err("nginx cannot match an expression over a decoded parameter".to_owned());
        }
    };
    Ok(("args".to_owned(), pattern))
}

/// An expression over a value in any of its encodings.
fn encoded(value: &str) -> String {
    let mut pattern = String::new();
    for byte in value.bytes() {
        let plain = match byte {
            b' ' => r"\+".to_owned(),
            // These end the value, or stand for something else, where they are not encoded.
            b'&' | b'+' | b'%' | b'#' => String::new(),
            _ => regex::escape(&char::from(byte).to_string()),
        };
        let or = if plain.is_empty() { "" } else { "|" };
        pattern.push_str(&format!("(?:{plain}{or}%(?i:{byte:02x}))"));
    }
    pattern
}

/// An expression that compiles and names no groups: nginx makes variables of those, and could be
/// made to overwrite its own.
fn checked_regex(text: &str) -> Result<&str, String> {
    let names = ["(?<", "(?P", "(?'", "(?|", "(*"];
    if names.iter().any(|name| text.contains(name)) {
        return Err("the expression names a group, or uses what only some engines know".to_owned());
    }
    crate::edge::value::expression::check(text).map(|()| text)
}
