//! What an applier tells about itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bisect::Suspect;
use super::files::Extent;
use crate::haproxy::runtime::Cause;

/// The state of one output. Numbers count the states of the cluster as they were handed in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Newest state of the cluster.
    pub seen: u64,
    /// Newest state that was rendered.
    pub rendered: u64,
    /// Newest state whose files passed the check.
    pub checked: u64,
    /// The state that the proxy was seen to run.
    pub live: u64,
    /// Why `live` is behind `seen`; `None` where it is not.
    pub gap: Option<String>,
    /// Checksum of the live files.
    pub digest: Option<String>,
    /// Generation that the proxy tells.
    pub generation: Option<String>,
    /// How much the live plan serves.
    pub extent: Option<Extent>,
    /// Checksum of the version that a rollback or a start from corrupt files takes.
    pub last_good: Option<String>,
    /// Why the shrink guard keeps what is live; `None` where it does not.
    pub guard: Option<String>,
    /// Objects that are left out, and what the check said about them.
    pub quarantined: Vec<Quarantined>,
    /// Processes that only finish what they have, as they were counted last.
    pub old_processes: usize,
    /// Why the last reload was needed.
    pub last_causes: Vec<Cause>,
    /// What was found on disk at the start, where that was not simply good.
    pub restored: Option<String>,
    /// What differs between the live process or its files and what was meant.
    pub drift: Vec<String>,
    /// Whether HAProxy hands its listeners over at reloads; `None` where it was not asked.
    pub hands_over_listeners: Option<bool>,
    /// Counters.
    pub totals: Totals,
    /// How long the change waited that went live last: from its event to the proxy running it.
    pub waited_seconds: f64,
    /// The longest such wait.
    pub longest_wait_seconds: f64,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Reloads by their first cause, names left out.
    pub reloads: BTreeMap<String, u64>,
    /// Reloads that did not take.
    pub failed_reloads: u64,
    /// Changes that went live without a reload.
    pub runtime_changes: u64,
    /// Commands of the runtime socket.
    pub commands: u64,
    /// Returns to the last good version.
    pub rollbacks: u64,
    /// Checks that failed.
    pub failed_checks: u64,
    /// Plans that the shrink guard refused.
    pub refused: u64,
    /// Drifts that were repaired.
    pub repairs: u64,
}

/// An object that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// Its kind.
    pub kind: &'static str,
    /// `namespace/name`.
    pub key: String,
    /// What the check said.
    pub proof: String,
    /// The object itself.
    #[serde(skip)]
    pub suspect: Suspect,
}

impl Totals {
    /// Counts a reload. The label has no names in it, so that there are few of them.
    pub(super) fn reloaded(&mut self, causes: &[Cause]) {
        let label = causes.first().map_or("start", |cause| {
            let kind = cause.what.split([' ', ':']).next().unwrap_or_default();
            match kind {
                "backend" | "frontend" | "global" | "defaults" | "listen" | "host" | "file"
                | "runtime" | "drift" => kind,
                _ => "other",
            }
        });
        *self.reloads.entry(label.to_owned()).or_default() += 1;
    }

    /// All reloads.
    pub fn reloads(&self) -> u64 {
        self.reloads.values().sum()
    }
}
