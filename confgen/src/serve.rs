//! `run`: follows the cluster and keeps every output in step with it.

mod certificates;
mod confirm;
mod following;
mod http;
mod kept;
mod quarantined;
pub mod saved;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model_watch::{LeaseTiming, Source, StatusWriter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use confirm::Confirm;
use following::Following;
use kept::Kept;
use saved::SavedPlan;
pub use world::World;

use crate::apply::applier::{Applier, Input, Output, Sources, Successor};
use crate::apply::certificates::LastValid;
use crate::apply::partly::with_servers_of;
use crate::apply::status::Status;
use crate::config::Settings;
use crate::edge::kinds;
use crate::follow;
use crate::outside;
use crate::targets::{Renderer, Target, targets};

/// Where each output is, by its name.
pub type Statuses = BTreeMap<String, watch::Receiver<Status>>;

/// Runs until `cancel`, or with `once` until every output is live.
///
/// # Errors
/// What cannot be started, and a source that cannot go on.
pub async fn run(
    mut settings: Settings,
    once: Option<Once>,
    cancel: CancellationToken,
) -> Result<()> {
    let targets = targets(&settings)?;
    let planned = once.as_ref().and_then(|once| once.plan.clone());
    if let Some(planned) = &planned {
        // Before an applier starts: it repairs what it finds on disk.
        planned.verify_ground(&settings, &targets)?;
    }
    let kept = match &planned {
        // What a plan was made of is what the cluster holds.
        Some(_) => None,
        None => kept_beside(&targets),
    };
    outside::look_up(&mut settings.edge.outside).await;
    let kinds = kinds(&settings.edge);
    let (sender, events) = mpsc::channel(follow::EVENTS);
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let (source, of_source, token) = (settings.cluster.source(), kinds.clone(), cancel.clone());
    tasks.spawn(async move { Ok(model_watch::run(source, of_source, sender, token).await?) });
    let (worlds, world) = watch::channel(None);
    let mut statuses = Statuses::new();
    let is_forced = once.as_ref().is_some_and(|once| once.is_forced);
    let mut renderers = BTreeMap::new();
    for Target {
        name,
        renderer,
        settings,
    } in targets
    {
        let renderer = Arc::new(renderer);
        renderers.insert(name.clone(), Arc::clone(&renderer));
        let applier = Applier::start(settings, sources(renderer, is_forced))
            .with_context(|| format!("output {name}"))?;
        let (told, status) = watch::channel(Status::default());
        let (inputs, token) = (world.clone(), cancel.clone());
        tasks.spawn(async move {
            applier.run(inputs, told, token).await;
            Ok(())
        });
        statuses.insert(name, status);
    }
    let (telling, certificates) = watch::channel(Vec::new());
    if once.is_none() {
        tasks.spawn(certificates::follow(world.clone(), telling, cancel.clone()));
    }
    if let (None, Some(address)) = (&once, settings.status) {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.with_context(|| {
            format!("status.listen {address}: cannot be listened on; choose another, or \"\"")
        })?;
        tracing::info!(%address, "status, health and metrics");
        let app = http::router(statuses.clone(), world.clone(), certificates.clone());
        let token = cancel.clone();
        tasks.spawn(async move {
            let served = axum::serve(listener, app);
            Ok(served
                .with_graceful_shutdown(token.cancelled_owned())
                .await?)
        });
    }
    let (agreed, agreements) = mpsc::channel(1);
    if once.is_none() {
        let confirm = Confirm {
            source: settings.cluster.source(),
            kinds: kinds.clone(),
            again: confirm::AGAIN,
        };
        let (statuses, token) = (statuses.clone(), cancel.clone());
        tasks.spawn(confirm.follow(statuses, world.clone(), agreed, token));
    }
    let (told, to_tell) = watch::channel(Vec::new());
    let (found, problems) = watch::channel(Vec::new());
    if let (None, Source::Kube(options)) = (&once, settings.cluster.source()) {
        let node: Arc<str> = holder().into();
        let (of_events, token) = (options.clone(), cancel.clone());
        let component = Arc::clone(&node);
        let (all, all_problems) = watch::channel(Vec::new());
        let (telling, left_out) = watch::channel(quarantined::Told::new());
        let telling = Arc::new(telling);
        for (output, status) in statuses.clone() {
            let (telling, token) = (Arc::clone(&telling), cancel.clone());
            tasks.spawn(quarantined::follow(output, status, telling, token));
        }
        tasks.spawn(certificates::join(problems, certificates, left_out, all));
        tasks.spawn(async move {
            model_watch::post_events(of_events, COMPONENT, component, all_problems, token).await;
            Ok(())
        });
        if let Some(lease) = settings.lease.clone() {
            let writer = StatusWriter {
                lease,
                holder: format!("{node}-{}", std::process::id()),
                timing: LeaseTiming::default(),
            };
            let token = cancel.clone();
            tasks.spawn(async move {
                model_watch::write_statuses(options, writer, to_tell, token).await;
                Ok(())
            });
        }
    }
    let (keeping, to_keep) = mpsc::channel(kept::WAITING);
    let held = kept.as_ref().map(|kept| kept.load(world::now()));
    if let Some(kept) = kept {
        tasks.spawn(kept::follow(kept, to_keep, cancel.clone()));
    }
    let (found_outside, outsides) = mpsc::channel(1);
    if once.is_none() {
        let (outside, files) = (settings.edge.outside.clone(), settings.certificate_files);
        tasks.spawn(outside::follow(
            outside,
            files,
            outside::AGAIN,
            found_outside,
            cancel.clone(),
        ));
    }
    let routing = settings.edge.pods.iter();
    let routing = routing.map(|of| Arc::clone(&of.secret_name));
    let following = Following {
        last: LastValid::new(routing, held.unwrap_or_default()),
        keeping,
        kinds,
        edge: settings.edge,
        events,
        outsides,
        agreements,
        planned: planned.map(|planned| (planned, renderers)),
        statuses: told,
        problems: found,
        worlds,
    };
    tasks.spawn(following.run(cancel.clone()));
    let lives = match once {
        Some(once) => {
            let lives = until_live(&statuses, once.patience).await;
            cancel.cancel();
            lives
        }
        None => Ok(()),
    };
    // What ended a task is also why an output is not live.
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked; this is a bug")??;
    }
    lives
}

/// Where certificates are kept: beside the versions of the first output.
fn kept_beside(targets: &[Target]) -> Option<Kept> {
    let directory = targets.first()?.settings.store.root().join("last-valid");
    match Kept::open(&directory) {
        Ok(kept) => Some(kept),
        Err(error) => {
            let directory = directory.display().to_string();
            let effect = "a Secret that breaks is served on until the next start alone";
            tracing::warn!(%error, directory, effect, "certificates cannot be kept");
            None
        }
    }
}

const COMPONENT: &str = "fairlead-confgen";

/// This machine's name, which Events carry.
fn holder() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// One application, for `apply`.
#[derive(Clone, Debug)]
pub struct Once {
    /// How long it may take.
    pub patience: Duration,
    /// The shrink guard does not hold it back.
    pub is_forced: bool,
    /// Only what this says is applied.
    pub plan: Option<SavedPlan>,
}

async fn until_live(statuses: &Statuses, patience: Duration) -> Result<()> {
    let all = async {
        for (name, status) in statuses {
            let mut status = status.clone();
            let live = status.wait_for(|status| status.live > 0 && status.gap.is_none());
            live.await.with_context(|| format!("output {name} ended"))?;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(patience, all).await {
        Ok(ended) => ended,
        Err(_) => {
            let gaps = statuses.iter().filter_map(|(name, status)| {
                let status = status.borrow();
                let gap = status.gap.clone().unwrap_or_else(|| "not live".to_owned());
                (status.live == 0 || status.gap.is_some()).then(|| format!("{name}: {gap}"))
            });
            let gaps = gaps.collect::<Vec<_>>().join("; ");
            anyhow::bail!("not live within {patience:?}: {gaps}")
        }
    }
}

fn sources(renderer: Arc<Renderer>, is_forced: bool) -> Sources<World> {
    let (updates, also) = (Arc::clone(&renderer), Arc::clone(&renderer));
    Sources {
        compile: Box::new(move |world: &World, without| {
            let plan = world.plan(without);
            let (rendered, problems) = renderer.render(&plan)?;
            let mut plan = plan;
            if !problems.is_empty() {
                let all = plan.problems.iter().cloned().chain(problems);
                plan.problems = Arc::new(all.collect());
            }
            Ok(Output { plan, rendered })
        }),
        update: Box::new(move |world: &World, live| {
            let update = updates.update(live, &world.plan)?;
            Some(Successor::of(world.plan.clone(), update))
        }),
        partly: Box::new(move |world: &World, live, without| {
            let plan = with_servers_of(&live.plan, &world.plan(without))?;
            if let Some(update) = also.update(live, &plan) {
                return Some(Successor::of(plan, update));
            }
            let (rendered, _) = also.render(&plan).ok()?;
            Some(Successor::whole(Output { plan, rendered }))
        }),
        version: Box::new(|world: &World, suspect| world.version(suspect)),
        seen: Box::new(move |world: &World, since| world.seen(since, is_forced)),
    }
}

impl World {
    fn input(self: &Arc<Self>) -> Input<Self> {
        Input {
            number: self.number,
            is_synced: true,
            cluster: Arc::clone(self),
        }
    }
}
