//! Endpoints do not wait for a reload that the budget holds back, or that failed.

use std::time::Instant;

use super::{Applier, Successor};
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
        let Some(successor) = self.partly() else {
            return;
        };
        let Change::Runtime(commands) = self.change(&successor) else {
            return;
        };
        if let Err(error) = haproxy.runtime.execute(&commands).await {
            // Some may be done; the reload that waits makes all of it right.
            tracing::warn!(%error, "endpoints wait for the reload too");
            return;
        }
        self.note_leaving(&commands, &successor);
        let count = commands.len();
        tracing::info!(
            commands = count,
            "endpoints went before the reload that waits"
        );
        self.live = Some(successor.output);
        self.tell_live();
        self.machine.on(Event::Partly(count), Instant::now());
    }

    fn partly(&self) -> Option<Successor> {
        let (input, live) = (self.input.as_ref()?, self.live.as_ref()?);
        (self.sources.partly)(&input.cluster, live, &self.quarantine.without())
    }
}
