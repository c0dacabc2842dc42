//! `fairlead-confgen run | apply | render`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::model::print;
use super::settings::Common;
use crate::config::Settings;
use crate::edge::EdgePlan;
use crate::output::Rendered;
use crate::serve::saved::SavedPlan;
use crate::serve::{self, Once};
use crate::targets::{Renderer, written};

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

/// Logs to standard error. Where something logs already, it goes on as it is.
pub(super) fn log(is_json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let begun = if is_json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    if let Err(error) = begun {
        tracing::debug!(%error, "the log is another's");
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    common: Common,
    /// Apply though more would vanish at once than `apply.max_shrink_percent` lets
    #[arg(long)]
    force: bool,
    /// Apply only what this plan of `plan --save` says; end with status 3 where the cluster, the
    /// configuration or the files on disk changed since
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Give up when not everything is live by then
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience_seconds: u64,
}

impl Apply {
    pub(super) async fn run(self) -> Result<()> {
        log(false);
        let plan = self.plan.as_deref().map(saved).transpose()?;
        let once = Once {
            patience: Duration::from_secs(self.patience_seconds),
            is_forced: self.force,
            plan,
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

fn saved(file: &Path) -> Result<SavedPlan> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("--plan {}: cannot be read", file.display()))?;
    SavedPlan::parse(&text).with_context(|| format!("--plan {}", file.display()))
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
        for target in written(&settings)? {
            let (rendered, problems) = rendered(&target.name, &target.renderer, &plan)?;
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

/// The files of an output, and what is done otherwise than the plan says.
pub(super) fn rendered(
    output: &str,
    renderer: &Renderer,
    plan: &EdgePlan,
) -> Result<(Rendered, Vec<model::Problem>)> {
    let rendered = renderer.render(plan).map_err(anyhow::Error::msg);
    rendered.with_context(|| format!("output {output}"))
}
