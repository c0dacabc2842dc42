//! `fairlead-confgen model`: the watched objects as the process sees them.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use model::k8s::Detail;
use model::{Cluster, Kind, KindSet};
use model_watch::{Source, kube_source};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::show;
use crate::follow;

/// A change of one file is several events; a person wants to see what came of all of them.
const QUIET: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct Model {
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

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("kinds: {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

impl Model {
    /// Prints the model once every kind has been listed, and with `watch` after each change.
    pub(super) async fn run(self) -> Result<()> {
        let Self {
            manifests,
            master,
            kubeconfig,
            kinds,
            output,
            watch,
            wait_seconds,
        } = self;
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
        let (sender, mut events) = mpsc::channel(follow::EVENTS);
        let source = tokio::spawn(model_watch::run(
            source,
            kinds.clone(),
            sender,
            cancel.clone(),
        ));
        let mut cluster = Cluster::default();
        let patience = Duration::from_secs(wait_seconds);
        let listed = follow::complete(&mut cluster, &kinds, &mut events);
        if tokio::time::timeout(patience, listed).await.is_err() {
            bail!(
                "not every kind was listed in {wait_seconds} s:\n{}",
                show::states(&cluster)
            );
        }
        // Where the source has ended before all was listed, its error is the answer below.
        if cluster.is_synced(&kinds) {
            let mut shown = text(&cluster, &kinds, output, watch)?;
            print(&shown)?;
            while watch && follow::settle(&mut cluster, &mut events, QUIET).await {
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

/// To standard output; a reader that went away is an error, not a panic.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::kind;
    use model::Kind;

    #[test]
    fn kinds_are_named_as_in_manifests() {
        assert_eq!(kind("service"), Ok(Kind::Service));
        assert_eq!(kind("IngressClass"), Ok(Kind::IngressClass));
        let unknown = kind("Ingres").unwrap_err();
        assert!(
            unknown.starts_with("kinds: Service, EndpointSlice"),
            "{unknown}"
        );
    }
}
