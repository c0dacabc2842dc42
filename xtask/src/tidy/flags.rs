//! The agent's flags in manifests and documents.
//!
//! What exists is in docs/flags.md, which a test of the agent compares with its arguments.

use super::Breach;
use super::files::File;

const LIST: &str = "docs/flags.md";
const AGENT: &str = "fairlead-agent";
/// Those of `status` and `services`, and of every program.
const ELSEWHERE: [&str; 3] = ["--output", "--help", "--version"];

/// The flags that the agent does not know.
pub(super) fn check(files: &[File]) -> Vec<Breach> {
    let known = files
        .iter()
        .find(|file| file.path == LIST)
        .map(|file| listed(&file.text))
        .unwrap_or_default();
    files
        .iter()
        .flat_map(|file| unknown(&file.path, &file.text, &known))
        .collect()
}

/// The flags of the tables: the first cell of a row is `--flag VALUE`.
fn listed(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .filter_map(|rest| rest.split(['`', ' ']).next())
        .collect()
}

fn unknown(path: &str, text: &str, known: &[&str]) -> Vec<Breach> {
    let of_interest = |line: &str| {
        let line = line.trim_start();
        if path.starts_with("deploy/") && path.ends_with(".yaml") {
            line.starts_with("- --")
        } else {
            path.ends_with(".md") && line.starts_with(AGENT)
        }
    };
    let mut breaches = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| of_interest(line))
    {
        let code = line.split(" # ").next().unwrap_or_default();
        let flags = code
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .filter_map(|word| word.split('=').next());
        for flag in flags {
            if !known.contains(&flag.trim_start_matches("--")) && !ELSEWHERE.contains(&flag) {
                breaches.push(Breach {
                    path: path.to_owned(),
                    line: index + 1,
                    rule: "flag",
                    message: format!("{AGENT} has no {flag}; its flags are in {LIST}"),
                });
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::check as found;
    use crate::tidy::files::File;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[usize]) {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let list =
            "| flag | default |\n|---|---|\n| `--master URL` |  |\n| `--dry-run` | false |\n";
        let breaches = found(&[file("docs/flags.md", list), file(path, text)]);
        let lines: Vec<usize> = breaches.iter().map(|breach| breach.line).collect();
        assert_eq!(lines, expected, "{path}: {text}");
    }

    #[test]
    fn flags_that_the_agent_does_not_know_are_found() {
        check("deploy/a.yaml", "- --master=https://x\n- --mastre=y", &[2]);
        check("deploy/a.yaml", "- --=x", &[1]);
        check(
            "README.md",
            "fairlead-agent --master x --dryrun # --any\ncargo --any",
            &[1],
        );
        check("README.md", "fairlead-agent status --output json", &[]);
    }
}
