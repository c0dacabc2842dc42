//! Tells a proxy to read its files again, and asks it what it runs.

mod haproxy;
mod nginx;
mod notify;
mod process;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub use haproxy::Haproxy;
pub use nginx::{Nginx, StatusSocket};
pub use notify::{Notifier, NotifierInvalid};
pub use process::SignalName;

use super::program::ProgramError;
use crate::haproxy::runtime::SocketError;

/// Who reads the files.
#[derive(Clone, Debug)]
pub enum Proxy {
    /// HAProxy in master-worker mode.
    Haproxy(Haproxy),
    /// nginx.
    Nginx(Nginx),
    /// Anything that is only told. All of them, in order.
    Notified(Vec<Notifier>),
}

/// What a proxy was seen to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The generation it tells; `None` where it was not asked to tell any.
    pub generation: Option<String>,
    /// Processes that take new connections.
    pub workers: BTreeSet<u32>,
    /// Processes that only finish what they have.
    pub old_processes: usize,
    /// Reloads that HAProxy's master says did not take.
    pub failed_reloads: Option<u32>,
}

/// A proxy could not be told, or not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Its socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A file with a process id.
    #[error("pid file {path}: {why}", path = path.display())]
    PidFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The process.
    #[error("process {pid} cannot be signalled: {source}")]
    Signal {
        /// Which.
        pid: u32,
        source: rustix::io::Errno,
    },
    /// Its status page.
    #[error("status socket {path}: {source}", path = path.display())]
    Status {
        /// Where.
        path: PathBuf,
        source: std::io::Error,
    },
    /// A notifier's command.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A notifier's command ended badly.
    #[error("notifier: {0}")]
    Command(String),
    /// There is neither a master socket nor a pid file.
    #[error("HAProxy's master cannot be reached: configure its socket or its pid file")]
    NoMaster,
}

/// Whether a reload took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Took {
    /// New processes run what was meant.
    Yes,
    /// Not so far.
    NotYet,
    /// It will not, and why.
    No(String),
}

impl Seen {
    /// Judges by what was seen before the reload and what is seen now. `generation` is what should
    /// be told now; the same generation may be told by the old process, so it must be gone as well.
    pub fn took(&self, before: &Self, generation: Option<&str>) -> Took {
        if let (Some(failed), Some(failed_before)) = (self.failed_reloads, before.failed_reloads)
            && failed > failed_before
        {
            return Took::No("HAProxy's master counts it as failed; its log tells why".to_owned());
        }
        let is_new = !self.workers.is_empty() && self.workers.is_disjoint(&before.workers);
        let is_meant = match (&self.generation, generation) {
            (Some(told), Some(meant)) => told == meant,
            // The files carry no generation, or the proxy is not asked: new processes must do.
            _ => true,
        };
        if is_new && is_meant {
            Took::Yes
        } else {
            Took::NotYet
        }
    }
}

impl Proxy {
    /// Whether it can be asked what it runs.
    pub fn is_asked(&self) -> bool {
        match self {
            Self::Haproxy(_) | Self::Nginx(_) => true,
            Self::Notified(_) => false,
        }
    }

    /// Tells it to read its files again.
    ///
    /// # Errors
    /// [`ReloadError`] where it could not be told. That it was told does not say that it took.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        match self {
            Self::Haproxy(haproxy) => haproxy.reload().await,
            Self::Nginx(nginx) => nginx.reload().await,
            Self::Notified(notifiers) => {
                for notifier in notifiers {
                    notifier.notify(NOTIFIER_TIMEOUT).await?;
                }
                Ok(())
            }
        }
    }

    /// Asks what it runs.
    ///
    /// # Errors
    /// [`ReloadError`] where it does not answer.
    pub async fn seen(&self) -> Result<Seen, ReloadError> {
        match self {
            Self::Haproxy(haproxy) => haproxy.seen().await,
            Self::Nginx(nginx) => nginx.seen().await,
            Self::Notified(_) => Ok(Seen::default()),
        }
    }
}

/// kube2lb's default of `-update-timeout`, in which a notifier had to end too.
const NOTIFIER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::{Seen, Took};

    #[test]
    fn a_reload_took_when_new_processes_tell_what_was_meant() {
        let seen = |worker: u32, generation: &str, failed: u32| Seen {
            generation: Some(generation.to_owned()),
            workers: [worker].into(),
            old_processes: 0,
            failed_reloads: Some(failed),
        };
        let before = seen(1, "a", 3);
        assert_eq!(seen(2, "b", 0).took(&before, Some("b")), Took::Yes);
        assert_eq!(seen(1, "a", 3).took(&before, Some("b")), Took::NotYet);
        // The same generation: only the process tells.
        assert_eq!(seen(1, "a", 3).took(&before, Some("a")), Took::NotYet);
        assert_eq!(seen(2, "a", 0).took(&before, Some("a")), Took::Yes);
        // Somebody else reloaded something else.
        assert_eq!(seen(2, "c", 0).took(&before, Some("b")), Took::NotYet);
        assert!(matches!(
            seen(1, "a", 4).took(&before, Some("b")),
            Took::No(_)
        ));
        assert_eq!(Seen::default().took(&before, None), Took::NotYet);
    }
}
