//! What parts inside a package must not know.

use super::Breach;

/// A part of the sources and the paths it must not name.
struct Scope {
    rule: &'static str,
    is_in: fn(&str) -> bool,
    must_not_name: &'static [&'static str],
    message: &'static str,
}

const SCOPES: [Scope; 7] = [
    Scope {
        rule: "pure",
        is_in: is_pure,
        must_not_name: &[
            "tokio",
            "std::fs",
            "fs::",
            "std::env",
            "env::var",
            "std::process",
            "std::thread",
            "TcpListener",
            "TcpStream",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
            "SystemTime",
            "Instant::now",
            "crate::sys",
            "aya::",
            "rustix",
            "rtnetlink",
        ],
        message: "this part decides over values; acting belongs into an adapter",
    },
    Scope {
        rule: "pure",
        is_in: |path| path.starts_with("agent/src/doctor/checks/"),
        must_not_name: &[
            "tokio",
            "std::fs",
            "fs::",
            "std::env",
            "std::process",
            "std::thread",
            "SystemTime",
            "Instant::now",
            "rustix",
            "rtnetlink",
            "client::",
            "gather",
        ],
        message: "checks decide over facts; `gather` reads them",
    },
    Scope {
        rule: "model",
        is_in: |path| path.starts_with("model/src/"),
        must_not_name: &[
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "async fn",
            "SystemTime",
            "Instant::now",
        ],
        message: "the model does no I/O",
    },
    Scope {
        rule: "neighbours",
        is_in: |path| path.starts_with("agent/src/lb/"),
        must_not_name: &["crate::policy", "crate::route"],
        message: "lb, policy and route do not know one another",
    },
    Scope {
        rule: "neighbours",
        is_in: |path| path.starts_with("agent/src/policy/"),
        must_not_name: &["crate::lb", "crate::route"],
        message: "lb, policy and route do not know one another",
    },
    Scope {
        rule: "neighbours",
        is_in: |path| path.starts_with("agent/src/route/"),
        must_not_name: &["crate::lb", "crate::policy"],
        message: "lb, policy and route do not know one another",
    },
    Scope {
        rule: "neighbours",
        is_in: |path| path.starts_with("agent/src/sys/"),
        must_not_name: &[
            "model::",
            "model_watch::",
            "k8s_openapi",
            "crate::desired",
            "crate::lb",
        ],
        message: "sys knows no Kubernetes",
    },
];

/// `desired`, `table`, and every image and plan.
fn is_pure(path: &str) -> bool {
    let Some(inside) = path.strip_prefix("agent/src/") else {
        return false;
    };
    let parts = || inside.trim_end_matches(".rs").split('/');
    let first = parts().next().unwrap_or_default();
    first == "desired"
        || first == "table"
        || (parts().count() > 1
            && parts().any(|part| part.starts_with("image") || part.starts_with("plan")))
}

/// The breaches in one file; its tests may do as they like.
pub(super) fn check(path: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if !path.ends_with(".rs") || path.ends_with("/tests.rs") || path.contains("/tests/") {
        return breaches;
    }
    for scope in SCOPES.iter().filter(|scope| (scope.is_in)(path)) {
        // A test module in the file is its end.
        let lines = text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        for (index, line) in lines.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for name in scope.must_not_name.iter().filter(|name| names(line, name)) {
                breaches.push(Breach {
                    path: path.to_owned(),
                    line: index + 1,
                    rule: scope.rule,
                    message: format!("`{name}`: {}", scope.message),
                });
            }
        }
    }
    breaches
}

/// Whether a line names a path: not as the end of a longer name, and within `use std::{…}` too.
fn names(line: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let plainly = line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        let ends = name.ends_with("::") || !after.is_some_and(is_part);
        ends && !before.is_some_and(is_part)
    });
    let grouped = || {
        let (root, item) = name.split_once("::")?;
        let group = line
            .trim()
            .strip_prefix("use ")?
            .strip_prefix(root)?
            .strip_prefix("::{")?;
        Some(group.split(|c: char| !is_part(c)).any(|part| part == item))
    };
    plainly || grouped().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::check as found;
    use crate::tidy::expect_breaches;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        expect_breaches(&found(path, text), path, text, expected);
    }

    #[test]
    fn pure_parts_do_not_act() {
        check("agent/src/desired/service.rs", "use std::net::IpAddr;", &[]);
        check(
            "agent/src/desired/service.rs",
            "use std::fs;",
            &[(1, "pure")],
        );
        check(
            "agent/src/desired/mod.rs",
            "use std::{fmt, fs};",
            &[(1, "pure")],
        );
        check(
            "agent/src/table.rs",
            "let now = Instant::now();",
            &[(1, "pure")],
        );
        check(
            "agent/src/lb/ebpf/image.rs",
            "//! tokio\nuse tokio::sync;",
            &[(2, "pure")],
        );
        check(
            "agent/src/lb/ebpf/image/phases.rs",
            "use crate::sys;",
            &[(1, "pure")],
        );

        check("agent/src/lb/ebpf/plan.rs", "use crate::system;", &[]);
        check("agent/src/lb/ebpf/maps.rs", "use crate::sys;", &[]);
        check("agent/src/desired/tests.rs", "use std::fs;", &[]);
        check(
            "agent/src/table.rs",
            "#[cfg(test)]\nmod tests { use std::fs; }",
            &[],
        );
    }

    #[test]
    fn parts_do_not_know_their_neighbours() {
        check(
            "agent/src/lb/mod.rs",
            "use crate::policy::Verdict;",
            &[(1, "neighbours")],
        );
        check(
            "agent/src/route/mod.rs",
            "use crate::lb;",
            &[(1, "neighbours")],
        );
        check(
            "agent/src/sys/map.rs",
            "use model::Service;",
            &[(1, "neighbours")],
        );
        check("agent/src/sys/map.rs", "use data_model::Service;", &[]);
        check("model/src/cluster.rs", "use std::fs;", &[(1, "model")]);
    }
}
