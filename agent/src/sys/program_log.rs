//! What programs say of themselves, as lines of this process's log.
#![expect(unsafe_code, reason = "tokio's registration of a descriptor is unsafe")]

use std::io;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where the lines of programs go.
#[derive(Clone, Copy, Debug)]
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Asked for by a flag of its own, so not at a level that is usually hidden.
        tracing::info!(program = record.target(), "{}", record.args());
    }

    fn flush(&self) {}
}

/// The lines of programs that were loaded.
pub struct ProgramLog(EbpfLogger<ToTracing>);

impl std::fmt::Debug for ProgramLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgramLog").finish_non_exhaustive()
    }
}

impl ProgramLog {
    /// Those of an object; `None` where its programs say nothing.
    pub fn of(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(ebpf, ToTracing).ok().map(Self)
    }

    /// Follows them.
    ///
    /// # Errors
    /// Where they cannot be waited for.
    pub async fn follow(self) -> io::Result<()> {
        // SAFETY: the descriptor stays open and the same as long as the ring buffer lives, which
        // nothing here moves out of the `AsyncFd` or replaces.
        let registered = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) };
        let mut log = registered?;
        loop {
            let mut ready = log.readable_mut().await?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}
