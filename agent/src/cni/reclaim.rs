//! Frees what pods that are gone had, once after a start: a node that was restarted has none of its
//! pods any more, and no runtime tells the plugin so.

use std::path::Path;

use cni::config::Place;
use cni::reclaim::{GRACE, Look, Suspects, reclaim};
use tokio_util::sync::CancellationToken;

use super::conflist::NETWORK;

/// Looks at the leases below `state_dir`, and again where some are young.
pub async fn run(state_dir: &Path, cancel: CancellationToken) {
    let place = Place {
        network: NETWORK.to_owned(),
        state_dir: state_dir.to_owned(),
    };
    let mut suspects = look(&place, Suspects::default()).await;
    while !suspects.is_empty() {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(GRACE) => {}
        }
        suspects = look(&place, suspects).await;
    }
    cancel.cancelled().await;
}

async fn look(place: &Place, earlier: Suspects) -> Suspects {
    let of_task = place.clone();
    let looked = tokio::task::spawn_blocking(move || reclaim(&of_task, &earlier)).await;
    let error = match looked {
        Ok(Ok(Look { freed, suspects })) => {
            for lease in freed {
                tracing::info!(interface = %lease.interface, addresses = ?lease.addresses, "lease freed: the pod's interface is gone");
            }
            return suspects;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let directory = place.state_dir.display();
    tracing::warn!(%directory, error, "leases of pods that are gone are kept until the agent's next start, or the runtime's GC");
    Suspects::default()
}
