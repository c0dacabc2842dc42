//! What each step does.

mod live;
mod saving;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

pub(super) use self::saving::written;
use super::{Applier, Output, Prepared, Successor};
use crate::apply::bisect::Suspect;
use crate::apply::check::Verdict;
use crate::apply::guard::{self, Refusal};
use crate::apply::reload::Proxy;
use crate::apply::state::{Event, How, Step};
use crate::edge::EdgePlan;
use crate::haproxy::runtime::{Cause, Change, Image, changes, server_changes};

impl<C> Applier<C> {
    /// Does a step.
    pub(super) async fn act(&mut self, step: &Step) -> Event {
        match step {
            Step::Wait(_) => Event::Retry,
            Step::Render => {
                let rendered = self.render();
                self.follow_endpoints(&rendered).await;
                rendered
            }
            Step::Check => self.check().await.unwrap_or_else(Event::Failed),
            Step::Install => self.install(),
            Step::Commands => self.commands().await,
            Step::Save => self.save(),
            Step::Reload => self.reload().await,
            Step::ReadBack => self.read_back().await,
            Step::RollBack => self.roll_back().await,
        }
    }

    pub(super) fn compile(&self, without: &BTreeSet<Suspect>) -> Result<Output, String> {
        let input = self
            .input
            .as_ref()
            .ok_or("no state of the cluster is known")?;
        (self.sources.compile)(&input.cluster, without)
    }

    pub(super) fn version(&self, suspect: &Suspect) -> Option<Arc<str>> {
        let input = self.input.as_ref()?;
        (self.sources.version)(&input.cluster, suspect)
    }

    fn render(&mut self) -> Event {
        let mut quarantine = std::mem::take(&mut self.quarantine);
        if quarantine.release(|suspect| self.version(suspect), Instant::now()) {
            tracing::info!("objects that changed are let in again");
        }
        self.quarantine = quarantine;
        let successor = match self.update() {
            Some(successor) => successor,
            None => match self.compile(&self.quarantine.without()) {
                Ok(output) => Successor::whole(output),
                Err(why) => return Event::Failed(why),
            },
        };
        self.tell_quarantine();
        if let Some(live) = &mut self.live
            && successor.is_as(live)
        {
            live.plan = successor.output.plan;
            self.tell_live();
            return Event::Unchanged;
        }
        if let Err(refusal) = self.judge(&successor) {
            tracing::warn!(%refusal, "the shrink guard keeps what is live");
            return Event::Refused(refusal);
        }
        let change = self.change(&successor);
        let how = how(&change);
        self.next = Some(Prepared {
            successor,
            candidate: None,
            change,
        });
        Event::Rendered(how)
    }

    /// The way of most changes: servers alone, so nothing is rendered or compared but theirs.
    fn update(&self) -> Option<Successor> {
        if !self.quarantine.proofs().is_empty() {
            return None;
        }
        let (input, live) = (self.input.as_ref()?, self.live.as_ref()?);
        (self.sources.update)(&input.cluster, live)
    }

    fn judge(&self, successor: &Successor) -> Result<(), Refusal> {
        let live = self.machine.status().live;
        let input = self.input.as_ref();
        let seen = input.map(|input| (self.sources.seen)(&input.cluster, live));
        let seen = seen.unwrap_or_default();
        let limits = &self.settings.guard;
        let next = &successor.output.plan;
        match (&self.live, &successor.sections, self.live_extent) {
            (Some(live), Some(moved), _) => {
                guard::judge_servers(limits, &live.plan, next, &moved.backends, &seen)
            }
            // A plan that was taken over from disk is empty; its extent is known.
            (Some(live), None, _) if live.plan != EdgePlan::default() => {
                guard::judge(limits, &live.plan, next, &seen)
            }
            (_, _, Some(extent)) => guard::judge_extent(limits, extent, next, &seen),
            (_, _, None) => Ok(()),
        }
    }

    async fn check(&mut self) -> Result<Event, String> {
        let Some(Prepared { mut successor, .. }) = self.next.take() else {
            return Err("there is nothing to check".to_owned());
        };
        let (mut candidate, verdict) = self.ask(&successor.output).await?;
        if let Verdict::Failed(message) = verdict {
            self.machine.status_mut().totals.failed_checks += 1;
            tracing::warn!(%message, "the check fails; looking for the objects to blame");
            self.settings.store.discard(&candidate);
            self.blame(&successor.output, message).await?;
            successor = Successor::whole(self.compile(&self.quarantine.without())?);
            // A quarantine must not become what the guard is there for.
            self.judge(&successor)
                .map_err(|refusal| refusal.to_string())?;
            candidate = match self.ask(&successor.output).await? {
                (candidate, Verdict::Passed(_)) => candidate,
                (_, Verdict::Failed(message)) => return Err(message),
            };
        }
        self.passed(&successor.output);
        // Endpoints may have gone before it meanwhile.
        successor.sections = None;
        let change = self.change(&successor);
        let how = how(&change);
        let candidate = Some(candidate);
        self.next = Some(Prepared {
            successor,
            candidate,
            change,
        });
        Ok(Event::Checked(how))
    }

    /// What passed once is looked at last when something else does not.
    fn passed(&mut self, output: &Output) {
        let cluster = self.input.as_ref().map(|input| Arc::clone(&input.cluster));
        self.good = cluster.map(|cluster| (cluster, output.plan.clone()));
    }

    pub(super) fn change(&self, next: &Successor) -> Change {
        let Successor { output, sections } = next;
        let start = |what: &str| Change::Reload {
            causes: vec![Cause::of(what)],
        };
        match (&self.live, &self.settings.proxy) {
            (None, _) => start("start"),
            (Some(_), Proxy::Haproxy(_)) if let Some(moved) = sections => {
                server_changes(moved, &output.plan, &self.leaving)
            }
            (Some(live), Proxy::Haproxy(_)) => {
                let old = Image {
                    plan: &live.plan,
                    rendered: &live.rendered,
                };
                let new = Image {
                    plan: &output.plan,
                    rendered: &output.rendered,
                };
                changes(old, new, &self.leaving)
            }
            (Some(_), Proxy::Nginx(_) | Proxy::Notified(_)) => start("files changed"),
        }
    }
}

fn how(change: &Change) -> How {
    match change {
        Change::Nothing => How::Commands(0),
        Change::Runtime(commands) => How::Commands(commands.len()),
        Change::Reload { causes } => How::Reload(causes.clone()),
    }
}
