//! `fairlead-confgen`: the companion of the agent on edge nodes.
//!
//! This build shows the watched model as the process sees it, Endpoints annotations included; it
//! renders nothing.

mod show;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use model::{Cluster, Kind, KindSet};
use model_watch::{Source, kube_source};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Shows the watched cluster model. Rendering of HAProxy, nginx and DNS is not in this build.
#[derive(Debug, Parser)]
#[command(name = "fairlead-confgen", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the objects of the model, their counts and what is wrong with them
    Model {
        /// Directory of Kubernetes YAML
        #[arg(long, value_name = "DIR", conflicts_with_all = ["master", "kubeconfig"])]
        manifests: Option<PathBuf>,
        /// URL of an API server; several are tried in order
        #[arg(long, value_name = "URL", value_delimiter = ',')]
        master: Vec<String>,
        /// Kubeconfig with the API server and credentials
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
        /// Watch Secrets too; their values are never shown
        #[arg(long)]
        secrets: bool,
        /// Give up when the model is not complete by then
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait_seconds: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Command::Model {
        manifests,
        master,
        kubeconfig,
        secrets,
        wait_seconds,
    } = Arguments::parse().command;
    let source = match manifests {
        Some(directory) => Source::Manifests { directory },
        None => Source::Kube(kube_source::Options {
            master,
            kubeconfig,
            ..Default::default()
        }),
    };
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| secrets || *kind != Kind::Secret)
        .collect();
    match model(source, kinds, Duration::from_secs(wait_seconds)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("fairlead-confgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the model once every kind has been listed.
async fn model(source: Source, kinds: KindSet, patience: Duration) -> Result<()> {
    let cancel = CancellationToken::new();
    let (sender, mut events) = mpsc::channel(256);
    let mut source = tokio::spawn(model_watch::run(
        source,
        kinds.clone(),
        sender,
        cancel.clone(),
    ));
    let mut cluster = Cluster::default();
    let complete = async {
        while let Some(event) = events.recv().await {
            cluster.apply(event);
            if cluster.is_synced(&kinds) {
                return true;
            }
        }
        false
    };
    match tokio::time::timeout(patience, complete).await {
        Ok(true) => {}
        Ok(false) => return Ok((&mut source).await??),
        Err(_) => bail!(
            "not every kind was listed in {} s:\n{}",
            patience.as_secs(),
            show::states(&cluster)
        ),
    }
    cancel.cancel();
    source
        .await
        .context("the source panicked; this is a bug")??;
    Ok(anstream::stdout().write_all(show::model(&cluster, &kinds).as_bytes())?)
}
