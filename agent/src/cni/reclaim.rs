//! Frees what pods that are gone had, once after a start: a node that was restarted has none of its
//! pods any more, and no runtime tells the plugin so.

use std::collections::BTreeMap;
use std::io;

use cni::config::Place;
use cni::reclaim::{GRACE, Look, Suspects, reclaim};
use tokio_util::sync::CancellationToken;

use super::stores::Stores;

/// Leases without an interface, by their network.
type Found = BTreeMap<Place, Suspects>;

/// Looks at the leases of all networks, and again where some are young.
pub async fn run(stores: Stores, cancel: CancellationToken) {
    let mut found = look(&stores, Found::new()).await;
    while !found.is_empty() {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(GRACE) => {}
        }
        found = look(&stores, found).await;
    }
    cancel.cancelled().await;
}

async fn look(stores: &Stores, earlier: Found) -> Found {
    let of_task = stores.clone();
    let looked = tokio::task::spawn_blocking(move || look_at_all(&of_task, &earlier)).await;
    let error = match looked {
        Ok(Ok(found)) => return found,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(error, "{KEPT}");
    Found::new()
}

const KEPT: &str =
    "leases of pods that are gone are kept until the agent's next start, or the runtime's GC";

fn look_at_all(stores: &Stores, earlier: &Found) -> io::Result<Found> {
    let mut found = Found::new();
    for place in stores.places()? {
        let before = earlier.get(&place).cloned().unwrap_or_default();
        match reclaim(&place, &before) {
            Ok(Look { freed, suspects }) => {
                for lease in freed {
                    tracing::info!(network = place.network, interface = %lease.interface, addresses = ?lease.addresses, "lease freed: the pod's interface is gone");
                }
                if !suspects.is_empty() {
                    found.insert(place, suspects);
                }
            }
            // The others have nothing to do with it.
            Err(error) => {
                let directory = place.state_dir.display();
                tracing::warn!(%directory, network = place.network, %error, "{KEPT}");
            }
        }
    }
    Ok(found)
}
