//! The API server as a source: list and watch of each kind, for ever.
//!
//! [`Options`] say where the API servers are; [`run`] starts one task a kind ([`follow`]), each of
//! which lists, hands on one [`model::Event::Replaced`], and watches from there. Objects stay
//! untyped JSON until [`model::k8s::reduce`], so a malformed one harms no other, and nothing of
//! them but the reduced fields (so no `managedFields`) leaves this module.
//!
//! Of the `kube` crate this uses the client (configuration, TLS, credentials, requests), not
//! `runtime::watcher`: that one parses metadata of a whole list at once and hides the list's
//! resourceVersion, by which a server that came back old is known.

pub(crate) mod backoff;
mod credentials;
mod doubt;
mod error;
pub(crate) mod failure;
mod follow;
mod known;
mod learned;
mod list;
mod load;
pub(crate) mod resource;
pub(crate) mod servers;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::k8s::Detail;
use model::{Event, KindSet};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use credentials::{ClientCertificate, CredentialFiles, Trust};
pub use error::Error;

use follow::Follower;
use servers::Servers;

/// Where the API servers are, and how patient to be with them.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--master`: URLs of API servers, tried in order. They take the place of the kubeconfig's
    /// server; credentials still come from the kubeconfig, or in a Pod from its ServiceAccount.
    pub master: Vec<String>,
    /// `--kubeconfig`: without it and without `master`, the ServiceAccount of the Pod.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it, its current one.
    pub context: Option<String>,
    /// Files in place of what a kubeconfig says of certificates. With them, and without a
    /// kubeconfig, the ServiceAccount of a Pod is left alone.
    pub credentials: Option<Box<CredentialFiles>>,
    /// Addresses of API servers heard of in an earlier run. They are asked after the configured
    /// ones, with the scheme, the credentials and the CA of the first of those.
    pub learned: Vec<SocketAddr>,
    /// `--config-sync-period`: how often a kind is listed whose watch is refused.
    pub config_sync_period: Duration,
    /// Of pods, only those of this node; without it all.
    pub pods_of_node: Option<Arc<str>>,
    /// How much of each object is kept.
    pub detail: Detail,
    /// Time-outs and pauses.
    pub timing: Timing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            master: Vec::new(),
            kubeconfig: None,
            context: None,
            credentials: None,
            learned: Vec::new(),
            config_sync_period: Duration::from_secs(60),
            pods_of_node: None,
            detail: Detail::default(),
            timing: Timing::default(),
        }
    }
}

/// Time-outs and pauses of the requests to an API server.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// First pause after a failure; each further one doubles it.
    pub retry_first: Duration,
    /// Longest pause after a failure.
    pub retry_cap: Duration,
    /// A TCP connection not made by then counts as a server that is down.
    pub connect: Duration,
    /// A page of a list, or the head of a watch, not answered by then counts as a server that is
    /// down. API servers themselves give up on a list after 60 s.
    pub answer: Duration,
    /// How long a watch is asked to last (`timeoutSeconds`).
    pub watch: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_millis(500),
            retry_cap: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            // As client-go's lower bound: long enough that 5,000 nodes do not load the server
            // with reopening, short enough that a dead connection is found in minutes.
            watch: Duration::from_secs(290),
        }
    }
}

/// Asks each API server for its version: its address, and the version or why there is none.
///
/// # Errors
/// Where the configuration is unusable.
pub async fn reach(options: &Options) -> Result<Vec<(String, Result<String, String>)>, Error> {
    let mut reached = Vec::new();
    for server in options.load().await? {
        let asked = server.client.apiserver_version();
        let answer = match tokio::time::timeout(options.timing.answer, asked).await {
            Ok(Ok(version)) => Ok(version.git_version),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer in {:?}", options.timing.answer)),
        };
        reached.push((server.url, answer));
    }
    Ok(reached)
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Follows `kinds` until `cancel`, or until nobody reads `events`. Ends with an error only where
/// going on makes no sense: an unusable configuration, or a bug in a task.
pub(crate) async fn run(
    options: Options,
    kinds: KindSet,
    events: Sender<Event>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let servers = Arc::new(Servers::new(options.load().await?));
    let mut tasks = JoinSet::new();
    for &kind in &kinds {
        let follower = Follower::new(kind, &options, Arc::clone(&servers), events.clone());
        let (cancel, events) = (cancel.clone(), events.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = events.closed() => {}
                _closed = follower.follow() => {}
            }
        });
    }
    drop(events);
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(Error::TaskPanicked)?;
    }
    Ok(())
}
