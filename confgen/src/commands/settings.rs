//! The configuration file of a command, and the cluster it is about.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use model::{Cluster, KindSet};
use model_watch::Source;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::show;
use crate::config::{self, ClusterSource, Settings};
use crate::edge::{EdgePlan, compile, kinds};
use crate::follow;
use crate::outside;

/// Where a configuration is that is not named.
pub(super) const DEFAULT_CONFIG: &str = "/etc/fairlead/confgen.toml";

/// Flags of every command that reads a configuration.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// Configuration file
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = DEFAULT_CONFIG
    )]
    pub(super) config: PathBuf,
    /// Directory of Kubernetes YAML, in place of what the configuration says
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// Give up when the cluster is not known in full by then
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_seconds: u64,
}

impl Common {
    /// Reads the file.
    pub(super) fn settings(&self) -> Result<Settings> {
        let mut settings = read(&self.config)?;
        if let Some(directory) = &self.manifests {
            settings.cluster = ClusterSource::Manifests(directory.clone());
        }
        let beside = self.config.parent().unwrap_or(Path::new(""));
        for (template, _) in &mut settings.outputs.templates {
            for path in [&mut template.file, &mut template.directory]
                .into_iter()
                .flatten()
            {
                *path = beside.join(&*path);
            }
        }
        Ok(settings)
    }

    /// The cluster, once every kind that matters has been listed.
    pub(super) async fn cluster(&self, settings: &Settings) -> Result<Cluster> {
        let kinds = kinds(&settings.edge);
        complete(settings.cluster.source(), &kinds, self.wait_seconds).await
    }

    /// Settings, and the plan of the cluster as it is now.
    pub(super) async fn plan(&self) -> Result<(Settings, EdgePlan)> {
        let mut settings = self.settings()?;
        outside::look_up(&mut settings.edge.outside).await;
        let cluster = self.cluster(&settings).await?;
        let mut plan = compile(&cluster, &settings.edge);
        follow::with_problems_of(&cluster, &mut plan);
        Ok((settings, plan))
    }
}

/// Reads a configuration file.
pub(super) fn read(path: &Path) -> Result<Settings> {
    let file = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{file}: cannot be read; name another with --config"))?;
    config::parse(&text).with_context(|| format!("{file} is not in order"))
}

/// A configuration file, and the plan of it and a directory of manifests.
pub(super) async fn planned(config: &Path, manifests: &Path) -> Result<(Settings, EdgePlan)> {
    let common = Common {
        config: config.to_owned(),
        manifests: Some(manifests.to_owned()),
        wait_seconds: 30,
    };
    common.plan().await
}

/// The cluster, once every kind has been listed.
pub(super) async fn complete(
    source: Source,
    kinds: &KindSet,
    wait_seconds: u64,
) -> Result<Cluster> {
    let cancel = CancellationToken::new();
    let (sender, mut events) = mpsc::channel(follow::EVENTS);
    let source = tokio::spawn(model_watch::run(
        source,
        kinds.clone(),
        sender,
        cancel.clone(),
    ));
    let mut cluster = Cluster::default();
    let listed = follow::complete(&mut cluster, kinds, &mut events);
    let patience = Duration::from_secs(wait_seconds);
    if tokio::time::timeout(patience, listed).await.is_err() {
        let states = show::states(&cluster);
        bail!("not every kind was listed in {wait_seconds} s:\n{states}");
    }
    cancel.cancel();
    drop(events);
    let ended = source.await.context("the source panicked; this is a bug")?;
    if !cluster.is_synced(kinds) {
        ended?;
        bail!("the source ended before every kind was listed");
    }
    Ok(cluster)
}
