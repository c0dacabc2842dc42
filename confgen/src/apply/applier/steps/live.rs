//! What makes a change live: files, commands, a reload, and what is read back.

use std::time::Instant;

use super::super::{Applier, Output, Prepared, Successor};
use crate::apply::files::Extent;
use crate::apply::reload::{Proxy, Seen};
use crate::apply::state::Event;
use crate::haproxy::runtime::{Change, Command, ServerStatus, options_of};

impl<C> Applier<C> {
    pub(super) fn install(&mut self) -> Event {
        let candidate = self.next.as_ref().and_then(|next| next.candidate.as_ref());
        let Some(candidate) = candidate else {
            return Event::Failed("there is nothing to install".to_owned());
        };
        match self.settings.store.switch(candidate) {
            Ok(()) => Event::Installed,
            Err(error) => Event::Failed(error.to_string()),
        }
    }

    pub(super) async fn commands(&mut self) -> Event {
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
    pub(in crate::apply::applier) fn note_leaving(
        &mut self,
        commands: &[Command],
        next: &Successor,
    ) {
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

    pub(super) async fn reload(&mut self) -> Event {
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

    pub(super) async fn read_back(&mut self) -> Event {
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

    pub(super) async fn roll_back(&mut self) -> Event {
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

    pub(in crate::apply::applier) fn tell_live(&mut self) {
        let extent = self.live.as_ref().map(|live| Extent::of(&live.plan));
        self.machine.status_mut().extent = extent;
    }

    pub(in crate::apply::applier) fn tell_good(&mut self, digest: &str) {
        let status = self.machine.status_mut();
        status.digest = Some(digest.to_owned());
        status.last_good = Some(digest.to_owned());
    }
}

fn text(output: &Output) -> String {
    let main = output.rendered.files.get(&output.rendered.main);
    main.map(|file| String::from_utf8_lossy(&file.content).into_owned())
        .unwrap_or_default()
}
