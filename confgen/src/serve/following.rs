//! From events to the states of the cluster that appliers take up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use model::{Cluster, Event, KindSet, ObjectStatus, Problem};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::World;
use super::kept::Changed;
use super::saved::SavedPlan;
use super::world::{self, Followed};
use crate::apply::applier::Input;
use crate::apply::certificates::LastValid;
use crate::edge::{Compiler, EdgeConfig, Outside};
use crate::targets::Renderer;

/// Events of one change come this close; appliers wait longer for more of them.
const QUIET: Duration = Duration::from_millis(5);

/// What comes in, and who is told.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) last: LastValid,
    /// Takes what is to outlive this process.
    pub(super) keeping: mpsc::Sender<Changed>,
    pub(super) kinds: KindSet,
    pub(super) edge: EdgeConfig,
    pub(super) events: mpsc::Receiver<Event>,
    /// What is named outside the cluster, whenever it changed.
    pub(super) outsides: mpsc::Receiver<Outside>,
    /// How many complete lists agreed, while the shrink guard holds.
    pub(super) agreements: mpsc::Receiver<u32>,
    /// Nothing but this plan is to be applied.
    pub(super) planned: Option<(SavedPlan, BTreeMap<String, Arc<Renderer>>)>,
    pub(super) statuses: watch::Sender<Vec<ObjectStatus>>,
    pub(super) problems: watch::Sender<Vec<Problem>>,
    pub(super) worlds: watch::Sender<Option<Input<World>>>,
}

impl Following {
    /// Follows until `cancel`, or until the source ends.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let Self {
            last,
            keeping,
            kinds,
            edge,
            events,
            mut outsides,
            mut agreements,
            planned,
            statuses,
            problems,
            worlds,
        } = self;
        let mut cluster = Cluster::default();
        let mut compiler = Compiler::new(edge.clone());
        let mut source = Followed { events, last };
        while !cluster.is_synced(&kinds) {
            let Some(event) = source.first(&cancel).await else {
                // The source has ended; its error is the answer. Nothing is made of a part.
                return Ok(());
            };
            cluster.apply(source.last.take(event, world::now()));
        }
        cluster.take_changes();
        let plan = world::with_kept(compiler.whole(&cluster).clone(), &source.last);
        let mut world = Arc::new(World::first(cluster.clone(), plan, edge));
        if let Some((planned, renderers)) = &planned {
            planned.verify_cluster(&world.plan, renderers)?;
        }
        worlds.send_replace(Some(world.input()));
        world.tell(&statuses, &problems);
        keep(&keeping, &mut source.last);
        let mut told: Vec<Problem> = source.last.problems().cloned().collect();
        if planned.is_some() {
            // What comes now is not of the plan.
            cancel.cancelled().await;
            return Ok(());
        }
        loop {
            let deletions = tokio::select! {
                Some(count) = agreements.recv() => {
                    world = Arc::new(world.confirmed(count));
                    worlds.send_replace(Some(world.input()));
                    continue;
                }
                Some(outside) = outsides.recv() => {
                    let plan = compiler.look_outside(&cluster, outside.clone()).clone();
                    let plan = world::with_kept(plan, &source.last);
                    world = Arc::new(world.beside(outside, plan));
                    worlds.send_replace(Some(world.input()));
                    world.tell(&statuses, &problems);
                    continue;
                }
                first = source.first(&cancel) => {
                    let Some(first) = first else { return Ok(()) };
                    source.settle(&mut cluster, first, QUIET).await
                }
            };
            let changes = cluster.take_changes();
            // A Secret that breaks changes nothing but what is told of it.
            let is_told = source.last.problems().eq(&told);
            if changes.is_empty() && is_told {
                continue;
            }
            told = source.last.problems().cloned().collect();
            let plan = compiler.update(&cluster, &changes).clone();
            let plan = world::with_kept(plan, &source.last);
            world = Arc::new(world.next(cluster.clone(), plan, deletions));
            // Proxies first: telling the objects looks at all of them.
            worlds.send_replace(Some(world.input()));
            world.tell(&statuses, &problems);
            keep(&keeping, &mut source.last);
        }
    }
}

/// Hands on which certificates are to be kept. What finds no room goes with the next change.
fn keep(keeping: &mpsc::Sender<Changed>, last: &mut LastValid) {
    if let Ok(room) = keeping.try_reserve() {
        let changed = last.take_changed();
        if !changed.is_empty() {
            room.send(changed);
        }
    }
}
