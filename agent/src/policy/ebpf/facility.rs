//! The policy maps as a part of the kernel that follows `Desired`.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_abi::policy::{ENDPOINTS_MAP, IDENTITIES_MAP, NO_SET, VERDICTS_MAP};
use model::Problem;
use tokio::sync::watch;

use super::image::{
    self, CLOSED, Image, Lacking, Numbers, Op, Plan, Prefix, Room, RuleNames, plan, shown,
};
use super::left_out::{self, Effect, LeftOut, problems};
use super::maps::Maps;
use crate::applier::{Outcome, Pass};
use crate::desired::Desired;
use crate::desired::policy::PolicyTables;
use crate::histogram::Histogram;
use crate::sys::map::TableError;

/// Verdicts are taken away this long after nothing refers to them: a program that has read the old
/// set has asked for its verdict by then. It runs for microseconds, but its CPU may be another
/// guest's meanwhile.
const GRACE: Duration = Duration::from_millis(5);

/// The policy maps of this node and what is known of them.
#[derive(Debug)]
pub struct PolicyMaps {
    maps: Maps,
    known: Option<Known>,
    in_force: watch::Sender<InForce>,
}

/// What is told of the maps, for reports and metrics.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Rules by their numbers, those that were in force lately among them; `None` before the first
    /// look at the maps.
    pub rules: Option<RuleNames>,
    /// How long applies took that had something to do.
    pub applies: Histogram,
    /// Of the tables that packets are judged by. What they no longer need may still be there.
    pub revision: Option<u64>,
}

/// What the maps hold, as far as this process has read and written them.
#[derive(Debug)]
struct Known {
    image: Image,
    numbers: Numbers,
    /// Of the tables that it was made from.
    revision: Option<u64>,
    /// Sets that are not in force as they should be.
    lacking: Lacking,
    /// The policies that are not in force for it.
    problems: Vec<Problem>,
}

/// Writes that were not done, and why.
struct Undone {
    error: TableError,
    ops: Vec<Op>,
}

impl Undone {
    fn is_for_room(&self) -> bool {
        matches!(self.error, TableError::Full { .. })
    }

    fn of(error: TableError, ops: Vec<Op>) -> Box<Self> {
        Box::new(Self { error, ops })
    }
}

impl PolicyMaps {
    /// The maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        let maps = Maps::open(pins)?;
        let (in_force, _) = watch::channel(InForce::default());
        Ok(Self {
            maps,
            known: None,
            in_force,
        })
    }

    /// What is told of them.
    pub fn in_force(&self) -> watch::Receiver<InForce> {
        self.in_force.subscribe()
    }

    /// Brings them in line with `desired`.
    pub fn apply(&mut self, desired: &Desired, pass: Pass) -> Outcome {
        let mut outcome = Outcome::default();
        match self.try_apply(&desired.policy, pass, &mut outcome) {
            Ok(known) => {
                outcome.usage = self.maps.usage(&known.image);
                outcome.policy = known.revision;
                outcome.no_room = does_not_fit(&known.lacking);
                outcome.problems.clone_from(&known.problems);
                self.known = Some(known);
            }
            // What the kernel holds is unknown now; the next apply reads it back.
            Err(error) => outcome.error = Some(told(&error)),
        }
        outcome
    }

    /// Whether the maps still hold what was written.
    ///
    /// # Errors
    /// Where they do not, or cannot be read; the next apply reads them back and mends them.
    pub fn audit(&mut self) -> Result<(), String> {
        let Some(known) = self.known.take() else {
            return Ok(());
        };
        let (found, _) = self.maps.read().map_err(|error| told(&error))?;
        if found != known.image {
            return Err("the policy tables are not as they were written".to_owned());
        }
        self.known = Some(known);
        Ok(())
    }

    fn try_apply(
        &mut self,
        tables: &PolicyTables,
        pass: Pass,
        outcome: &mut Outcome,
    ) -> Result<Known, TableError> {
        let mut known = match self.known.take() {
            Some(known) if pass == Pass::Changes => known,
            _ => {
                let (image, free) = self.maps.read()?;
                let numbers = Numbers::recover(&image, free, tables);
                Known {
                    image,
                    numbers,
                    revision: None,
                    lacking: Lacking::default(),
                    problems: Vec::new(),
                }
            }
        };
        if known.revision == Some(tables.revision()) {
            return Ok(known);
        }
        let started = Instant::now();
        let room = self.maps.room();
        let operations = &mut outcome.operations;
        let mut followed = self.follow(&mut known, tables, room, operations);
        if followed.as_ref().is_err_and(|undone| undone.is_for_room()) {
            // What is there and what is to be do not fit beside each other. Pods whose rules
            // change are closed while what they had makes room.
            let smaller = Room {
                new_ones: false,
                ..room
            };
            followed = self
                .follow(&mut known, tables, smaller, operations)
                .and_then(|()| self.follow(&mut known, tables, room, operations));
        }
        if let Err(undone) = followed {
            let pods = self.close(&known.image, &undone.ops, operations);
            let why = undone.error.to_string();
            outcome.problems = problems(
                &LeftOut::Pods(&pods),
                tables,
                &known.numbers,
                (Effect::Closed, &why),
            );
            // Connections that go on are judged again, by what is closed.
            self.maps.advance()?;
            return Err(undone.error);
        }
        known.problems = lacks(&known.lacking, tables, &known.numbers);
        known.revision = Some(tables.revision());
        self.in_force
            .send_modify(|told| told.applies.observe(started.elapsed()));
        Ok(known)
    }

    /// Writes what leads to the tables, as far as there is room.
    fn follow(
        &mut self,
        known: &mut Known,
        tables: &PolicyTables,
        room: Room,
        operations: &mut u64,
    ) -> Result<(), Box<Undone>> {
        // Where something is left out, what is to be is not what is there.
        let revision = known
            .revision
            .filter(|_| known.lacking == Lacking::default());
        let (image, before) = (&known.image, &known.numbers);
        let difference = revision.and_then(|revision| tables.since(revision));
        let followed = difference
            .and_then(|difference| image::follow(image, before, tables, &difference, room));
        let Plan {
            mut ops,
            numbers,
            lacking,
        } = followed.unwrap_or_else(|| plan(image, before, tables, room));
        // Before the first packet is judged by a rule, its name is known.
        self.in_force
            .send_modify(|told| told.rules = Some(numbers.names().clone()));
        let is_unused = |op: &Op| matches!(op, Op::DeleteVerdict(_));
        let in_force = ops.iter().position(is_unused).unwrap_or(ops.len());
        let unused = ops.split_off(in_force);
        let written = self.write(known, &ops, operations);
        // A program reads the epoch before it asks for a set, so what it finds in an old set it
        // notes under the old epoch, and nobody need wait for what is taken away.
        if !ops.is_empty() || !unused.is_empty() || known.revision.is_none() {
            self.maps
                .advance()
                .map_err(|error| Undone::of(error, Vec::new()))?;
        }
        written.map_err(|(done, error)| Undone::of(error, ops.split_off(done)))?;
        if room.new_ones {
            // A pod that waits for its rules waits for nothing that nobody asks any more.
            let revision = Some(tables.revision());
            self.in_force.send_modify(|told| told.revision = revision);
        }
        if !ops.is_empty() && !unused.is_empty() {
            std::thread::sleep(GRACE);
        }
        let taken = self.write(known, &unused, operations);
        taken.map_err(|(done, error)| Undone::of(error, unused[done..].to_vec()))?;
        known.numbers = numbers;
        known.lacking = lacking;
        Ok(())
    }

    /// Does some writes; an error comes with how many were done.
    fn write(
        &mut self,
        known: &mut Known,
        ops: &[Op],
        operations: &mut u64,
    ) -> Result<(), (usize, TableError)> {
        for (done, op) in ops.iter().enumerate() {
            self.maps.write(*op).map_err(|error| (done, error))?;
            known.image.commit(*op);
            *operations += 1;
        }
        Ok(())
    }

    /// Closes the pods whose rules are among the writes that are `left` undone: what they should be
    /// is not there to be asked. Answers which.
    fn close(&mut self, image: &Image, left: &[Op], operations: &mut u64) -> Vec<Prefix> {
        let mut pods = Vec::new();
        for op in left {
            let Op::PutEndpoint(prefix, wanted) = op else {
                continue;
            };
            let is_free = wanted.ingress == NO_SET && wanted.egress == NO_SET && wanted.flags == 0;
            if is_free {
                continue;
            }
            pods.push(*prefix);
            if image.endpoints.get(prefix) == Some(&CLOSED) {
                continue;
            }
            match self.maps.write(Op::PutEndpoint(*prefix, CLOSED)) {
                Ok(()) => *operations += 1,
                Err(error) => {
                    tracing::error!(pod = shown(prefix), %error, "its rules are not in force, and it cannot be closed");
                }
            }
        }
        pods
    }
}

/// What to do where a table is too small.
const REMEDY: &str = "pods that what does not fit would leave open are closed; raise --max-policy-entries and make the tables anew with --cleanup-config and a restart";

/// What to do where the node has more pods than [`ENDPOINTS_MAP`] holds.
const FEWER_PODS: &str =
    "these and pods that are not known are closed but to their node; run fewer pods on the node";

fn does_not_fit(lacking: &Lacking) -> Option<String> {
    let sets = lacking.verdicts.len();
    let of_peers = lacking.open.len() + lacking.narrow.len();
    let mut what = Vec::new();
    if sets > 0 {
        what.push(format!(
            "{sets} sets of rules do not fit into {VERDICTS_MAP}"
        ));
    }
    if of_peers > 0 {
        what.push(format!(
            "peers of {of_peers} sets of rules do not fit into {IDENTITIES_MAP}"
        ));
    }
    let mut remedies = Vec::new();
    if !what.is_empty() {
        remedies.push(REMEDY);
    }
    let pods = lacking.endpoints.len();
    if pods > 0 {
        what.push(format!(
            "{pods} addresses of pods do not fit into {ENDPOINTS_MAP}"
        ));
        remedies.push(FEWER_PODS);
    }
    (!what.is_empty()).then(|| {
        format!(
            "network policy: {}; {}",
            what.join(", "),
            remedies.join("; ")
        )
    })
}

/// The policies that are not in force, or not in full.
fn lacks(lacking: &Lacking, tables: &PolicyTables, numbers: &Numbers) -> Vec<Problem> {
    let no_rules = format!("{VERDICTS_MAP} has no room for its rules");
    let no_peers = format!("{IDENTITIES_MAP} has no room for its peers");
    let no_room = format!("{ENDPOINTS_MAP} has no room for the pod");
    let pods = left_out::of_pods(&lacking.endpoints, tables, &no_room, FEWER_PODS);
    [
        (&lacking.verdicts, Effect::Closed, &no_rules),
        (&lacking.open, Effect::Closed, &no_peers),
        (&lacking.narrow, Effect::Strangers, &no_peers),
    ]
    .into_iter()
    .flat_map(|(sets, effect, why)| problems(&LeftOut::Sets(sets), tables, numbers, (effect, why)))
    .chain(pods)
    .collect()
}

fn told(error: &TableError) -> String {
    let text = crate::applier::with_causes(error);
    match error {
        TableError::Full { .. } => format!("network policy: {text}; {REMEDY}"),
        TableError::Kernel { .. } => format!("network policy: {text}"),
    }
}
