//! What each step does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{Applier, Asked, Output, Prepared, Saving, Settings, Successor};
use crate::apply::bisect::Suspect;
use crate::apply::check::Verdict;
use crate::apply::files::Extent;
use crate::apply::guard::{self, Refusal};
use crate::apply::reload::{Proxy, Seen};
use crate::apply::state::{Event, How, Step};
use crate::edge::EdgePlan;
use crate::haproxy::runtime::{
    Cause, Change, Command, Image, ServerStatus, changes, options_of, server_changes,
};

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

    /// Begins to write what commands made live.
    fn save(&mut self) -> Event {
        if let (Some(live), Some(input)) = (&self.live, &self.input) {
            let output = Arc::new(live.clone());
            let (settings, of_task) = (self.settings.clone(), Arc::clone(&output));
            let is_of_it = input.number == self.machine.status().live;
            self.saving = Some(Saving {
                cluster: is_of_it.then(|| Arc::clone(&input.cluster)),
                output,
                asked: tokio::spawn(async move { ask(&settings, &of_task).await }),
            });
        }
        Event::Saving
    }

    /// What was written is switched to. Where the check finds fault with it, the guilty are left
    /// out of the next render.
    pub(super) async fn saved(&mut self, asked: Asked) {
        let Some(saving) = self.saving.take() else {
            return;
        };
        let event = match asked {
            Ok((candidate, Verdict::Passed(_))) => {
                let store = &self.settings.store;
                let switched = store.switch(&candidate);
                match switched.and_then(|()| store.confirm(&candidate.manifest)) {
                    Ok(()) => {
                        self.tell_good(&candidate.manifest.digest);
                        if let Some(cluster) = saving.cluster {
                            self.good = Some((cluster, saving.output.plan.clone()));
                        }
                        Event::Saved
                    }
                    Err(error) => Event::Unsaved(error.to_string()),
                }
            }
            Ok((candidate, Verdict::Failed(message))) => {
                self.machine.status_mut().totals.failed_checks += 1;
                self.settings.store.discard(&candidate);
                let blamed = self.blame(&saving.output, message.clone()).await;
                Event::Unsaved(blamed.err().unwrap_or(message))
            }
            Err(why) => Event::Unsaved(why),
        };
        self.machine.on(event, Instant::now());
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

    pub(super) async fn ask(&self, output: &Output) -> Asked {
        ask(&self.settings, &Arc::new(output.clone())).await
    }

    fn install(&mut self) -> Event {
        let candidate = self.next.as_ref().and_then(|next| next.candidate.as_ref());
        let Some(candidate) = candidate else {
            return Event::Failed("there is nothing to install".to_owned());
        };
        match self.settings.store.switch(candidate) {
            Ok(()) => Event::Installed,
            Err(error) => Event::Failed(error.to_string()),
        }
    }

    async fn commands(&mut self) -> Event {
        let Proxy::Haproxy(haproxy) = &self.settings.proxy else {
            return Event::CommandRefused("the proxy takes no commands".to_owned());
        };
        let commands: &[Command] = match self.next.as_ref().map(|next| &next.change) {
            Some(Change::Runtime(commands)) => commands,
            _ => &[],
        };
        match haproxy.runtime.execute(commands).await {
            Ok(refusals) => {
                for refusal in refusals {
                    tracing::debug!(%refusal, "something unused stays");
                }
            }
            Err(error) => return Event::CommandRefused(error.to_string()),
        }
        let commands = commands.to_vec();
        if let Some(next) = self.next.take() {
            self.note_leaving(&commands, &next.successor);
            self.next = Some(next);
        }
        let is_saved = self
            .next
            .as_ref()
            .is_some_and(|next| next.candidate.is_some());
        self.went_live();
        Event::Commanded { is_saved }
    }

    /// Servers that were put into maintenance leave; those that are wanted again do not.
    pub(super) fn note_leaving(&mut self, commands: &[Command], next: &Successor) {
        let (options, wanted) = match &next.sections {
            Some(moved) => (options_of(&moved.before), options_of(&moved.after)),
            None => {
                let before = self.live.as_ref().map(text);
                (
                    before.as_deref().map(options_of).unwrap_or_default(),
                    options_of(&text(&next.output)),
                )
            }
        };
        for command in commands {
            if let Command::SetStatus {
                server,
                status: ServerStatus::Maintenance,
            } = command
                && !wanted.contains_key(server)
            {
                let words = options.get(server).cloned().unwrap_or_default();
                self.leaving.add(server.clone(), words, Instant::now());
            }
        }
        for server in wanted.keys() {
            self.leaving.remove(server);
        }
    }

    async fn reload(&mut self) -> Event {
        // A proxy that does not answer is started by somebody else, with the files that are there.
        let before = self.settings.proxy.seen().await.unwrap_or_default();
        if let Err(error) = self.settings.proxy.reload().await {
            return Event::Failed(error.to_string());
        }
        if self.settings.proxy.is_asked() {
            return Event::Reloaded(before);
        }
        self.went_live();
        Event::Told
    }

    async fn read_back(&mut self) -> Event {
        let pause = self.machine.look_again();
        tokio::time::sleep(pause).await;
        let seen: Seen = match self.settings.proxy.seen().await {
            Ok(seen) => seen,
            Err(error) => return Event::Unseen(error.to_string()),
        };
        let meant = self
            .next
            .as_ref()
            .map(|next| &next.successor.output)
            .or(self.live.as_ref())
            .and_then(|output| output.rendered.generation.as_ref())
            .map(ToString::to_string);
        if self.machine.would_take(&seen, meant.as_deref()) {
            self.leaving.clear();
            self.went_live();
        }
        Event::SeenNow { seen, meant }
    }

    async fn roll_back(&mut self) -> Event {
        self.next = None;
        let back = self.settings.store.roll_back();
        let told = self.settings.proxy.reload().await;
        let result = match (back, told) {
            (Ok(_), Ok(())) => Ok(()),
            (Err(error), _) => Err(error.to_string()),
            (Ok(_), Err(error)) => Err(error.to_string()),
        };
        Event::RolledBack(result)
    }

    /// The candidate is what the proxy runs.
    fn went_live(&mut self) {
        let Some(Prepared {
            successor,
            candidate,
            ..
        }) = self.next.take()
        else {
            return;
        };
        if let Some(candidate) = candidate {
            let digest = candidate.manifest.digest.clone();
            match self.settings.store.confirm(&candidate.manifest) {
                Ok(()) => self.tell_good(&digest),
                Err(error) => {
                    tracing::warn!(%error, "the last good version stays an older one");
                    self.machine.status_mut().digest = Some(digest);
                }
            }
        }
        self.live = Some(successor.output);
        self.tell_live();
    }

    pub(super) fn tell_live(&mut self) {
        let extent = self.live.as_ref().map(|live| Extent::of(&live.plan));
        self.machine.status_mut().extent = extent;
    }

    pub(super) fn tell_good(&mut self, digest: &str) {
        let status = self.machine.status_mut();
        status.digest = Some(digest.to_owned());
        status.last_good = Some(digest.to_owned());
    }
}

/// Writes an output beside what is live, and has it checked.
async fn ask(settings: &Settings, output: &Arc<Output>) -> Asked {
    let (store, of_task) = (settings.store.clone(), Arc::clone(output));
    // It waits for the disk, several times.
    let written = tokio::task::spawn_blocking(move || {
        store.write(&of_task.rendered, Some(Extent::of(&of_task.plan)))
    });
    let written = written.await.map_err(|error| error.to_string())?;
    let candidate = written.map_err(|error| error.to_string())?;
    let checked = settings.check.ask(&candidate.main, settings.check_timeout);
    match checked.await {
        Ok(verdict) => Ok((candidate, verdict)),
        Err(error) => {
            settings.store.discard(&candidate);
            Err(format!("the check gave no answer: {error}"))
        }
    }
}

/// What the check says of what is being saved, if anything is.
pub(super) async fn written<C>(saving: &mut Option<Saving<C>>) -> Asked {
    match saving {
        Some(saving) => match (&mut saving.asked).await {
            Ok(asked) => asked,
            Err(error) => Err(format!("what is live could not be saved: {error}")),
        },
        None => std::future::pending().await,
    }
}

fn how(change: &Change) -> How {
    match change {
        Change::Nothing => How::Commands(0),
        Change::Runtime(commands) => How::Commands(commands.len()),
        Change::Reload { causes } => How::Reload(causes.clone()),
    }
}

fn text(output: &Output) -> String {
    let main = output.rendered.files.get(&output.rendered.main);
    main.map(|file| String::from_utf8_lossy(&file.content).into_owned())
        .unwrap_or_default()
}
