//! `fairlead-confgen`: the companion of the agent on edge nodes.
//!
//! This build shows the watched model as the process sees it, Endpoints annotations included; it
//! renders nothing. The text is made in [`show`].

mod show;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use model::k8s::Detail;
use model::{Cluster, Event, Kind, KindSet};
use model_watch::{Source, kube_source};
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::sync::CancellationToken;

/// A change of one file is several events; a person wants to see what came of all of them.
const QUIET: Duration = Duration::from_millis(50);

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
    Model(ModelArguments),
}

#[derive(Debug, clap::Args)]
struct ModelArguments {
    /// Directory of Kubernetes YAML
    #[arg(long, value_name = "DIR", conflicts_with_all = ["master", "kubeconfig"])]
    manifests: Option<PathBuf>,
    /// URL of an API server; several are tried in order
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    master: Vec<String>,
    /// Kubeconfig with the API server and credentials; without it, those of the Pod
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Kinds to watch [default: all but Secret, whose values are never shown]
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kinds: Vec<Kind>,
    /// Form of the output; with --watch, JSON is one document a line
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Print it again whenever it changes, until interrupted
    #[arg(long)]
    watch: bool,
    /// Give up when the model is not complete by then
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("kinds: {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Command::Model(arguments) = Arguments::parse().command;
    match model(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("fairlead-confgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the model once every kind has been listed, and with `watch` after each change.
async fn model(arguments: ModelArguments) -> Result<()> {
    let ModelArguments {
        manifests,
        master,
        kubeconfig,
        kinds,
        output,
        watch,
        wait_seconds,
    } = arguments;
    let source = match manifests {
        Some(directory) => Source::Manifests {
            directory,
            detail: Detail::Edge,
        },
        None => Source::Kube(kube_source::Options {
            master,
            kubeconfig,
            detail: Detail::Edge,
            ..Default::default()
        }),
    };
    let kinds: KindSet = if kinds.is_empty() {
        let of_all = Kind::ALL.into_iter();
        of_all.filter(|kind| *kind != Kind::Secret).collect()
    } else {
        kinds.into_iter().collect()
    };
    let cancel = CancellationToken::new();
    let (sender, mut events) = mpsc::channel(256);
    let source = tokio::spawn(model_watch::run(
        source,
        kinds.clone(),
        sender,
        cancel.clone(),
    ));
    let mut cluster = Cluster::default();
    let patience = Duration::from_secs(wait_seconds);
    let listed = tokio::time::timeout(patience, complete(&mut cluster, &kinds, &mut events)).await;
    if listed.is_err() {
        bail!(
            "not every kind was listed in {wait_seconds} s:\n{}",
            show::states(&cluster)
        );
    }
    // Where the source has ended before all was listed, its error is the answer below.
    if cluster.is_synced(&kinds) {
        let mut shown = text(&cluster, &kinds, output, watch)?;
        print(&shown)?;
        while watch && settle(&mut cluster, &mut events).await {
            let now = text(&cluster, &kinds, output, watch)?;
            if now != shown {
                print(&now)?;
                shown = now;
            }
        }
    }
    cancel.cancel();
    source
        .await
        .context("the source panicked; this is a bug")??;
    Ok(())
}

/// Applies events until every kind has been listed, or the source has ended.
async fn complete(cluster: &mut Cluster, kinds: &KindSet, events: &mut Receiver<Event>) {
    while !cluster.is_synced(kinds) {
        match events.recv().await {
            Some(event) => cluster.apply(event),
            None => return,
        }
    }
}

/// Applies the next events, up to a pause; whether there were any.
async fn settle(cluster: &mut Cluster, events: &mut Receiver<Event>) -> bool {
    let Some(event) = events.recv().await else {
        return false;
    };
    cluster.apply(event);
    while let Ok(Some(event)) = tokio::time::timeout(QUIET, events.recv()).await {
        cluster.apply(event);
    }
    true
}

fn text(cluster: &Cluster, kinds: &KindSet, output: Output, watch: bool) -> Result<String> {
    Ok(match output {
        Output::Table => show::table(cluster, kinds),
        Output::Json if watch => format!("{}\n", show::json(cluster, kinds)),
        Output::Json => format!(
            "{}\n",
            serde_json::to_string_pretty(&show::json(cluster, kinds))?
        ),
    })
}

fn print(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use model::Kind;

    use super::{Arguments, Command};

    #[test]
    fn kinds_are_named_as_in_manifests() {
        for (value, expected) in [
            ("Service", Ok(vec![Kind::Service])),
            ("service,Secret", Ok(vec![Kind::Service, Kind::Secret])),
            ("Ingres", Err("kinds: Service, EndpointSlice")),
        ] {
            let parsed = Arguments::try_parse_from(["fairlead-confgen", "model", "--kind", value]);
            match (parsed, expected) {
                (
                    Ok(Arguments {
                        command: Command::Model(model),
                    }),
                    Ok(kinds),
                ) => {
                    assert_eq!(model.kinds, kinds, "{value}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (parsed, _) => panic!("{value}: {parsed:?}"),
            }
        }
    }
}
