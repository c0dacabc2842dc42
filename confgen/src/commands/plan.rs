//! `fairlead-confgen plan`: what would change, to read or to keep for `apply --plan`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::diff;
use super::model::{Output, print};
use super::run::rendered;
use super::settings::Common;
use crate::apply::files::Stored;
use crate::edge::EdgePlan;
use crate::haproxy::runtime::{Cause, Change, Command, Image, Leaving, changes};
use crate::output::{File, Grammar, Rendered};
use crate::serve::saved::{Planned, SavedPlan};
use crate::targets::{Target, targets};

/// Lines of a file's difference that people are shown.
const MOST_LINES: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    common: Common,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Keep the plan in this file too, for `apply --plan FILE`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Plan {
    pub(super) async fn run(self) -> Result<()> {
        let (settings, plan) = self.common.plan().await?;
        let targets = targets(&settings)?;
        let mut saved = SavedPlan::new(&settings, &targets, &plan)?;
        for target in &targets {
            let (next, _) = rendered(&target.name, &target.renderer, &plan)?;
            let store = &target.settings.store;
            let known = match store.current() {
                Stored::Good(manifest) => store.read(&manifest),
                Stored::Nothing | Stored::Corrupt(_) => None,
            };
            let known = known.unwrap_or_default();
            let what = changed(target, &known, &next, &plan);
            let files = files(&known, &next);
            let lines: BTreeMap<&str, String> = files
                .keys()
                .map(|name| (name.as_str(), differing(&known, &next, name)))
                .collect();
            let text = match self.output {
                Output::Json => format!(
                    "{}\n",
                    json!({
                        "output": target.name, "files": files, "lines": lines,
                        "change": what.sentence, "reload": what.is_reload,
                        "causes": what.causes, "commands": what.commands,
                    })
                ),
                Output::Table => {
                    let each = files.iter().map(|(name, (less, more))| {
                        let lines = beginning(lines.get(name.as_str()).map_or("", |l| l));
                        format!("  {name}  -{less} +{more} lines\n{lines}")
                    });
                    let files: String = each.collect();
                    format!(
                        "{}: {}\n{files}{}",
                        target.name,
                        what.sentence,
                        what.listed()
                    )
                }
            };
            saved.note(
                &target.name,
                Planned {
                    change: what.sentence,
                    files,
                },
            );
            print(&text)?;
        }
        if let Some(file) = &self.save {
            let text = serde_json::to_string_pretty(&saved)? + "\n";
            std::fs::write(file, text)
                .with_context(|| format!("--save {}: cannot be written", file.display()))?;
        }
        Ok(())
    }
}

/// What going from one set of files to the other needs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needed {
    sentence: String,
    is_reload: bool,
    causes: Vec<Cause>,
    /// Lines of the runtime socket, of certificates their digests alone.
    commands: Vec<String>,
}

impl Needed {
    fn reload(sentence: &str) -> Self {
        Self {
            sentence: sentence.to_owned(),
            is_reload: true,
            ..Self::default()
        }
    }

    fn nothing(sentence: &str) -> Self {
        Self {
            sentence: sentence.to_owned(),
            ..Self::default()
        }
    }

    /// Causes and commands, a line each.
    fn listed(&self) -> String {
        let cause = |cause: &Cause| {
            let by = cause
                .origin
                .as_ref()
                .map(|by| format!(", asked for by {by}"));
            format!("{}{}\n", cause.what, by.unwrap_or_default())
        };
        let section = |name: &str, lines: String| match lines.is_empty() {
            true => String::new(),
            false => format!("  {name}\n{}", beginning(&lines)),
        };
        let commands = self.commands.iter().map(|line| format!("{line}\n"));
        section("causes", self.causes.iter().map(cause).collect())
            + &section("runtime commands", commands.collect())
    }
}

fn changed(target: &Target, known: &Rendered, next: &Rendered, plan: &EdgePlan) -> Needed {
    if known.files == next.files {
        return Needed::nothing("nothing changes");
    }
    if known.files.is_empty() {
        return Needed::reload("all of it is new; a reload");
    }
    if target.name != "haproxy" {
        return Needed::reload("the files change; a reload");
    }
    let none = EdgePlan::default();
    let old = Image {
        plan: &none,
        rendered: known,
    };
    let new = Image {
        plan,
        rendered: next,
    };
    match changes(old, new, &Leaving::default()) {
        Change::Nothing => Needed::nothing("nothing changes for the process"),
        Change::Runtime(commands) => Needed {
            sentence: format!("no reload: {} runtime commands", commands.len()),
            commands: commands.iter().flat_map(Command::shown).collect(),
            ..Needed::default()
        },
        Change::Reload { causes } => {
            let first = causes.iter().map(|cause| cause.what.clone()).take(3);
            let first = first.collect::<Vec<_>>().join("; ");
            Needed {
                causes,
                ..Needed::reload(&format!("a reload, because of {first}"))
            }
        }
    }
}

/// The lines of a file that differ, as [`diff::lines`]; none of one that only its owner may read, but for
/// the proxies' own configurations: of keys and passwords they hold hashes, which are left out.
fn differing(known: &Rendered, next: &Rendered, name: &str) -> String {
    let both = [known, next].map(|rendered| rendered.files.get(name));
    let is_shown = |grammar| matches!(grammar, Grammar::Haproxy | Grammar::Nginx);
    let is_secret = |file: &&Arc<File>| file.is_private && !is_shown(file.grammar);
    if both.iter().flatten().any(is_secret) {
        return String::new();
    }
    let [old, new] = both.map(|file| {
        let content = file.map(|file| file.content.as_slice());
        String::from_utf8_lossy(content.unwrap_or_default())
    });
    let lines = diff::lines(&old, &new);
    let shown = lines.lines().map(|line| {
        let secret = [" password ", " secure_link ", " secure_link_md5 "].into_iter();
        let cut = secret.filter_map(|word| Some(line.find(word)? + word.len()));
        match cut.min().and_then(|at| line.get(..at)) {
            Some(beginning) => format!("{beginning}…\n"),
            None => format!("{line}\n"),
        }
    });
    shown.collect()
}

/// The first lines of a difference, indented.
fn beginning(lines: &str) -> String {
    let mut text: String = lines
        .lines()
        .take(MOST_LINES)
        .map(|line| format!("    {line}\n"))
        .collect();
    let more = lines.lines().count().saturating_sub(MOST_LINES);
    if more > 0 {
        text += &format!("    … and {more} lines more: --output json has them all\n");
    }
    text
}

/// Lines that go and lines that come, by file.
fn files(known: &Rendered, next: &Rendered) -> BTreeMap<String, (usize, usize)> {
    let lines = |rendered: &Rendered, name: &str| -> BTreeSet<Vec<u8>> {
        let content = rendered.files.get(name).map(|file| file.content.as_slice());
        let lines = content.unwrap_or_default().split(|byte| *byte == b'\n');
        lines.map(<[u8]>::to_vec).collect()
    };
    let names = known.files.keys().chain(next.files.keys());
    let each = names.filter_map(|name| {
        let (old, new) = (lines(known, name), lines(next, name));
        let counts = (old.difference(&new).count(), new.difference(&old).count());
        (known.files.get(name) != next.files.get(name)).then(|| (name.clone(), counts))
    });
    each.collect()
}
