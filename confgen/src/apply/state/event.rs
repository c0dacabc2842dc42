//! What a [`Machine`](super::Machine) is told, and what it says to do.

use std::time::Instant;

use crate::apply::guard::Refusal;
use crate::apply::reload::Seen;
use crate::haproxy::runtime::Cause;

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this time, or before something changes.
    Wait(Option<Instant>),
    /// Render the newest state, and compare it with what is live.
    Render,
    /// Write the candidate, check it, and find the guilty.
    Check,
    /// Make the candidate what the proxy reads.
    Install,
    /// Say the commands.
    Commands,
    /// Begin to write what commands made live, to check it and to switch to it.
    Save,
    /// Tell the proxy to read its files.
    Reload,
    /// Ask the proxy what it runs.
    ReadBack,
    /// Put the last good version back, and tell the proxy.
    RollBack,
}

/// How a change goes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By so many commands.
    Commands(usize),
    /// By a reload.
    Reload(Vec<Cause>),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new state of the cluster, or none that is complete.
    World {
        /// Which.
        number: u64,
        /// Whether every kind was listed to its end.
        is_synced: bool,
    },
    /// The render is what is live already.
    Unchanged,
    /// The guard refuses it.
    Refused(Refusal),
    /// There is something new.
    Rendered(How),
    /// It passed.
    Checked(How),
    /// Some step could not be done; nothing live has changed.
    Failed(String),
    /// The candidate is what the proxy reads.
    Installed,
    /// Every command was done; what they made may be on disk already.
    Commanded {
        /// Whether it is.
        is_saved: bool,
    },
    /// So many commands made endpoints live, while a reload waits.
    Partly(usize),
    /// What is live is on its way to the disk.
    Saving,
    /// What was live when that began is on disk.
    Saved,
    /// It could not be saved, or must not be: some objects are left out from here on.
    Unsaved(String),
    /// A command was refused: only a reload makes the process what the files say.
    CommandRefused(String),
    /// The proxy was told, having been seen like this before.
    Reloaded(Seen),
    /// The proxy cannot be asked, and being told was all that can be known.
    Told,
    /// The proxy was asked; `meant` is the generation it should tell.
    SeenNow {
        /// What it said.
        seen: Seen,
        /// What was meant.
        meant: Option<String>,
    },
    /// The proxy did not answer.
    Unseen(String),
    /// The last good version is back, or could not be put back.
    RolledBack(Result<(), String>),
    /// Old processes were counted.
    OldProcesses(usize),
    /// The live process or its files differ from what was meant, and are to be repaired.
    Drifted(String),
    /// Something that held a render back may hold no more.
    Retry,
}
