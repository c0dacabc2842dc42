//! Rules about single lines, whatever the part of the repository.

use super::Breach;

/// A text that may stand nowhere but in some places.
struct Banned {
    rule: &'static str,
    texts: &'static [&'static str],
    /// Endings of the files it concerns.
    files: &'static [&'static str],
    /// Where it is fine.
    except: &'static [&'static str],
    message: &'static str,
}

const BANNED: [Banned; 8] = [
    Banned {
        rule: "word",
        texts: &[
            "blazing",
            "comprehensive",
            "enhanced",
            "for now.",
            "for now;",
            "helper function",
            "in production this",
            "placeholder",
            "production-ready",
            "robust",
            "seamless",
            "seamlessly",
            "simplified",
        ],
        files: &["rs", "md", "toml", "yaml", "yml", "sh", "run"],
        except: &[],
        message: "says nothing, or that something is missing",
    },
    Banned {
        rule: "machine-path",
        texts: &["/work/", "/root/"],
        files: &["rs", "md", "toml", "yaml", "yml", "sh", "run"],
        except: &[],
        message: "a path of one machine",
    },
    Banned {
        rule: "registry-host",
        texts: &[
            "index.crates.io",
            "static.crates.io",
            "deb.debian.org",
            "security.debian.org",
            "pypi.org",
            "registry.npmjs.org",
        ],
        files: &["rs", "md", "toml", "yaml", "yml", "sh", "run"],
        except: &[],
        message: "where packages come from is the machine's own configuration",
    },
    Banned {
        rule: "command",
        texts: &["Command::new("],
        files: &["rs"],
        except: &[
            "agent/src/sys/",
            "confgen/src/apply/program.rs",
            "tests/",
            "xtask/src/run.rs",
        ],
        message: "programs are run in sys, xtask, tests and confgen's reload only",
    },
    Banned {
        rule: "unbounded",
        texts: &["unbounded_channel", "mpsc::unbounded("],
        files: &["rs"],
        except: &[],
        message: "a channel has a capacity, with a reason",
    },
    Banned {
        rule: "shared-lock",
        texts: &["Arc<Mutex", "Arc<RwLock"],
        files: &["rs"],
        except: &[],
        message: "one owner for each state; pass values over channels",
    },
    Banned {
        rule: "ignored-test",
        texts: &["#[ignore]"],
        files: &["rs"],
        except: &[],
        message: "say why: #[ignore = \"…\"]",
    },
    Banned {
        rule: "banner",
        texts: &[
            "// ====", "// ----", "//////", "// ####", "# ====", "# ----",
        ],
        files: &["rs", "toml", "sh", "run"],
        except: &[],
        message: "a module says this better than a banner",
    },
];

/// Conditions that a test must not answer with a return.
const SKIP_CONDITIONS: [&str; 6] = [
    "root",
    "geteuid",
    "env::var",
    "exists()",
    "available",
    "supported",
];

/// The breaches in one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Breach> {
    let ending = path.rsplit(['.', '/']).next().unwrap_or_default();
    let banned: Vec<&Banned> = BANNED
        .iter()
        .filter(|banned| banned.files.contains(&ending))
        .filter(|banned| !banned.except.iter().any(|place| path.starts_with(place)))
        .collect();
    let mut breaches = Vec::new();
    let mut breach = |index: usize, rule, message: String| {
        breaches.push(Breach {
            path: path.to_owned(),
            line: index + 1,
            rule,
            message,
        });
    };
    for (index, line) in text.lines().enumerate() {
        for banned in &banned {
            for found in banned.texts.iter().filter(|text| contains(line, text)) {
                breach(index, banned.rule, format!("`{found}`: {}", banned.message));
            }
        }
        if ["TODO", "FIXME", "XXX"]
            .iter()
            .any(|word| contains_word(line, word))
            && !line.contains('#')
        {
            breach(index, "todo", "name the issue: TODO(#1)".to_owned());
        }
        if line.chars().any(is_emoji) {
            breach(index, "emoji", "plain words".to_owned());
        }
    }
    if ending == "rs" {
        for index in silent_skips(path, text) {
            let message = "a test that cannot run fails, or is ignored with a reason";
            breach(index, "silent-skip", message.to_owned());
        }
    }
    breaches
}

/// Words without regard to case and as wholes; code as it is written, and not in a longer name.
fn contains(line: &str, text: &str) -> bool {
    if text
        .chars()
        .all(|c| c.is_lowercase() || c == ' ' || c == '-')
    {
        return contains_word(&line.to_lowercase(), text);
    }
    let begins_name = text.starts_with(is_of_name);
    line.match_indices(text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !(begins_name && before.is_some_and(is_of_name))
    })
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_of_name) && !after.is_some_and(is_of_name)
    })
}

fn is_emoji(c: char) -> bool {
    matches!(
        c,
        '\u{2705}' | '\u{274c}' | '\u{2728}' | '\u{1f300}'..='\u{1faff}'
    )
}

/// Lines of tests that return because of the machine they run on.
fn silent_skips(path: &str, text: &str) -> Vec<usize> {
    let is_suite = path.starts_with("tests/tests/") || path.ends_with("/tests.rs");
    let first_of_tests = match text.lines().position(|line| line.trim() == "#[cfg(test)]") {
        _ if is_suite => 0,
        Some(line) => line,
        None => return Vec::new(),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .enumerate()
        .skip(first_of_tests)
        .filter(|(_, pair)| {
            let asks = pair[0].starts_with("if ")
                && SKIP_CONDITIONS
                    .iter()
                    .any(|condition| pair[0].contains(condition));
            asks && (pair[1] == "return;" || pair[1] == "return Ok(());")
        })
        .map(|(index, _)| index)
        .collect()
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
    fn words_are_found_whole_and_in_any_case() {
        check("a.md", "A Robust thing.\nrobustness", &[(1, "word")]);
        check(
            "a.rs",
            "// Works for now.\n// before nowhere",
            &[(1, "word")],
        );
        check("a.json", "robust", &[]);
    }

    #[test]
    fn code_is_banned_outside_its_places() {
        check(
            "agent/src/reconcile.rs",
            "Command::new(\"ip\")",
            &[(1, "command")],
        );
        check("agent/src/sys/mount.rs", "Command::new(\"ip\")", &[]);
        check(
            "agent/src/a.rs",
            "x: Arc<Mutex<u8>>,\nmpsc::unbounded_channel()",
            &[(1, "shared-lock"), (2, "unbounded")],
        );
        check("docs/a.md", "see /root/x", &[(1, "machine-path")]);
        check(
            "Cargo.toml",
            "registry = \"https://index.crates.io/\"",
            &[(1, "registry-host")],
        );
        check("a.rs", "// ==========", &[(1, "banner")]);
        check("a.rs", "// TODO: more\n// TODO(#12): more", &[(1, "todo")]);
        check("a.md", "done \u{2705}", &[(1, "emoji")]);
    }

    #[test]
    fn tests_that_return_early_on_some_machines_are_found() {
        let body = "if !is_root() {\n    return;\n}";
        check("tests/tests/bpf/a.rs", body, &[(1, "silent-skip")]);
        check("agent/src/a.rs", body, &[]);
        check(
            "agent/src/a.rs",
            &format!("#[cfg(test)]\n{body}"),
            &[(2, "silent-skip")],
        );
        check(
            "tests/tests/bpf/a.rs",
            "#[ignore]\n#[ignore = \"slow\"]",
            &[(1, "ignored-test")],
        );
    }
}
