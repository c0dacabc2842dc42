//! `run`: follows the cluster and keeps every output in step with it.

mod http;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::Cluster;
use model_watch::{LeaseTiming, Source, StatusWriter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use world::World;

use crate::apply::applier::{Applier, Input, Output, Sources};
use crate::apply::status::Status;
use crate::config::Settings;
use crate::edge::{Compiler, kinds};
use crate::follow;
use crate::targets::{Renderer, Target, targets};

/// Events of one change come this close; appliers wait longer for more of them.
const QUIET: Duration = Duration::from_millis(5);

/// Where each output is, by its name.
pub type Statuses = BTreeMap<String, watch::Receiver<Status>>;

/// Runs until `cancel`, or with `once` until every output is live.
///
/// # Errors
/// What cannot be started, and a source that cannot go on.
pub async fn run(settings: Settings, once: Option<Once>, cancel: CancellationToken) -> Result<()> {
    let kinds = kinds(&settings.edge);
    let (sender, mut events) = mpsc::channel(follow::EVENTS);
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let (source, of_source, token) = (settings.cluster.source(), kinds.clone(), cancel.clone());
    tasks.spawn(async move { Ok(model_watch::run(source, of_source, sender, token).await?) });
    let (worlds, world) = watch::channel(None);
    let mut statuses = Statuses::new();
    let is_forced = once.as_ref().is_some_and(|once| once.is_forced);
    for Target {
        name,
        renderer,
        settings,
    } in targets(&settings)?
    {
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
    if let (None, Some(address)) = (&once, settings.status) {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.with_context(|| {
            format!("status.listen {address}: cannot be listened on; choose another, or \"\"")
        })?;
        tracing::info!(%address, "status, health and metrics");
        let app = http::router(statuses.clone(), world.clone());
        let token = cancel.clone();
        tasks.spawn(async move {
            let served = axum::serve(listener, app);
            Ok(served
                .with_graceful_shutdown(token.cancelled_owned())
                .await?)
        });
    }
    let (told, to_tell) = watch::channel(Vec::new());
    let (found, problems) = watch::channel(Vec::new());
    if let (None, Source::Kube(options)) = (&once, settings.cluster.source()) {
        let node: Arc<str> = holder().into();
        let (of_events, token) = (options.clone(), cancel.clone());
        let component = Arc::clone(&node);
        tasks.spawn(async move {
            model_watch::post_events(of_events, COMPONENT, component, problems, token).await;
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
    let token = cancel.clone();
    tasks.spawn(async move {
        let mut cluster = Cluster::default();
        let mut compiler = Compiler::new(settings.edge.clone());
        follow::complete(&mut cluster, &kinds, &mut events).await;
        if !cluster.is_synced(&kinds) {
            // The source has ended; its error is the answer. Nothing is made of a part.
            return Ok(());
        }
        cluster.take_changes();
        let mut world = Arc::new(World::first(
            cluster.clone(),
            compiler.whole(&cluster).clone(),
            settings.edge,
        ));
        worlds.send_replace(Some(world.input()));
        world.tell(&told, &found);
        while let Some(deletions) = world::settle(&mut cluster, &mut events, QUIET, &token).await {
            let changes = cluster.take_changes();
            if changes.is_empty() {
                continue;
            }
            let plan = compiler.update(&cluster, &changes).clone();
            world = Arc::new(world.next(cluster.clone(), plan, deletions));
            // Proxies first: telling the objects looks at all of them.
            worlds.send_replace(Some(world.input()));
            world.tell(&told, &found);
        }
        Ok(())
    });
    if let Some(once) = once {
        let lives = until_live(&statuses, once.patience).await;
        cancel.cancel();
        lives?;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked; this is a bug")??;
    }
    Ok(())
}

const COMPONENT: &str = "fairlead-confgen";

/// This machine's name, which Events carry.
fn holder() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// One application, for `apply`.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    /// How long it may take.
    pub patience: Duration,
    /// The shrink guard does not hold it back.
    pub is_forced: bool,
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

fn sources(renderer: Renderer, is_forced: bool) -> Sources<World> {
    let renderer = Arc::new(renderer);
    let updates = Arc::clone(&renderer);
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
            Some((world.plan.clone(), update))
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
