//! Drives one proxy: does what [`super::state`] says, and tells it how it went.

mod blame;
mod partly;
mod steps;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bisect::Suspect;
use super::check::{Check, Verdict};
use super::files::{Candidate, Extent, FilesError, Restored, Store, Stored};
use super::guard::{self, GuardLimits};
use super::pace;
use super::quarantine::Quarantine;
use super::reload::Proxy;
use super::state::{Event, Machine, Pace, Step};
use super::status::Status;
use crate::edge::EdgePlan;
use crate::haproxy;
use crate::haproxy::runtime::{Change, Leaving};
use crate::output::Rendered;

/// A plan, and what was rendered of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The plan.
    pub plan: EdgePlan,
    /// Its files.
    pub rendered: Rendered,
}

/// What is to follow a live output.
#[derive(Debug)]
pub struct Successor {
    /// All of it.
    pub output: Output,
    /// The sections that differ, where the others are known to be the same.
    pub sections: Option<haproxy::Moved>,
}

impl Successor {
    /// Rendered in full.
    pub fn whole(output: Output) -> Self {
        let sections = None;
        Self { output, sections }
    }

    /// Of a plan of which servers alone differ.
    pub fn of(plan: EdgePlan, update: haproxy::Update) -> Self {
        let haproxy::Update { rendered, moved } = update;
        Self {
            output: Output { plan, rendered },
            sections: Some(moved),
        }
    }

    /// Whether its files are those that are live.
    fn is_as(&self, live: &Output) -> bool {
        match &self.sections {
            Some(moved) => moved.before == moved.after,
            None => live.rendered == self.output.rendered,
        }
    }
}

/// A state of the cluster.
#[derive(Debug)]
pub struct Input<C> {
    /// Rises with every change.
    pub number: u64,
    /// Whether every kind was listed to its end.
    pub is_synced: bool,
    /// Whatever the functions of [`Sources`] read.
    pub cluster: Arc<C>,
}

/// How outputs are made of states of the cluster.
pub struct Sources<C> {
    /// Compiles and renders without some objects.
    pub compile: Compile<C>,
    /// What a live output becomes where servers alone changed.
    pub update: UpdateOf<C>,
    /// What is live with the endpoints of now, for a reload that waits; `None` where that is the
    /// same.
    pub partly: Partly<C>,
    /// An object as it is, `None` where it is gone.
    pub version: Version<C>,
    /// Which deletions were seen as events after the state of this number.
    pub seen: SeenSince<C>,
}

/// See [`Sources::compile`].
pub type Compile<C> = Box<dyn Fn(&C, &BTreeSet<Suspect>) -> Result<Output, String> + Send + Sync>;
/// See [`Sources::update`]. `None` where it takes [`Sources::compile`].
pub type UpdateOf<C> = Box<dyn Fn(&C, &Output) -> Option<Successor> + Send + Sync>;
/// See [`Sources::partly`].
pub type Partly<C> =
    Box<dyn Fn(&C, &Output, &BTreeSet<Suspect>) -> Option<Successor> + Send + Sync>;
/// See [`Sources::version`].
pub type Version<C> = Box<dyn Fn(&C, &Suspect) -> Option<Arc<str>> + Send + Sync>;
/// See [`Sources::seen`].
pub type SeenSince<C> = Box<dyn Fn(&C, u64) -> guard::Seen + Send + Sync>;

impl<C> fmt::Debug for Sources<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What an applier is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The files.
    pub store: Store,
    /// Who checks them.
    pub check: Check,
    /// How long a check may take; nginx needs four seconds for ten thousand hosts.
    pub check_timeout: Duration,
    /// Checks that a search for guilty objects may take.
    pub max_checks: usize,
    /// Who reads them.
    pub proxy: Proxy,
    /// Times and limits.
    pub pace: Pace,
    /// What is too much at once.
    pub guard: GuardLimits,
    /// How long connections of servers that left may go on.
    pub drain: Duration,
    /// How often files and process are compared with what was meant; `None` is never.
    pub drift: Option<DriftWatch>,
}

/// How drift is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriftWatch {
    /// Between two looks.
    pub interval: Duration,
    /// Whether it is repaired; told it is in any case.
    pub repairs: bool,
}

/// One proxy's applier.
#[derive(Debug)]
pub struct Applier<C> {
    settings: Settings,
    sources: Sources<C>,
    machine: Machine,
    quarantine: Quarantine,
    /// What the proxy was seen running, or was told to run.
    live: Option<Output>,
    /// Of the version on disk, until there is a plan to compare with.
    live_extent: Option<Extent>,
    /// What is being made live.
    next: Option<Prepared>,
    /// What is on its way to the disk.
    saving: Option<Saving<C>>,
    leaving: Leaving,
    /// What passed the check last: the cluster, and its plan.
    good: Option<(Arc<C>, EdgePlan)>,
    input: Option<Input<C>>,
    housekeeping: Instant,
    drift_at: Instant,
    is_hand_over_known: bool,
    /// Where the next look at certificates begins: each looks at some.
    certificate_turn: usize,
}

/// What is being made live.
#[derive(Debug)]
struct Prepared {
    successor: Successor,
    candidate: Option<Candidate>,
    change: Change,
}

/// What is being written and checked beside everything else.
#[derive(Debug)]
struct Saving<C> {
    /// The cluster it was made of; `None` where that has changed, and a part of it is not live.
    cluster: Option<Arc<C>>,
    output: Arc<Output>,
    asked: JoinHandle<Asked>,
}

/// What the check says of what was written, where it was written.
type Asked = Result<(Candidate, Verdict), String>;

/// Between two looks at servers that leave and at old processes.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

impl<C> Applier<C> {
    /// Finds what is on disk and puts the last good version in place where `current` is corrupt.
    ///
    /// # Errors
    /// [`FilesError`] where that cannot be done.
    pub fn start(settings: Settings, sources: Sources<C>) -> Result<Self, FilesError> {
        let mut machine = Machine::new(settings.pace.clone());
        let restored = settings.store.restore()?;
        let told = match &restored {
            Restored::Nothing | Restored::Current(_) => None,
            Restored::LastGood { corrupt, .. } => {
                Some(format!("{corrupt}; the last good version is in its place"))
            }
            Restored::Corrupt(why) => Some(format!("{why}; there is no version to start from")),
        };
        if let Some(told) = &told {
            tracing::warn!(%told, "files on disk are corrupt");
        }
        machine.status_mut().restored = told;
        if let Stored::Good(manifest) = settings.store.last_good() {
            machine.status_mut().last_good = Some(manifest.digest);
        }
        let now = Instant::now();
        Ok(Self {
            settings,
            sources,
            machine,
            quarantine: Quarantine::default(),
            live: None,
            live_extent: None,
            next: None,
            saving: None,
            leaving: Leaving::default(),
            good: None,
            input: None,
            housekeeping: now,
            drift_at: now,
            is_hand_over_known: false,
            certificate_turn: 0,
        })
    }

    /// Follows the inputs until it is cancelled.
    pub async fn run(
        mut self,
        mut inputs: channel::Receiver<Option<Input<C>>>,
        status: channel::Sender<Status>,
        cancelled: CancellationToken,
    ) where
        C: Send + Sync,
    {
        self.adopt().await;
        while !cancelled.is_cancelled() {
            let input = inputs.borrow_and_update().as_ref().map(Input::again);
            self.take(input);
            let step = self.machine.next(Instant::now());
            self.tell(&status);
            let Step::Wait(until) = step else {
                let step = self.act(&step).await;
                self.machine.on(step, Instant::now());
                continue;
            };
            let wake = self.wake(until);
            let sleep = tokio::time::sleep_until(wake.into());
            tokio::select! {
                () = cancelled.cancelled() => {}
                asked = steps::written(&mut self.saving) => self.saved(asked).await,
                changed = inputs.changed() => if changed.is_err() { break },
                () = sleep => self.keep_house().await,
            }
        }
        self.tell(&status);
    }

    /// Takes over what runs already, if it is what is on disk: a restart reloads nothing.
    async fn adopt(&mut self) {
        let Stored::Good(manifest) = self.settings.store.current() else {
            return;
        };
        self.live_extent = manifest.extent;
        let seen = match self.settings.proxy.seen().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::info!(%error, "the proxy does not answer yet");
                return;
            }
        };
        let is_same = self.settings.proxy.is_asked()
            && manifest.generation.is_some()
            && seen.generation == manifest.generation;
        let rendered = self.settings.store.read(&manifest);
        if let (true, Some(rendered)) = (is_same, rendered)
            && self.differences(&rendered).await.is_empty()
        {
            let plan = EdgePlan::default();
            self.live = Some(Output { plan, rendered });
            self.machine.status_mut().extent = self.live_extent;
        }
    }

    fn take(&mut self, input: Option<Input<C>>) {
        let Some(input) = input else { return };
        let event = Event::World {
            number: input.number,
            is_synced: input.is_synced,
        };
        let is_known = self.input.as_ref().is_some_and(|known| {
            known.number == input.number && known.is_synced == input.is_synced
        });
        if !is_known {
            // A cluster that is not complete is nothing to render of.
            if input.is_synced {
                self.input = Some(input);
            }
            self.machine.on(event, Instant::now());
        }
    }

    fn wake(&self, until: Option<Instant>) -> Instant {
        let is_busy = !self.leaving.servers.is_empty() || self.machine.status().old_processes > 0;
        let house = is_busy.then_some(self.housekeeping + HOUSEKEEPING);
        let drift = self
            .settings
            .drift
            .map(|drift| self.drift_at + drift.interval);
        let far = Instant::now() + pace::IDLE;
        [until, house, drift]
            .into_iter()
            .flatten()
            .fold(far, Instant::min)
    }

    fn tell(&mut self, status: &channel::Sender<Status>) {
        let current = self.machine.status();
        status.send_if_modified(|told| {
            let is_new = told != current;
            if is_new {
                told.clone_from(current);
            }
            is_new
        });
    }
}

impl<C> Input<C> {
    fn again(&self) -> Self {
        Self {
            number: self.number,
            is_synced: self.is_synced,
            cluster: Arc::clone(&self.cluster),
        }
    }
}
