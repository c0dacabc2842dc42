//! The files of the checkout, and the rules about files as a whole.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Breach;
use crate::place;

const MOST_LINES: usize = 700;
const MANY_LINES: usize = 400;
/// Comments beside code, in percent of the lines that are not empty; more is narration.
const MOST_COMMENTS_PERCENT: usize = 8;
/// A few comments in a short file say nothing about it.
const FEW_COMMENTS: usize = 4;
/// Names under which unrelated things gather.
const DRAWERS: [&str; 10] = [
    "common", "helper", "helpers", "manager", "misc", "prelude", "shared", "types", "util", "utils",
];
/// What is read; anything else is data.
const ENDINGS: [&str; 6] = ["rs", "toml", "md", "yaml", "yml", "sh"];

/// A text file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// From the root of the checkout.
    pub(super) path: String,
    pub(super) text: String,
}

/// All files of the checkout that people write.
pub(super) fn read() -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(place::root(), &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(directory: &Path, files: &mut Vec<File>) -> Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("{}: cannot be listed", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" {
                walk(&path, files)?;
            }
            continue;
        }
        let of_interest = path
            .extension()
            .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        let relative = path.strip_prefix(place::root())?.display().to_string();
        if of_interest || relative == ".ci/run" {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("{relative}: cannot be read as text"))?;
            files.push(File {
                path: relative,
                text,
            });
        }
    }
    Ok(())
}

impl File {
    pub(super) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    pub(super) fn is_long(&self) -> bool {
        self.path.ends_with(".rs") && (MANY_LINES + 1..=MOST_LINES).contains(&self.lines())
    }

    pub(super) fn check(&self) -> Vec<Breach> {
        let mut breaches = Vec::new();
        let mut breach = |rule, message| {
            breaches.push(Breach {
                path: self.path.clone(),
                line: 0,
                rule,
                message,
            });
        };
        if self.path.ends_with(".rs") {
            if self.lines() > MOST_LINES {
                let lines = self.lines();
                breach(
                    "length",
                    format!("{lines} lines, at most {MOST_LINES}; split it"),
                );
            }
            let (comments, all) = (comment_lines(&self.text), full_lines(&self.text));
            if comments > FEW_COMMENTS && comments * 100 > all * MOST_COMMENTS_PERCENT {
                breach(
                    "comments",
                    format!(
                        "{comments} of {all} lines are comments, at most {MOST_COMMENTS_PERCENT} %; keep those with a reason"
                    ),
                );
            }
            let drawer = self
                .path
                .trim_end_matches(".rs")
                .split('/')
                .find(|part| DRAWERS.contains(part));
            if let Some(drawer) = drawer {
                breach("name", format!("{drawer}: put it with its concept"));
            }
        }
        if self.path.ends_with("Cargo.toml") && self.path != "Cargo.toml" {
            let has_lints = self.text.contains("\n[lints]\nworkspace = true\n");
            if !has_lints {
                breach("lints", "lacks `[lints] workspace = true`".to_owned());
            }
        }
        breaches
    }
}

fn full_lines(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

/// Lines of comments that are neither documentation nor the safety argument of a block.
fn comment_lines(text: &str) -> usize {
    let mut comments = 0;
    let mut is_argument = false;
    for line in text.lines().map(str::trim_start) {
        let is_comment =
            line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!");
        is_argument = is_comment
            && (is_argument
                || line.starts_with("// SAFETY:")
                || line.starts_with("// JUSTIFICATION:"));
        comments += usize::from(is_comment && !is_argument);
    }
    comments
}

#[cfg(test)]
mod tests {
    use super::File;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[&str]) {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let rules: Vec<&str> = file.check().iter().map(|breach| breach.rule).collect();
        assert_eq!(rules, expected, "{path}");
    }

    #[test]
    fn long_files_drawers_and_manifests_without_lints_are_found() {
        check("agent/src/table.rs", &"\n".repeat(700), &[]);
        check("agent/src/table.rs", &"\n".repeat(701), &["length"]);
        check("docs/long.md", &"\n".repeat(701), &[]);
        let narrated = "// Add one.\n\nx += 1;\n".repeat(5);
        check("agent/src/table.rs", &narrated, &["comments"]);
        check("agent/src/table.rs", &narrated[..narrated.len() / 5], &[]);
        let argued = "// SAFETY: x is valid,\n// as it was made here.\nx();\n".repeat(5);
        check("agent/src/sys/map.rs", &argued, &[]);
        check("agent/src/table.rs", &"/// One.\nx;\n".repeat(9), &[]);
        check("agent/src/utils.rs", "", &["name"]);
        check("agent/src/common/mod.rs", "", &["name"]);
        check("agent/src/commons.rs", "", &[]);
        check("Cargo.toml", "[workspace]\n", &[]);
        check(
            "agent/Cargo.toml",
            "[package]\n\n[lints]\nworkspace = true\n",
            &[],
        );
        check("agent/Cargo.toml", "[package]\n", &["lints"]);
    }
}
