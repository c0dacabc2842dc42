//! `fairlead-confgen plan`: what would change, to read or to keep for `apply --plan`.

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
use crate::haproxy::runtime::{Change, Image, Leaving, changes};
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
                    json!({"output": target.name, "files": files, "lines": lines, "change": what})
                ),
                Output::Table => {
                    let each = files.iter().map(|(name, (less, more))| {
                        let lines = beginning(lines.get(name.as_str()).map_or("", |l| l));
                        format!("  {name}  -{less} +{more} lines\n{lines}")
                    });
                    format!("{}: {what}\n{}", target.name, each.collect::<String>())
                }
            };
            saved.note(
                &target.name,
                Planned {
                    change: what,
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

/// What going from one to the other needs, in a sentence.
fn changed(target: &Target, known: &Rendered, next: &Rendered, plan: &EdgePlan) -> String {
    if known.files == next.files {
        return "nothing changes".to_owned();
    }
    if known.files.is_empty() {
        return "all of it is new; a reload".to_owned();
    }
    if target.name != "haproxy" {
        return "the files change; a reload".to_owned();
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
        Change::Nothing => "nothing changes for the process".to_owned(),
        Change::Runtime(commands) => format!("no reload: {} runtime commands", commands.len()),
        Change::Reload { causes } => {
            let causes = causes.iter().map(|cause| cause.what.clone());
            format!(
                "a reload, because of {}",
                causes.take(3).collect::<Vec<_>>().join("; ")
            )
        }
    }
}

/// The lines of a file that differ, as [`diff::lines`]; none of one that only its owner may read, but for
/// HAProxy's configuration: keys are in lists of their own, and hashes of passwords are left out.
fn differing(known: &Rendered, next: &Rendered, name: &str) -> String {
    let both = [known, next].map(|rendered| rendered.files.get(name));
    let is_secret = |file: &&Arc<File>| file.is_private && file.grammar != Grammar::Haproxy;
    if both.iter().flatten().any(is_secret) {
        return String::new();
    }
    let [old, new] = both.map(|file| {
        let content = file.map(|file| file.content.as_slice());
        String::from_utf8_lossy(content.unwrap_or_default())
    });
    let lines = diff::lines(&old, &new);
    let shown = lines
        .lines()
        .map(|line| match line.split_once(" password ") {
            Some((user, _)) => format!("{user} password …\n"),
            None => format!("{line}\n"),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::Parser as _;

    use std::sync::Arc;

    use super::{beginning, differing};
    use crate::commands::{Arguments, run, status_of};
    use crate::output::{File, Grammar, Rendered};

    const SERVICE: &str = "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web\n  \
        namespace: shop\n  annotations: {domain: shop.example, proto: http}\n\
        subsets:\n- addresses: [{ip: 10.0.0.1}]\n  ports: [{port: 80}]\n";

    fn edge() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let here = directory.path().display();
        fs::create_dir(at("m")).unwrap();
        fs::write(at("m/web.yaml"), SERVICE).unwrap();
        fs::write(
            at("t.tmpl"),
            "{% for domain in domains %}{{ domain }}\n{% endfor %}",
        )
        .unwrap();
        let config = format!(
            "[cluster]\nmanifests = \"{here}/m\"\n[endpoints]\n[[templates]]\n\
             file = \"{here}/t.tmpl\"\noutput = \"{here}/out\"\ngrammar = \"plain\"\n"
        );
        fs::write(at("c.toml"), config).unwrap();
        directory
    }

    async fn typed(directory: &Path, words: &[&str]) -> Result<(), (u8, String)> {
        let config = directory.join("c.toml").display().to_string();
        let plan = directory.join("p.json").display().to_string();
        let words = words.iter().map(|word| word.replace("PLAN", &plan));
        let all = ["fairlead-confgen".to_owned()].into_iter().chain(words);
        let all = all.chain(["--config".to_owned(), config]);
        let done = run(Arguments::try_parse_from(all).unwrap()).await;
        done.map_err(|error| (status_of(&error), format!("{error:#}")))
    }

    #[test]
    fn lines_are_shown_but_no_secrets_and_not_thousands() {
        let of = |text: &str| {
            let kinds = [("haproxy.cfg", Grammar::Haproxy), ("keys", Grammar::Map)];
            let files = kinds.map(|(name, grammar)| {
                let file = File {
                    content: text.into(),
                    grammar,
                    is_private: true,
                };
                (name.to_owned(), Arc::new(file))
            });
            Rendered {
                files: files.into(),
                ..Rendered::default()
            }
        };
        let (old, new) = (of("a\nb\n"), of("a\nuser u password h\n"));
        let shown = "  a\n- b\n+ user u password …\n";
        assert_eq!(differing(&old, &new, "haproxy.cfg"), shown);
        assert_eq!(differing(&old, &new, "keys"), "");
        let shown = beginning(&"+ x\n".repeat(1000));
        assert_eq!(shown.lines().count(), 61);
        assert!(shown.ends_with("and 940 lines more: --output json has them all\n"));
    }

    #[tokio::test]
    async fn a_saved_plan_is_applied_as_long_as_nothing_moved() {
        let edge = edge();
        let at = |name: &str| edge.path().join(name);
        typed(edge.path(), &["plan", "--save", "PLAN"])
            .await
            .unwrap();
        let saved = fs::read_to_string(at("p.json")).unwrap();
        assert!(saved.contains("all of it is new"), "{saved}");
        assert!(!at("out").exists());
        typed(edge.path(), &["apply", "--plan", "PLAN"])
            .await
            .unwrap();
        let live = fs::read_to_string(at("out")).unwrap();
        assert!(live.contains("shop.example"), "{live}");
        // The files are not what they were when the plan was made.
        let again = typed(edge.path(), &["apply", "--plan", "PLAN"]).await;
        let (status, why) = again.unwrap_err();
        assert_eq!(status, 3);
        assert!(why.contains("the files of output"), "{why}");
    }

    #[tokio::test]
    async fn a_saved_plan_is_refused_when_the_cluster_or_the_configuration_moved() {
        let edge = edge();
        let at = |name: &str| edge.path().join(name);
        typed(edge.path(), &["plan", "--save", "PLAN"])
            .await
            .unwrap();
        let moved = SERVICE.replace("shop.example", "other.example");
        fs::write(at("m/web.yaml"), moved).unwrap();
        let (status, why) = typed(edge.path(), &["apply", "--plan", "PLAN"])
            .await
            .unwrap_err();
        assert_eq!(status, 3);
        assert!(why.contains("the cluster"), "{why}");
        assert!(!at("out").exists());
        // An object that no convention reads is none of the plan's business.
        fs::write(at("m/web.yaml"), SERVICE).unwrap();
        let other = SERVICE.replace("name: web", "name: other");
        let other = other.replace("{domain: shop.example, proto: http}", "{}");
        fs::write(at("m/other.yaml"), other).unwrap();
        let config = fs::read_to_string(at("c.toml")).unwrap();
        fs::write(
            at("c.toml"),
            format!("{config}[apply]\nmax_shrink_percent = 51\n"),
        )
        .unwrap();
        let (status, why) = typed(edge.path(), &["apply", "--plan", "PLAN"])
            .await
            .unwrap_err();
        assert_eq!(status, 3);
        assert!(why.contains("the configuration"), "{why}");
        fs::write(at("c.toml"), config).unwrap();
        typed(edge.path(), &["apply", "--plan", "PLAN"])
            .await
            .unwrap();
        // A plan that cannot be read is a mistake, and no move.
        fs::write(at("p.json"), "{}").unwrap();
        let (status, why) = typed(edge.path(), &["apply", "--plan", "PLAN"])
            .await
            .unwrap_err();
        assert_eq!(status, 1);
        assert!(why.contains("p.json"), "{why}");
    }
}
