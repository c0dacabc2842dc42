//! `fairlead-confgen run | apply | render | plan`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::model::{Output, print};
use super::settings::Common;
use crate::apply::files::Stored;
use crate::config::Settings;
use crate::edge::EdgePlan;
use crate::haproxy::runtime::{Change, Image, Leaving, changes};
use crate::output::Rendered;
use crate::serve::{self, Once};
use crate::targets::{Target, targets};

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    common: Common,
    /// Log as JSON, a line a message
    #[arg(long)]
    log_json: bool,
}

impl Run {
    pub(super) async fn run(self) -> Result<()> {
        follow(self.common.settings()?, self.log_json).await
    }
}

/// Runs until it is told to end.
pub(super) async fn follow(settings: Settings, is_json: bool) -> Result<()> {
    log(is_json);
    let cancel = CancellationToken::new();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    serve::run(settings, None, cancel).await
}

fn log(is_json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if is_json {
        builder.json().init();
    } else {
        builder.init();
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    common: Common,
    /// Apply though more would vanish at once than `apply.max_shrink_percent` lets
    #[arg(long)]
    force: bool,
    /// Give up when not everything is live by then
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience_seconds: u64,
}

impl Apply {
    pub(super) async fn run(self) -> Result<()> {
        log(false);
        let once = Once {
            patience: Duration::from_secs(self.patience_seconds),
            is_forced: self.force,
        };
        serve::run(
            self.common.settings()?,
            Some(once),
            CancellationToken::new(),
        )
        .await?;
        print("live\n")
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Render {
    #[command(flatten)]
    common: Common,
    /// Write files below this directory, in place of standard output
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Render {
    pub(super) async fn run(self) -> Result<()> {
        let (settings, plan) = self.common.plan().await?;
        for target in targets(&settings)? {
            let (rendered, problems) = rendered(&target, &plan)?;
            for problem in problems.iter().chain(plan.problems.iter()) {
                anstream::eprintln!("! {problem}");
            }
            for (name, file) in &rendered.files {
                let Some(directory) = &self.to else {
                    let text = if file.is_private && *name != rendered.main {
                        // Keys are never shown; --to writes them.
                        "(private)\n".into()
                    } else {
                        String::from_utf8_lossy(&file.content)
                    };
                    print(&format!("--- {} {name}\n{text}", target.name))?;
                    continue;
                };
                let path = directory
                    .join(target.name.trim_start_matches('/'))
                    .join(name);
                let parent = path.parent().unwrap_or(directory);
                std::fs::create_dir_all(parent)?;
                std::fs::write(&path, &file.content)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
            }
        }
        Ok(())
    }
}

fn rendered(target: &Target, plan: &EdgePlan) -> Result<(Rendered, Vec<model::Problem>)> {
    let rendered = target.renderer.render(plan).map_err(anyhow::Error::msg);
    rendered.with_context(|| format!("output {}", target.name))
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    common: Common,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Plan {
    pub(super) async fn run(self) -> Result<()> {
        let (settings, plan) = self.common.plan().await?;
        for target in targets(&settings)? {
            let (next, _) = rendered(&target, &plan)?;
            let store = &target.settings.store;
            let known = match store.current() {
                Stored::Good(manifest) => store.read(&manifest),
                Stored::Nothing | Stored::Corrupt(_) => None,
            };
            let known = known.unwrap_or_default();
            let what = changed(&target, &known, &next, &plan);
            let text = match self.output {
                Output::Json => format!(
                    "{}\n",
                    json!({"output": target.name, "files": files(&known, &next), "change": what})
                ),
                Output::Table => {
                    let files = files(&known, &next).into_iter();
                    let lines = files
                        .map(|(name, (less, more))| format!("  {name}  -{less} +{more} lines\n"));
                    format!("{}: {what}\n{}", target.name, lines.collect::<String>())
                }
            };
            print(&text)?;
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

/// Lines that go and lines that come, by file.
fn files(known: &Rendered, next: &Rendered) -> std::collections::BTreeMap<String, (usize, usize)> {
    let lines = |rendered: &Rendered, name: &str| -> std::collections::BTreeSet<Vec<u8>> {
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
