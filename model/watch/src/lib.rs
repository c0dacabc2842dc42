//! Where the cluster model comes from: an API server, or a directory of manifests.
//!
//! Either way [`run`] turns what it hears into [`model::Event`]s. Nothing here keeps the cluster;
//! see [`model::Cluster`].

mod events;
pub mod kube_source;
pub mod manifests;
mod status;

use std::path::PathBuf;

use model::k8s::Detail;
use model::{Event, KindSet};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

pub use events::post_events;
pub use status::{LeaseTiming, StatusWriter, write_statuses};

/// A source of events.
#[derive(Clone, Debug)]
pub enum Source {
    /// An API server.
    Kube(kube_source::Options),
    /// A directory of manifests.
    Manifests {
        /// The directory.
        directory: PathBuf,
        /// How much of each object is kept.
        detail: Detail,
    },
}

/// Why a source cannot go on. What may pass is retried, and said in [`model::SourceState`].
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The API server cannot be used.
    #[error(transparent)]
    Kube(#[from] kube_source::Error),
    /// The directory of manifests cannot be used.
    #[error(transparent)]
    Manifests(#[from] manifests::Error),
}

/// Follows `kinds` until `cancel`, or until nobody reads `events`.
///
/// # Errors
/// [`SourceError`] where going on makes no sense.
pub async fn run(
    source: Source,
    kinds: KindSet,
    events: Sender<Event>,
    cancel: CancellationToken,
) -> Result<(), SourceError> {
    match source {
        Source::Kube(options) => Ok(kube_source::run(options, kinds, events, cancel).await?),
        Source::Manifests { directory, detail } => {
            Ok(manifests::run(directory, detail, kinds, events, cancel).await?)
        }
    }
}
