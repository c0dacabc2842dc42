//! Which of several hosts, and which of a host's rules, is asked first (Gateway API).

use std::cmp::{Ordering, Reverse};

use super::plan::HttpRule;
use super::value::{HostMatch, PathMatch};

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

/// Which of two hosts that take one name is asked: exact, then the longest wildcard, then
/// expressions in the order of their text, then any.
pub(super) fn hosts(a: &HostMatch, b: &HostMatch) -> Ordering {
    let length = |host: &HostMatch| match host {
        HostMatch::Wildcard(suffix) => Reverse(suffix.as_str().len()),
        HostMatch::Exact(_) | HostMatch::Regex(_) | HostMatch::Any => Reverse(0),
    };
    let rank = |host: &HostMatch| match host {
        HostMatch::Exact(_) => 0,
        HostMatch::Wildcard(_) => 1,
        HostMatch::Regex(_) => 2,
        HostMatch::Any => 3,
    };
    (rank(a), length(a), a).cmp(&(rank(b), length(b), b))
}
