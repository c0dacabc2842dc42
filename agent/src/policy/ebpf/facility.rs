//! The policy maps as a part of the kernel that follows `Desired`.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_abi::policy::{ENDPOINT_CLOSED, EndpointV1, NO_SET};

use tokio::sync::watch;

use super::image::{Image, Numbers, Op, Prefix, RuleNames, plan, shown};
use super::lost::Lost;
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

/// What becomes of a pod whose rules are not there to be asked.
pub(super) const CLOSED: EndpointV1 = EndpointV1 {
    ingress: NO_SET,
    egress: NO_SET,
    flags: ENDPOINT_CLOSED,
    _pad: 0,
};

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
}

/// What the maps hold, as far as this process has read and written them.
#[derive(Debug)]
struct Known {
    image: Image,
    numbers: Numbers,
    /// Of the tables that it was made from.
    revision: Option<u64>,
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
                }
            }
        };
        if known.revision == Some(tables.revision()) {
            return Ok(known);
        }
        let started = Instant::now();
        let (ops, numbers) = plan(&known.image, &known.numbers, tables);
        // Before the first packet is judged by a rule, its name is known.
        self.in_force
            .send_modify(|told| told.rules = Some(numbers.names().clone()));
        let mut lost = Lost::default();
        let mut written = Ok(());
        let first_unused = ops.iter().position(|op| matches!(op, Op::DeleteVerdict(_)));
        for (index, op) in ops.iter().enumerate() {
            if first_unused == Some(index) && index > 0 {
                std::thread::sleep(GRACE);
            }
            let Some(op) = lost.instead_of(*op) else {
                continue;
            };
            written = match (self.maps.write(op), op) {
                (Err(error @ TableError::Full { .. }), Op::PutVerdict((key, _), _)) => {
                    // The sets of others may fit.
                    let instead = lost.lose(key.set, error, &known.image);
                    instead
                        .into_iter()
                        .try_for_each(|op| self.commit(op, &mut known.image, outcome))
                }
                (Ok(()), op) => {
                    known.image.commit(op);
                    outcome.operations += 1;
                    Ok(())
                }
                (Err(error), _) => Err(error),
            };
            if written.is_err() {
                lost.pods
                    .extend(self.close(&known.image, &ops[index..], outcome));
                break;
            }
        }
        if !ops.is_empty() || known.revision.is_none() {
            self.maps.advance()?;
        }
        let written = written.and(lost.error.take().map_or(Ok(()), Err));
        if let Err(error) = &written {
            outcome.problems = lost.problems(tables, &numbers, error);
        }
        written?;
        known.numbers = numbers;
        known.revision = Some(tables.revision());
        self.in_force
            .send_modify(|told| told.applies.observe(started.elapsed()));
        Ok(known)
    }

    fn commit(
        &mut self,
        op: Op,
        image: &mut Image,
        outcome: &mut Outcome,
    ) -> Result<(), TableError> {
        self.maps.write(op)?;
        image.commit(op);
        outcome.operations += 1;
        Ok(())
    }

    /// Closes the pods whose rules are among the writes that are `left` undone: what they should be
    /// is not there to be asked. Answers which.
    fn close(&mut self, image: &Image, left: &[Op], outcome: &mut Outcome) -> Vec<Prefix> {
        let mut pods = Vec::new();
        for op in left {
            let Op::PutEndpoint(prefix, wanted) = op else {
                continue;
            };
            if wanted.ingress == NO_SET && wanted.egress == NO_SET {
                continue;
            }
            pods.push(*prefix);
            if image.endpoints.get(prefix) == Some(&CLOSED) {
                continue;
            }
            match self.maps.write(Op::PutEndpoint(*prefix, CLOSED)) {
                Ok(()) => outcome.operations += 1,
                Err(error) => {
                    tracing::error!(pod = shown(prefix), %error, "its rules are not in force, and it cannot be closed");
                }
            }
        }
        pods
    }
}

fn told(error: &TableError) -> String {
    let text = crate::applier::with_causes(error);
    match error {
        TableError::Full { .. } => format!(
            "network policy: {text}; pods whose rules do not fit are closed; raise --max-policy-entries and make the tables anew with --cleanup-config and a restart"
        ),
        TableError::Kernel { .. } => format!("network policy: {text}"),
    }
}
