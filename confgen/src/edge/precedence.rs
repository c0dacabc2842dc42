//! Which of a host's rules is asked first (Gateway API). Of several hosts, [`HostMatch`]'s order
//! tells.
//!
//! [`HostMatch`]: super::value::HostMatch

use std::cmp::{Ordering, Reverse};

use super::plan::HttpRule;
use super::value::PathMatch;

/// Exact paths, then the longest, then rules with a method, more headers, more parameters, and the
/// oldest. An expression counts by its length, as in ingress-nginx.
pub(super) fn compare(a: &HttpRule, b: &HttpRule) -> Ordering {
    let key = |rule: &HttpRule| {
        let matches = &rule.matches;
        (
            path(&matches.path),
            matches.method.is_none(),
            Reverse(matches.headers.len()),
            Reverse(matches.query.len()),
        )
    };
    key(a)
        .cmp(&key(b))
        .then_with(|| (&a.origin, &a.id).cmp(&(&b.origin, &b.id)))
}

fn path(path: &PathMatch) -> (bool, Reverse<usize>) {
    let is_exact = matches!(path, PathMatch::Exact(_));
    let length = match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::Bytes(path) => {
            path.as_str().len()
        }
        PathMatch::Regex(regex) => regex.anchored().len(),
    };
    (!is_exact, Reverse(length))
}
