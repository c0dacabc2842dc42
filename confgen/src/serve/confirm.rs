//! Confirms a smaller cluster that the shrink guard does not believe.
//!
//! After a watch ended with 410 Gone there is one list, and no event tells what was deleted
//! meanwhile. An API server that answers with a part looks the same, so while the guard holds, the
//! cluster is listed in full again, apart from what is followed: what is gone in each list is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use model::KindSet;
use model_watch::Source;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Statuses, World};
use crate::apply::applier::Input;
use crate::edge::value::HostMatch;
use crate::edge::{EdgePlan, Listener, compile};
use crate::follow;

/// Long enough for an API server that just started to have its objects, short beside what a person
/// needs to look.
pub(super) const AGAIN: Duration = Duration::from_secs(60);

/// How long a list may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, and how often.
#[derive(Debug)]
pub(super) struct Confirm {
    pub(super) source: Source,
    pub(super) kinds: KindSet,
    pub(super) again: Duration,
}

impl Confirm {
    /// Sends how many complete lists agreed since the guard began to hold; zero when it ends.
    pub(super) async fn follow(
        self,
        statuses: Statuses,
        world: watch::Receiver<Option<Input<World>>>,
        agreed: mpsc::Sender<u32>,
        cancel: CancellationToken,
    ) -> Result<()> {
        let mut count = 0;
        loop {
            let holds = statuses
                .values()
                .any(|status| status.borrow().guard.is_some());
            if !holds && count > 0 {
                count = 0;
                if agreed.send(count).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.again) => {}
            }
            if !holds {
                continue;
            }
            let listed = follow::listed(self.source.clone(), &self.kinds, PATIENCE);
            let listed = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                listed = listed => listed,
            };
            let Some(cluster) = listed else {
                tracing::warn!("the shrink guard holds, and the cluster cannot be listed again");
                continue;
            };
            let known = world
                .borrow()
                .as_ref()
                .map(|known| Arc::clone(&known.cluster));
            let agrees = known.is_some_and(|known| {
                let plan = compile(&cluster, &known.config());
                has_no_more_than(&plan, &known.plan)
            });
            if agrees {
                count += 1;
            } else {
                count = 0;
            }
            tracing::info!(agrees, count, "listed again, since the shrink guard holds");
            if agreed.send(count).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Whether nothing is in a plan that another one lacks.
fn has_no_more_than(plan: &EdgePlan, other: &EdgePlan) -> bool {
    let has_backends = plan.backends.iter().all(|(id, backend)| {
        let there = other.backends.get(id);
        there.is_some_and(|there| backend.servers.len() <= there.servers.len())
    });
    has_backends
        && plan
            .listeners
            .iter()
            .all(|(listen, listener)| match other.listeners.get(listen) {
                None => false,
                Some(there) => hosts(listener).is_subset(&hosts(there)),
            })
}

fn hosts(listener: &Listener) -> BTreeSet<&HostMatch> {
    let (http, passed) = match listener {
        Listener::Http(http) => (http, None),
        Listener::Tls(tls) => (&tls.http, Some(&tls.passthrough)),
        Listener::Tcp(_) => return BTreeSet::new(),
    };
    let passed = passed.into_iter().flat_map(|hosts| hosts.keys());
    http.hosts.keys().chain(passed).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::{mpsc, watch};
    use tokio_util::sync::CancellationToken;

    use super::{Confirm, has_no_more_than};
    use crate::apply::fixture;
    use crate::apply::guard::{GuardLimits, judge};
    use crate::apply::status::Status;
    use crate::config;
    use crate::edge::{compile, kinds};
    use crate::follow;
    use crate::serve::{Statuses, World};

    #[test]
    fn a_list_that_has_more_does_not_agree() {
        let (few, many) = (fixture::plan(2), fixture::plan(3));
        assert!(has_no_more_than(&few, &few));
        assert!(has_no_more_than(&few, &many));
        assert!(!has_no_more_than(&many, &few));
    }

    fn endpoints(number: usize) -> String {
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web{number}\n  namespace: shop\n  \
             annotations: {{domain: s{number}.example, proto: http}}\n"
        )
    }

    #[tokio::test]
    async fn lists_that_agree_release_the_guard_and_others_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let manifests = directory.path().join("m");
        std::fs::create_dir(&manifests).unwrap();
        std::fs::write(manifests.join("a.yaml"), endpoints(0)).unwrap();
        let text = format!(
            "[cluster]\nmanifests = \"{}\"\n[endpoints]\n[listen]\nhttp = [\"0.0.0.0:80\"]\n\
             [haproxy]\ndirectory = \"/nowhere\"\n",
            manifests.display()
        );
        let settings = config::parse(&text).unwrap();
        let kinds = kinds(&settings.edge);
        let source = settings.cluster.source();
        let patience = Duration::from_secs(20);
        let cluster = follow::listed(source.clone(), &kinds, patience)
            .await
            .unwrap();
        let plan = compile(&cluster, &settings.edge);
        assert!(!plan.listeners.is_empty());
        let world = Arc::new(World::first(cluster, plan, settings.edge.clone()));
        let (_worlds, known) = watch::channel(Some(world.input()));
        let held = Status {
            guard: Some("too much would go".to_owned()),
            ..Status::default()
        };
        let (status, told) = watch::channel(held);
        let statuses: Statuses = [("haproxy".to_owned(), told)].into();
        let (sender, mut agreed) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let confirm = Confirm {
            source,
            kinds,
            again: Duration::from_millis(10),
        };
        let task = tokio::spawn(confirm.follow(statuses, known, sender, cancel.clone()));
        assert_eq!(agreed.recv().await, Some(1));
        assert_eq!(agreed.recv().await, Some(2));
        // What the world lacks is there: the list that it is of was not whole.
        std::fs::write(manifests.join("b.yaml"), endpoints(1)).unwrap();
        while agreed.recv().await != Some(0) {}
        std::fs::remove_file(manifests.join("b.yaml")).unwrap();
        while agreed.recv().await != Some(1) {}
        status.send_modify(|status| status.guard = None);
        while agreed.recv().await != Some(0) {}
        cancel.cancel();
        task.await.unwrap().unwrap();

        let (live, next) = (fixture::plan(20), fixture::plan(2));
        let limits = GuardLimits::default();
        let world = Arc::new(world);
        for (count, is_released) in [(0, false), (1, false), (2, true)] {
            let seen = world.confirmed(count).seen(0, false);
            let released = judge(&limits, &live, &next, &seen).is_ok();
            assert_eq!(released, is_released, "{count}");
        }
    }
}
