//! Follows how long certificates last, beside the work: thousands of them take a tenth of a second
//! to read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::Problem;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{World, quarantined};
use crate::apply::applier::Input;
use crate::apply::certificates::{Told, problems, report};

/// Ends come by themselves, and are told in days.
const AGAIN: Duration = Duration::from_secs(3600);
/// Certificates of a cluster that changes all the time are not read all the time.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells of the newest state's certificates until `cancel`.
pub(super) async fn follow(
    mut worlds: watch::Receiver<Option<Input<World>>>,
    told: watch::Sender<Vec<Told>>,
    cancel: CancellationToken,
) -> Result<()> {
    loop {
        let plan = worlds
            .borrow_and_update()
            .as_ref()
            .map(|input| input.cluster.plan.clone());
        if let Some(plan) = plan {
            let (listeners, certificates) =
                (Arc::clone(&plan.listeners), Arc::clone(&plan.certificates));
            let now = jiff::Timestamp::now().as_second();
            let read = tokio::task::spawn_blocking(move || report(&plan, now)).await;
            let read = read.context("reading certificates panicked; this is a bug")?;
            told.send_if_modified(|told| {
                let is_new = *told != read;
                *told = read;
                is_new
            });
            // A change of endpoints alone shares both.
            let is_same = |input: &Option<Input<World>>| {
                input.as_ref().is_some_and(|input| {
                    let plan = &input.cluster.plan;
                    Arc::ptr_eq(&plan.listeners, &listeners)
                        && Arc::ptr_eq(&plan.certificates, &certificates)
                })
            };
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                changed = worlds.wait_for(|input| !is_same(input)) => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(AGAIN) => {}
            }
        } else {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                changed = worlds.changed() => if changed.is_err() { return Ok(()) },
            }
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// What is wrong with objects: the plan's problems, the certificates', and what is left out.
pub(super) async fn join(
    mut found: watch::Receiver<Vec<Problem>>,
    mut told: watch::Receiver<Vec<Told>>,
    mut left_out: watch::Receiver<quarantined::Told>,
    all: watch::Sender<Vec<Problem>>,
) -> Result<()> {
    loop {
        let mut problems_now = found.borrow_and_update().clone();
        problems_now.extend(problems(&told.borrow_and_update()));
        problems_now.extend(left_out.borrow_and_update().values().flatten().cloned());
        all.send_replace(problems_now);
        tokio::select! {
            changed = found.changed() => if changed.is_err() { return Ok(()) },
            changed = told.changed() => if changed.is_err() { return Ok(()) },
            Ok(()) = left_out.changed() => {}
        }
    }
}
