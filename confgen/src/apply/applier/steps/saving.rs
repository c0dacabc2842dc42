//! What is live goes to the disk, checked, beside whatever else happens.

use std::sync::Arc;
use std::time::Instant;

use super::super::{Applier, Asked, Output, Saving, Settings};
use crate::apply::check::Verdict;
use crate::apply::files::Extent;
use crate::apply::state::Event;

impl<C> Applier<C> {
    /// Begins to write what commands made live.
    pub(super) fn save(&mut self) -> Event {
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
    pub(in crate::apply::applier) async fn saved(&mut self, asked: Asked) {
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

    pub(in crate::apply::applier) async fn ask(&self, output: &Output) -> Asked {
        ask(&self.settings, &Arc::new(output.clone())).await
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
pub(in crate::apply::applier) async fn written<C>(saving: &mut Option<Saving<C>>) -> Asked {
    match saving {
        Some(saving) => match (&mut saving.asked).await {
            Ok(asked) => asked,
            Err(error) => Err(format!("what is live could not be saved: {error}")),
        },
        None => std::future::pending().await,
    }
}
