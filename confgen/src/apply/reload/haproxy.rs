//! HAProxy in master-worker mode.

use std::path::PathBuf;

use super::process::{SignalName, children, pid_of_program, signal};
use super::{NOTIFIER_TIMEOUT, Notifier, ReloadError, Seen};
use crate::haproxy::runtime::{Socket, info, processes};

/// Where a HAProxy is reached.
#[derive(Clone, Debug)]
pub struct Haproxy {
    /// `stats socket … level admin expose-fd listeners`.
    pub runtime: Socket,
    /// `haproxy -S`.
    pub master: Option<Socket>,
    /// `haproxy -p`: the master's.
    pub pid_file: Option<PathBuf>,
    /// How a reload is asked for, where it is neither `reload` at the master's socket nor SIGUSR2.
    pub notifier: Option<Notifier>,
}

const GENERATION: &str = "proc.fairlead_generation";

impl Haproxy {
    pub(super) async fn reload(&self) -> Result<(), ReloadError> {
        if let Some(notifier) = &self.notifier {
            return notifier.notify(NOTIFIER_TIMEOUT).await;
        }
        if let Some(master) = &self.master {
            // It runs itself anew, so the connection ends without an answer.
            master.tell("reload").await?;
            return Ok(());
        }
        let file = self.pid_file.as_ref().ok_or(ReloadError::NoMaster)?;
        signal(pid_of_program(file, "haproxy")?, SignalName::USR2)
    }

    /// The generation is the variable that our template sets in `global`; an operator's own may tell
    /// it as `description`, which `show info` has.
    pub(super) async fn seen(&self) -> Result<Seen, ReloadError> {
        let told = self.runtime.ask(&["show", "info"]).await?;
        let worker: Option<u32> = info(&told, "Pid").and_then(|pid| pid.parse().ok());
        let variable = self.runtime.ask(&["get", "var", GENERATION]).await?;
        // proc.name: type=str value=<text>
        let generation = variable
            .split_once("value=<")
            .and_then(|(_, rest)| rest.split('>').next())
            .or_else(|| info(&told, "description"));
        let mut seen = Seen {
            generation: generation.map(str::to_owned),
            workers: worker.into_iter().collect(),
            ..Seen::default()
        };
        if let Some(master) = &self.master {
            let processes = processes(&master.ask_once("show proc").await?);
            seen.old_processes = processes.old_workers;
            seen.failed_reloads = processes.failed_reloads;
        } else if let Some(file) = &self.pid_file {
            let master = pid_of_program(file, "haproxy")?;
            let workers = children(master);
            seen.old_processes = workers
                .iter()
                .filter(|(pid, _)| !seen.workers.contains(pid))
                .count();
        }
        Ok(seen)
    }

    /// Whether listeners are handed over at a reload, so that no connection is refused: HAProxy
    /// sends them to whoever asks its socket, if that has `expose-fd listeners`.
    ///
    /// # Errors
    /// [`ReloadError`] where nobody answers.
    pub async fn hands_over_listeners(&self) -> Result<bool, ReloadError> {
        Ok(self.runtime.hands_over_listeners().await?)
    }
}
