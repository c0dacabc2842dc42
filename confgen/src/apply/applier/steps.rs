//! What each step does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Applier, Asked, Output, Prepared, Saving, Settings};
use crate::apply::bisect::{Next, Outcome, Search, Suspect, Trial};
use crate::apply::check::Verdict;
use crate::apply::files::Extent;
use crate::apply::guard::{self, Refusal};
use crate::apply::quarantine::Proof;
use crate::apply::reload::{Proxy, Seen};
use crate::apply::state::{Event, How, Step};
use crate::apply::status::Quarantined;
use crate::edge::{EdgePlan, Listener, Origin};
use crate::haproxy::Update;
use crate::haproxy::runtime::{
    Cause, Change, Command, Image, ServerStatus, changes, options_of, server_changes,
};

impl<C> Applier<C> {
    /// Does a step.
    pub(super) async fn act(&mut self, step: &Step) -> Event {
        match step {
            Step::Wait(_) => Event::Retry,
            Step::Render => self.render(),
            Step::Check => self.check().await.unwrap_or_else(Event::Failed),
            Step::Install => self.install(),
            Step::Commands => self.commands().await,
            Step::Save => self.save(),
            Step::Reload => self.reload().await,
            Step::ReadBack => self.read_back().await,
            Step::RollBack => self.roll_back().await,
        }
    }

    fn compile(&self, without: &BTreeSet<Suspect>) -> Result<Output, String> {
        let input = self
            .input
            .as_ref()
            .ok_or("no state of the cluster is known")?;
        (self.sources.compile)(&input.cluster, without)
    }

    fn version(&self, suspect: &Suspect) -> Option<Arc<str>> {
        let input = self.input.as_ref()?;
        (self.sources.version)(&input.cluster, suspect)
    }

    fn render(&mut self) -> Event {
        let mut quarantine = std::mem::take(&mut self.quarantine);
        if quarantine.release(|suspect| self.version(suspect), Instant::now()) {
            tracing::info!("objects that changed are let in again");
        }
        self.quarantine = quarantine;
        if let Some(event) = self.update() {
            return event;
        }
        let output = match self.compile(&self.quarantine.without()) {
            Ok(output) => output,
            Err(why) => return Event::Failed(why),
        };
        self.tell_quarantine();
        if let Some(live) = &mut self.live
            && live.rendered == output.rendered
        {
            live.plan = output.plan;
            return Event::Unchanged;
        }
        if let Err(refusal) = self.judge(&output) {
            return refused(refusal);
        }
        let change = self.change(&output);
        let how = how(&change);
        self.next = Some(Prepared {
            output,
            candidate: None,
            change,
            sections: None,
        });
        Event::Rendered(how)
    }

    /// The way of most changes: servers alone, so nothing is rendered or compared but theirs.
    fn update(&mut self) -> Option<Event> {
        if !self.quarantine.proofs().is_empty() {
            return None;
        }
        let (input, live) = (self.input.as_ref()?, self.live.as_mut()?);
        let (plan, update) = (self.sources.update)(&input.cluster, live)?;
        let Update {
            rendered,
            backends,
            before,
            after,
        } = update;
        if before == after {
            live.plan = plan;
            return Some(Event::Unchanged);
        }
        let seen = (self.sources.seen)(&input.cluster, self.machine.status().live);
        let limits = &self.settings.guard;
        if let Err(refusal) = guard::judge_servers(limits, &live.plan, &plan, &backends, &seen) {
            return Some(refused(refusal));
        }
        let change = server_changes(&before, &after, &plan, &self.leaving);
        let how = how(&change);
        self.next = Some(Prepared {
            output: Output { plan, rendered },
            candidate: None,
            change,
            sections: Some((before, after)),
        });
        Some(Event::Rendered(how))
    }

    fn judge(&self, output: &Output) -> Result<(), Refusal> {
        let live = self.machine.status().live;
        let input = self.input.as_ref();
        let seen = input.map(|input| (self.sources.seen)(&input.cluster, live));
        let seen = seen.unwrap_or_default();
        let limits = &self.settings.guard;
        match (&self.live, self.live_extent) {
            // A plan that was taken over from disk is empty; its extent is known.
            (Some(live), _) if live.plan != EdgePlan::default() => {
                guard::judge(limits, &live.plan, &output.plan, &seen)
            }
            (_, Some(extent)) => guard::judge_extent(limits, extent, &output.plan, &seen),
            (_, None) => Ok(()),
        }
    }

    async fn check(&mut self) -> Result<Event, String> {
        let Some(Prepared { mut output, .. }) = self.next.take() else {
            return Err("there is nothing to check".to_owned());
        };
        let (mut candidate, verdict) = self.ask(&output).await?;
        if let Verdict::Failed(message) = verdict {
            self.machine.status_mut().totals.failed_checks += 1;
            tracing::warn!(%message, "the check fails; looking for the objects to blame");
            self.settings.store.discard(&candidate);
            self.blame(&output, message).await?;
            output = self.compile(&self.quarantine.without())?;
            // A quarantine must not become what the guard is there for.
            self.judge(&output).map_err(|refusal| refusal.to_string())?;
            candidate = match self.ask(&output).await? {
                (candidate, Verdict::Passed(_)) => candidate,
                (_, Verdict::Failed(message)) => return Err(message),
            };
        }
        self.passed(&output);
        let change = self.change(&output);
        let how = how(&change);
        let candidate = Some(candidate);
        self.next = Some(Prepared {
            output,
            candidate,
            change,
            sections: None,
        });
        Ok(Event::Checked(how))
    }

    /// Begins to write what commands made live.
    fn save(&mut self) -> Event {
        if let (Some(live), Some(input)) = (&self.live, &self.input) {
            let output = Arc::new(live.clone());
            let (settings, of_task) = (self.settings.clone(), Arc::clone(&output));
            self.saving = Some(Saving {
                cluster: Arc::clone(&input.cluster),
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
                        self.machine.status_mut().digest = Some(candidate.manifest.digest);
                        self.good = Some((saving.cluster, saving.output.plan.clone()));
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

    fn change(&self, output: &Output) -> Change {
        let start = |what: &str| Change::Reload {
            causes: vec![Cause::of(what)],
        };
        match (&self.live, &self.settings.proxy) {
            (None, _) => start("start"),
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

    async fn ask(&self, output: &Output) -> Asked {
        ask(&self.settings, &Arc::new(output.clone())).await
    }

    /// Finds the guilty and leaves them out.
    async fn blame(&mut self, output: &Output, message: String) -> Result<(), String> {
        let good = self.good.as_ref();
        let known: BTreeSet<Suspect> = good
            .map(|(_, plan)| suspects(plan).into_iter().collect())
            .unwrap_or_default();
        let is_steady = |suspect: &Suspect| {
            let before = good.and_then(|(cluster, _)| (self.sources.version)(cluster, suspect));
            known.contains(suspect) && before.is_some() && before == self.version(suspect)
        };
        let (steady, changed) = suspects(&output.plan).into_iter().partition(is_steady);
        let mut search = Search::new(steady, changed, message, self.settings.max_checks);
        let held = self.quarantine.without();
        let outcome = loop {
            let without = match search.next_try() {
                Next::Done(outcome) => break outcome,
                Next::Try { without } => without,
            };
            let output = self.compile(&without.union(&held).cloned().collect())?;
            let (candidate, verdict) = self.ask(&output).await?;
            self.settings.store.discard(&candidate);
            search.answer(match verdict {
                Verdict::Passed(_) => Trial::Passed,
                Verdict::Failed(message) => Trial::Failed(message),
            });
        };
        let guilty = match outcome {
            Outcome::Guilty(guilty) => guilty,
            Outcome::Blameless(message) => {
                return Err(format!("the check fails without any object: {message}"));
            }
            Outcome::GaveUp(open) => {
                return Err(format!(
                    "the check fails, and after {} checks {} objects are still suspect",
                    self.settings.max_checks,
                    open.len()
                ));
            }
        };
        for (suspect, message) in guilty {
            tracing::warn!(kind = suspect.0.as_str(), key = %suspect.1, %message, "left out");
            let version = self.version(&suspect).unwrap_or_default();
            let since = Instant::now();
            self.quarantine.add(
                suspect,
                Proof {
                    message,
                    version,
                    since,
                },
            );
        }
        self.tell_quarantine();
        Ok(())
    }

    fn tell_quarantine(&mut self) {
        let proofs = self.quarantine.proofs().iter();
        self.machine.status_mut().quarantined = proofs
            .map(|((kind, key), proof)| Quarantined {
                kind: kind.as_str(),
                key: key.to_string(),
                proof: proof.message.clone(),
            })
            .collect();
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
        self.note_leaving();
        let is_saved = self
            .next
            .as_ref()
            .is_some_and(|next| next.candidate.is_some());
        self.went_live();
        Event::Commanded { is_saved }
    }

    /// Servers that were put into maintenance leave; those that are wanted again do not.
    fn note_leaving(&mut self) {
        let Some(Change::Runtime(commands)) = self.next.as_ref().map(|next| &next.change) else {
            return;
        };
        let sections = self.next.as_ref().and_then(|next| next.sections.as_ref());
        let (options, wanted) = match sections {
            Some((before, after)) => (options_of(before), options_of(after)),
            None => {
                let before = self.live.as_ref().map(text);
                let after = self.next.as_ref().map(|next| text(&next.output));
                (
                    before.as_deref().map(options_of).unwrap_or_default(),
                    after.as_deref().map(options_of).unwrap_or_default(),
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
            .map(|next| &next.output)
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
            output, candidate, ..
        }) = self.next.take()
        else {
            return;
        };
        if let Some(candidate) = candidate {
            if let Err(error) = self.settings.store.confirm(&candidate.manifest) {
                tracing::warn!(%error, "the last good version stays an older one");
            }
            self.machine.status_mut().digest = Some(candidate.manifest.digest);
        }
        self.live = Some(output);
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

fn refused(refusal: Refusal) -> Event {
    tracing::warn!(%refusal, "the shrink guard keeps what is live");
    Event::Refused(refusal)
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

/// Every object that asked for something, the oldest first.
fn suspects(plan: &EdgePlan) -> Vec<Suspect> {
    let mut found: BTreeMap<Suspect, i64> = BTreeMap::new();
    let mut note = |origin: &Origin| {
        let created = origin.created_unix_seconds;
        let suspect = (origin.kind, origin.key.clone());
        let known = found.entry(suspect).or_insert(created);
        *known = created.min(*known);
    };
    for backend in plan.backends.values() {
        note(&backend.origin);
    }
    for certificate in plan.certificates.values() {
        note(&certificate.origin);
    }
    for domain in plan.views.domains.values() {
        note(&domain.origin);
    }
    for listener in plan.listeners.values() {
        let http = match listener {
            Listener::Http(http) => Some(http),
            Listener::Tls(tls) => {
                tls.passthrough
                    .values()
                    .for_each(|route| note(&route.origin));
                Some(&tls.http)
            }
            Listener::Tcp(tcp) => {
                note(&tcp.origin);
                None
            }
        };
        for host in http.into_iter().flat_map(|http| http.hosts.values()) {
            host.rules.iter().for_each(|rule| note(&rule.origin));
            host.tls.iter().for_each(|tls| note(&tls.origin));
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(one, created), (other, later)| (created, one).cmp(&(later, other)));
    found.into_iter().map(|(suspect, _)| suspect).collect()
}
