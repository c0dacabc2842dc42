//! What a test says of rendered files: `[[output]]` of a `*.test.toml`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::diff;
use super::run::rendered;
use crate::config::Settings;
use crate::edge::EdgePlan;
use crate::output::Grammar;
use crate::targets::{Written, written};

/// One file of one output, and what it must be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    /// `haproxy`, `nginx`, or the `output` of a template.
    name: String,
    /// Name of the file, as `render` tells it; without it, the main one.
    file: Option<String>,
    /// Each of these is part of some line.
    #[serde(default)]
    contains: Vec<String>,
    /// None of these is part of any line.
    #[serde(default)]
    absent: Vec<String>,
    /// The file with the whole content.
    equals: Option<PathBuf>,
}

/// What was said, and how the files differ where they do.
pub(super) fn outcomes(
    expected: &[Expectation],
    settings: &Settings,
    plan: &EdgePlan,
    beside: &Path,
) -> Result<Vec<(String, Option<String>)>> {
    if expected.is_empty() {
        return Ok(Vec::new());
    }
    let outputs = written(settings)?;
    let each = expected
        .iter()
        .map(|expectation| expectation.outcomes(&outputs, plan, beside));
    Ok(each.collect::<Result<Vec<_>>>()?.concat())
}

impl Expectation {
    fn outcomes(
        &self,
        outputs: &[Written],
        plan: &EdgePlan,
        beside: &Path,
    ) -> Result<Vec<(String, Option<String>)>> {
        let Some(output) = outputs.iter().find(|output| output.name == self.name) else {
            let names = outputs.iter().map(|output| output.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            let failure = format!("there is none; outputs are {names}");
            return Ok(vec![(format!("output {}", self.name), Some(failure))]);
        };
        let (rendered, _) = rendered(&output.name, &output.renderer, plan)?;
        let name = self.file.as_ref().unwrap_or(&rendered.main);
        let what = |what: &str| format!("{} {name} {what}", self.name);
        let Some(file) = rendered.files.get(name) else {
            let names = rendered.files.keys().map(String::as_str);
            let names = names.collect::<Vec<_>>().join(", ");
            return Ok(vec![(
                what("is rendered"),
                Some(format!("files are {names}")),
            )]);
        };
        if file.grammar == Grammar::Pem {
            // A difference would show a key.
            let failure = "it is a certificate or a key, which is never shown".to_owned();
            return Ok(vec![(what("is compared"), Some(failure))]);
        }
        let text = String::from_utf8_lossy(&file.content);
        let mut found = Vec::new();
        for part in &self.contains {
            let is_there = text.lines().any(|line| line.contains(part));
            let failure = format!(
                "none of its {} lines does\n- {part}\n",
                text.lines().count()
            );
            found.push((
                what(&format!("has {part:?}")),
                (!is_there).then_some(failure),
            ));
        }
        for part in &self.absent {
            let mut lines = text.lines().zip(1..);
            let there = lines.find(|(line, _)| line.contains(part));
            let failure = there.map(|(line, number)| format!("line {number} has it\n+ {line}\n"));
            found.push((what(&format!("has no {part:?}")), failure));
        }
        if let Some(path) = &self.equals {
            let path = beside.join(path);
            let expected = std::fs::read_to_string(&path);
            let expected =
                expected.with_context(|| format!("equals {}: cannot be read", path.display()))?;
            let difference = diff::lines(&expected, &text);
            let failure = (!difference.is_empty()).then(|| format!("it differs\n{difference}"));
            found.push((what(&format!("is {}", path.display())), failure));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, outcomes};
    use crate::config;
    use crate::edge::EdgePlan;

    #[test]
    fn files_are_what_a_test_says_or_the_difference_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("t.tmpl"), "one\n{{ 1 + 1 }}\nthree\n").unwrap();
        std::fs::write(at.join("good"), "one\n2\nthree\n").unwrap();
        std::fs::write(at.join("bad"), "one\ntwo\nthree\n").unwrap();
        let here = at.display();
        let settings = config::parse(&format!(
            "[cluster]\nmanifests = \"/m\"\n[endpoints]\n[[templates]]\nfile = \"{here}/t.tmpl\"\n\
             output = \"{here}/none/out\"\ngrammar = \"plain\"\n"
        ))
        .unwrap();
        let check = |what: &str| {
            let text = format!("name = \"{here}/none/out\"\n{what}");
            let expectation: Expectation = toml::from_str(&text).unwrap();
            let plan = EdgePlan::default();
            let found = outcomes(&[expectation], &settings, &plan, at).unwrap();
            let failures = found.into_iter().filter_map(|(_, failure)| failure);
            failures.collect::<Vec<_>>().concat()
        };
        for (what, failure) in [
            ("contains = [\"hre\", \"2\"]", ""),
            (
                "contains = [\"four\"]",
                "none of its 3 lines does\n- four\n",
            ),
            ("absent = [\"four\"]", ""),
            ("absent = [\"thre\"]", "line 3 has it\n+ three\n"),
            ("equals = \"good\"", ""),
            (
                "equals = \"bad\"",
                "it differs\n  one\n- two\n+ 2\n  three\n",
            ),
            ("file = \"other\"\nabsent = [\"x\"]", "files are out"),
        ] {
            assert_eq!(check(what), failure, "{what}");
        }
        // Nothing is opened, so nothing is made where the output would be.
        assert!(!at.join("none").exists());
    }
}
