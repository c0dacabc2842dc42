//! Rewritten paths, as expressions.

use crate::edge::PathRewrite;
use crate::edge::value::PathMatch;
use crate::nginx::view::Rewrite;

pub(super) fn path(rewrite: &PathRewrite, matched: &PathMatch) -> Rewrite {
    let (new, beginning) = match rewrite {
        PathRewrite::Full(path) => (path, None),
        PathRewrite::Prefix(path) => (path, prefix(matched, ".*")),
    };
    match beginning {
        None => Rewrite {
            pattern: "^".to_owned(),
            path: new.to_string(),
            keeps_rest: false,
        },
        Some(beginning) => {
            let (pattern, path) = beginning.replaced(new.as_str());
            Rewrite {
                pattern: format!("{pattern}$"),
                path,
                keeps_rest: true,
            }
        }
    }
}

/// The beginning of paths that a rewrite replaces.
pub(super) struct Beginning {
    escaped: String,
    is_by_segments: bool,
    rest: &'static str,
}

/// `None` where the whole path is replaced.
pub(super) fn prefix(matched: &PathMatch, rest: &'static str) -> Option<Beginning> {
    let (path, is_by_segments) = match matched {
        PathMatch::Prefix(path) => (path.as_str().trim_end_matches('/'), true),
        PathMatch::Bytes(path) => (path.as_str(), false),
        PathMatch::Exact(_) | PathMatch::Regex(_) => return None,
    };
    Some(Beginning {
        escaped: regex::escape(path),
        is_by_segments,
        rest,
    })
}

impl Beginning {
    /// The expression, whose group is the rest, and what goes before the rest.
    pub(super) fn replaced(&self, new: &str) -> (String, String) {
        let Self {
            escaped,
            is_by_segments,
            rest,
        } = self;
        let new = match is_by_segments {
            true => new.trim_end_matches('/'),
            false => new,
        };
        // `/a` becomes `/` where nothing else is left of it.
        match (new.is_empty(), is_by_segments) {
            (true, _) => (format!("^{escaped}/?({rest})"), "/".to_owned()),
            (false, true) => (format!("^{escaped}(/{rest})?"), new.to_owned()),
            (false, false) => (format!("^{escaped}({rest})"), new.to_owned()),
        }
    }
}
