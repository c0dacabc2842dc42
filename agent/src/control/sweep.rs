//! Counters of what is gone are forgotten: the tables would fill up, and what is new would not be
//! counted.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::collect::Watched;
use super::{kernel, policy};
use crate::sys::map::TableError;

/// Forgets what is counted of Services and policies that are gone, again and again until `cancel`.
pub async fn run(watched: Watched, period: Duration, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let watched = watched.clone();
        match tokio::task::spawn_blocking(move || sweep(&watched)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::debug!(count, "counters of what is gone forgotten"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "counters of what is gone are not forgotten; it is tried again");
            }
            Err(error) => {
                tracing::error!(%error, "the sweep of counters panicked; it is tried again")
            }
        }
    }
}

fn sweep(watched: &Watched) -> Result<usize, TableError> {
    let forgotten = kernel::forget_departed(&watched.pins)?;
    let Some(policy) = &watched.policy else {
        return Ok(forgotten);
    };
    let (rules, view) = (policy.borrow().rules.clone(), watched.view.borrow().clone());
    // Before all is known, everything seems to be gone.
    let Some(rules) = rules.filter(|_| view.synced) else {
        return Ok(forgotten);
    };
    Ok(forgotten + policy::forget_departed(&watched.pins, &rules, &view.cluster)?)
}
