//! The tasks of the pod network: its routes, the list that masquerade follows, and what container
//! runtimes find.

use std::sync::Arc;

use tokio::sync::watch;

use super::tasks::Tasks;
use crate::applier::with_causes;
use crate::cni::install::{self, Installed};
use crate::cni::{reclaim, routes};
use crate::config::RouterConfig;
use crate::desired::Desired;
use crate::desired::egress::EgressOptions;
use crate::route::keeper::{self, Kept};
use crate::sys::links::Link;

/// What the tasks follow, and where they publish. It stays as long as they run: where one of them is
/// not started, nobody is to take its channel for closed.
pub(super) struct Network {
    pub(super) desired: watch::Receiver<Option<Arc<Desired>>>,
    pub(super) links: watch::Receiver<Option<Vec<Link>>>,
    pub(super) excluded: watch::Sender<Option<Arc<EgressOptions>>>,
    pub(super) kept: watch::Sender<Kept>,
    pub(super) installed: watch::Sender<Installed>,
}

impl Network {
    /// Starts them; without `--run-router`, removes what an earlier run has kept instead.
    pub(super) async fn start(&self, router: Option<RouterConfig>, tasks: &mut Tasks) {
        let Self {
            desired,
            links,
            excluded,
            kept,
            installed,
        } = self;
        let Some(RouterConfig {
            options: _,
            sync_period,
            cni,
            stores,
            egress,
        }) = router
        else {
            if let Err(error) = keeper::remove().await {
                tracing::warn!(
                    error = with_causes(&error),
                    "what an earlier run with --run-router left is not removed"
                );
            }
            return;
        };
        if let Some(egress) = egress {
            tasks.spawn(|token| egress.follow(excluded.clone(), token));
        }
        let (wanted, of_keeper) = (desired.clone(), links.clone());
        tasks.try_spawn(|token| keeper::run(wanted, of_keeper, kept.clone(), sync_period, token));
        // Whoever has told a runtime of the plugin: its pods are this node's.
        tasks.spawn(|token| reclaim::run(stores.clone(), token));
        tasks.spawn(|token| routes::run(stores, links.clone(), token));
        if let Some(places) = cni {
            tasks.spawn(|token| install::run(places, desired.clone(), installed.clone(), token));
        }
    }
}
