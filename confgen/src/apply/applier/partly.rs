//! Endpoints do not wait for a reload that the budget holds back, or that failed.

use std::time::Instant;

use super::{Applier, Output};
use crate::apply::check::Verdict;
use crate::apply::files::Candidate;
use crate::apply::reload::Proxy;
use crate::apply::state::{Event, How};
use crate::haproxy::runtime::Change;

impl<C> Applier<C> {
    /// After a render that needs a reload: does at once what commands can, where the reload waits.
    pub(super) async fn follow_endpoints(&mut self, rendered: &Event) {
        let needs_reload = matches!(rendered, Event::Rendered(How::Reload(_)));
        if !needs_reload || !self.machine.holds_reloads(Instant::now()) {
            return;
        }
        let Proxy::Haproxy(haproxy) = &self.settings.proxy else {
            return;
        };
        let Some(output) = self.partly() else { return };
        let Change::Runtime(commands) = self.change(&output) else {
            return;
        };
        if let Err(error) = haproxy.runtime.execute(&commands).await {
            // Some may be done; the reload that waits makes all of it right.
            tracing::warn!(%error, "endpoints wait for the reload too");
            return;
        }
        self.note_leaving(&commands, &output);
        let count = commands.len();
        tracing::info!(
            commands = count,
            "endpoints went before the reload that waits"
        );
        self.live = Some(output);
        self.tell_live();
        self.machine.on(Event::Partly(count), Instant::now());
        self.save_partly().await;
    }

    fn partly(&self) -> Option<Output> {
        let (input, live) = (self.input.as_ref()?, self.live.as_ref()?);
        (self.sources.partly)(&input.cluster, &live.plan, &self.quarantine.without())
    }

    /// A proxy that is started anew meanwhile has the endpoints of now.
    async fn save_partly(&mut self) {
        let Some(live) = self.live.clone() else {
            return;
        };
        let store = &self.settings.store;
        let saved = match self.ask(&live).await {
            Ok((candidate, Verdict::Passed(_))) => {
                let Candidate { manifest, .. } = &candidate;
                let switched = store.switch(&candidate);
                let confirmed = switched.and_then(|()| store.confirm(manifest));
                confirmed
                    .map(|()| manifest.digest.clone())
                    .map_err(|error| error.to_string())
            }
            Ok((candidate, Verdict::Failed(message))) => {
                store.discard(&candidate);
                Err(message)
            }
            Err(error) => Err(error),
        };
        match saved {
            Ok(digest) => self.tell_good(&digest),
            Err(why) => tracing::warn!(%why, "endpoints that went live are not on disk"),
        }
    }
}
