//! The tasks of the process: one token stops them all, and the first that ends by itself ends the
//! process.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the tasks have to end; a scrape that hangs must not keep the process.
const LEAVE_AFTER: Duration = Duration::from_secs(5);

/// All that run.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<Result<()>>,
    cancel: CancellationToken,
}

impl Tasks {
    /// Runs what cannot fail, until the token it is given.
    pub(super) fn spawn<F>(&mut self, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let part = part(self.cancel.clone());
        self.running.spawn(async move {
            part.await;
            Ok(())
        });
    }

    /// Runs what may fail, which ends the process.
    pub(super) fn try_spawn<F, E>(&mut self, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let part = part(self.cancel.clone());
        self.running
            .spawn(async move { part.await.map_err(Into::into) });
    }

    /// Runs a blocking part on a thread of its own, which counts as a task: its error ends the agent.
    pub(super) fn spawn_thread(
        &mut self,
        name: &'static str,
        part: impl FnOnce(&Handle, CancellationToken) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (runtime, cancel) = (Handle::current(), self.cancel.clone());
        let (done, ended) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if done.send(part(&runtime, cancel)).is_err() {
                    tracing::debug!(
                        thread = name,
                        "nobody waits for the end of this thread any more"
                    );
                }
            })?;
        self.running.spawn(async move {
            ended
                .await
                .with_context(|| format!("the thread {name} panicked"))?
        });
        Ok(())
    }

    /// Waits for a signal or for the first task to end, and then for all of them.
    pub(super) async fn supervise(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
        let first = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            Some(ended) = self.running.join_next() => match ended {
                Ok(Ok(())) => Err(anyhow::anyhow!("a task ended by itself; this is a bug, the agent ends and can be started again")),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(panic.into()),
            },
        };
        self.cancel.cancel();
        tracing::info!("stopping; the kernel goes on balancing with what it has");
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                if let Ok(Err(error)) = ended {
                    tracing::warn!(%error, "a task failed while stopping");
                }
            }
        };
        if tokio::time::timeout(LEAVE_AFTER, all).await.is_err() {
            tracing::warn!("a task does not end; the process ends without it");
        }
        first
    }
}
