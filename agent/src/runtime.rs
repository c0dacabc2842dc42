//! All tasks, and how they are wired.
//!
//! ```text
//! source ──Event──► reconcile ──Desired──┬─► applier (thread) ──Applied──┐
//!                       │                └─► devices (thread) ──Device──┤
//!                       │                └─► routes, CNI ──Kept──────┤
//!                  ClusterView       links ──Link──┘                    │
//!                       └───────────────────────────────────► socket, health, Events, learned addresses, latency
//! ```
//!
//! One token stops them all. The first that fails or panics ends the process with an error; the
//! pinned programs and tables go on balancing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use model::{Kind, KindSet, ObjectKey};
use model_watch::Source;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::applier::{self, Applied, with_causes};
use crate::bootstrap;
use crate::cleanup::{HOLDER, LINKS, MAPS, PROGRAMS};
use crate::cni::install::{self, Installed};
use crate::cni::reclaim;
use crate::config::{Config, Paths};
use crate::control::collect::Watched;
use crate::control::{health, health_check, kernel, pod_interface, server};
use crate::devices;
use crate::devices::fast_path::FastPath;
use crate::egress::excluded::Given;
use crate::egress::maps::{EgressMap, SourceMap};
use crate::flows;
use crate::flows::log::Log;
use crate::flows::names::{Names, Sources};
use crate::handover::Handover;
use crate::histogram::Histogram;
use crate::latency;
use crate::lb::ebpf::attach::{Attachments, Mode};
use crate::lb::ebpf::facility::ServiceMaps;
use crate::lb::ebpf::fast_path::FastPaths;
use crate::lb::ebpf::programs::Programs;
use crate::lb::ebpf::xdp::Edge;
use crate::lb::ebpf::{DEBUG_OBJECT, OBJECT};
use crate::node_tables::{NodeTables, policy_maps};
use crate::ownership::Ownership;
use crate::policy::ebpf::facility::PolicyMaps;
use crate::policy::ebpf::interfaces::Interfaces;
use crate::probe::Capabilities;
use crate::problems::{self, Finders, OfNetwork};
use crate::reconcile::{self, ClusterView, Debounce, Heard, Place, Published};
use crate::route::keeper::{self, Kept};
use crate::settings;
use crate::sys::{bpffs, cgroup, links, lock::Lock};

/// Events on their way to the cluster. A list of 10,000 objects is one event; a watch that runs
/// ahead of a compile by more than this waits.
const EVENTS: usize = 1024;

/// How long the tasks have to end; a scrape that hangs must not keep the process.
const LEAVE_AFTER: Duration = Duration::from_secs(5);

/// Who reports, in Kubernetes Events.
const COMPONENT: &str = "fairlead-agent";

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Where the node lacks something, or a task fails.
pub async fn run(config: Config) -> Result<()> {
    let Config {
        node_name,
        mut source,
        run_service_proxy,
        exposure,
        translation,
        limits,
        default_deny,
        router,
        mtu,
        fast_path,
        devices: uplinks,
        xdp_devices,
        config_sync_period,
        paths,
        health_addr,
        kube_router_metrics,
        debug_programs,
        rcu_expedited,
        without_effect,
    } = config;
    if !run_service_proxy {
        bail!("--run-service-proxy=false leaves this build nothing to do; leave the flag out");
    }
    for flag in &without_effect {
        tracing::warn!(flag, "has no effect in this build; see --help");
    }
    let node = Capabilities::of_this_node().context("/proc cannot be read; is it mounted?")?;
    node.suffice()?;
    let object = if debug_programs { DEBUG_OBJECT } else { OBJECT };
    let object = object.context("this build has no eBPF programs, so nothing can be balanced; build with `cargo xtask build`")?;
    let mut ownership = prepare(&paths)?;
    let lock = Lock::take(&paths.bpf_root, &paths.state_dir.join(HOLDER))?;
    // First, so that an address in use changes nothing else.
    let socket = server::listen(&paths.socket)?;
    // After, since what is there already may be another agent's.
    ownership.remember(|record| _ = record.sockets.insert(paths.socket.clone()))?;
    let learned = bootstrap::place(&paths.state_dir);
    if let Source::Kube(options) = &mut source {
        options.learned = bootstrap::read(&learned);
        ownership.remember(|record| record.files.extend(bootstrap::files(&learned)))?;
    }
    let health = match health_addr {
        Some(address) => Some(health::listen(address).await?),
        None => None,
    };
    lock.sign(&paths.state_dir.join(HOLDER))
        .context("the agent's process id cannot be recorded; check --state-dir")?;
    let mode = node.attach;
    ownership.remember(|record| record.clsact |= mode == Mode::Clsact)?;
    settings::enable_all(&mut ownership)?;
    if let Some(places) = router.as_ref().and_then(|router| router.cni.as_ref()) {
        let parents = [&places.config, &places.plugin].map(|path| path.parent());
        let fresh = parents.into_iter().flatten().flat_map(missing);
        ownership.remember(|record| {
            record.directories.extend(fresh);
            record.cni_configs.insert(places.config.clone());
            record.cni_plugins.insert(places.plugin.clone());
        })?;
    }

    let pins = paths.bpf_root.join(MAPS);
    let handover = Handover::look(pins.clone(), limits.policy.is_some())?;
    let mut programs = Programs::load(object, &pins, limits)?;
    let said = programs.log();
    // Programs that are kept write to a log that nobody reads any more.
    if said.is_none() {
        programs.keep_in(&paths.bpf_root.join(PROGRAMS), object, &pins);
    }
    handover.begin(&mut ownership)?;
    let attachments = Attachments::new(paths.bpf_root.join(LINKS), mode)
        .context("links cannot be pinned; check --bpf-root")?
        .hurrying(rcu_expedited);
    let connect = attach_connect(
        &mut programs,
        &attachments,
        node.cgroup2.as_deref(),
        paths.cgroup_root.as_deref(),
        translation.masquerade_all,
    )?;
    let tables = NodeTables {
        services: ServiceMaps::open(pins.clone(), translation)?,
        policy: policy_maps(&pins, limits.policy.is_some())?,
        egress: EgressMap::open(&pins)?,
    };
    let sources = SourceMap::open(&pins)?;
    let log = Log::open(&pins)?;
    let in_force = tables.policy.as_ref().map(PolicyMaps::in_force);
    let fast_paths = FastPaths::open(&pins)?;
    let mut interfaces = Interfaces::open(&pins)?;
    if limits.policy.is_none() {
        // What an earlier run wrote; an index may be another interface's later.
        interfaces.follow(BTreeMap::new())?;
    }
    let interfaces = limits.policy.is_some().then_some(interfaces);
    tracing::info!(node = %node_name, ?mode, connect, "started");

    let cancel = CancellationToken::new();
    let mut kinds = KindSet::from([Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::Pod]);
    if tables.policy.is_some() {
        kinds.extend([
            Kind::Namespace,
            Kind::NetworkPolicy,
            Kind::ClusterNetworkPolicy,
        ]);
    }
    let (events, heard) = mpsc::channel(EVENTS);
    let (desired_tx, desired) = watch::channel(None);
    let (view_tx, view) = watch::channel(ClusterView::default());
    let (applied_tx, applied) = watch::channel(Applied::default());
    let (links_tx, links) = watch::channel(None);
    let look = Arc::new(Notify::new());
    let (devices_tx, device_list) = watch::channel(None);
    let (fast_path_tx, fast_path_seen) = watch::channel(FastPath::default());
    let (unenforced_tx, unenforced) = watch::channel(Vec::new());
    let (problems_tx, all_problems) = watch::channel(Arc::default());
    let (announce, announcements) = mpsc::channel(pod_interface::WAITING);
    let (triggered_tx, triggered) = mpsc::channel(latency::WAITING);
    let (latency_tx, latencies) = watch::channel(Histogram::default());
    let (kept_tx, kept) = watch::channel(Kept::default());
    let (installed_tx, installed) = watch::channel(Installed::default());
    let egress = router.as_ref().and_then(|router| router.egress.clone());
    let (excluded_tx, excluded) = watch::channel(egress.as_ref().map(Given::read));
    let (questions, asked) = mpsc::channel(flows::log::QUESTIONS);
    let watched = Watched {
        started: Instant::now(),
        node: Arc::clone(&node_name),
        connect: connect.into(),
        policed: limits.policy.is_some(),
        without_effect: without_effect.into(),
        pins: pins.clone(),
        view: view.clone(),
        desired: desired.clone(),
        applied: applied.clone(),
        devices: device_list,
        look: Arc::clone(&look),
        unenforced: unenforced.clone(),
        fast_path: fast_path_seen,
        problems: all_problems.clone(),
        latency: latencies,
        kube_router_metrics,
        policy: in_force.clone(),
        flows: questions,
        routes: router.as_ref().map(|_| kept.clone()),
        cni: router
            .as_ref()
            .and_then(|router| router.cni.as_ref())
            .map(|_| installed.clone()),
    };

    let names = Names::new(Sources {
        pins,
        view: view.clone(),
        desired: desired.clone(),
        links: links.clone(),
        policy: in_force,
    });

    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    if let Source::Kube(options) = &source {
        let (options, node) = (options.clone(), Arc::clone(&node_name));
        let (token, to_learn) = (cancel.clone(), view.clone());
        tasks.spawn(async move {
            model_watch::post_events(options, COMPONENT, node, all_problems, token).await;
            Ok(())
        });
        let token = cancel.clone();
        tasks.spawn(async move {
            bootstrap::run(learned, to_learn, token).await;
            Ok(())
        });
    }
    let (unanswered_tx, unanswered) = watch::channel(BTreeMap::new());
    let token = cancel.clone();
    let finders = Finders {
        view,
        applied: applied.clone(),
        unenforced,
        unanswered,
        network: OfNetwork {
            node: ObjectKey::cluster_scoped(&node_name),
            installed: installed.clone(),
            kept: kept.clone(),
        },
    };
    tasks.spawn(async move {
        problems::run(finders, problems_tx, token).await;
        Ok(())
    });
    let (kinds_of_source, token) = (kinds.clone(), cancel.clone());
    tasks.spawn(async move { Ok(model_watch::run(source, kinds_of_source, events, token).await?) });
    let place = Place {
        node_name,
        exposure,
        default_deny,
        router: router.as_ref().map(|router| router.options),
        egress: excluded,
        mtu,
        links: links.clone(),
    };
    let published = Published {
        desired: desired_tx,
        view: view_tx,
        triggered: triggered_tx,
    };
    let token = cancel.clone();
    tasks.spawn(async move {
        let heard = Heard {
            events: heard,
            announcements,
        };
        reconcile::run(place, kinds, heard, Debounce::default(), published, token).await;
        Ok(())
    });
    let token = cancel.clone();
    let to_measure = applied.clone();
    tasks.spawn(async move {
        latency::run(triggered, to_measure, latency_tx, token).await;
        Ok(())
    });
    let (token, swept) = (cancel.clone(), watched.clone());
    tasks.spawn(async move {
        kernel::sweep_traffic(swept, config_sync_period, token).await;
        Ok(())
    });
    let token = cancel.clone();
    spawn_thread(&mut tasks, "flows", move |runtime| {
        if let Err(error) = runtime.block_on(log.run(names, asked, token)) {
            tracing::error!(%error, "flows cannot be read; the agent ends, and can be started again");
        }
    })?;
    if let Some(egress) = egress {
        let token = cancel.clone();
        tasks.spawn(async move {
            egress.follow(excluded_tx, token).await;
            Ok(())
        });
    }
    if router.is_none()
        && let Err(error) = keeper::remove().await
    {
        tracing::warn!(
            error = with_causes(&error),
            "what an earlier run with --run-router left is not removed"
        );
    }
    if let Some(router) = router {
        let (token, wanted, seen) = (cancel.clone(), desired.clone(), links.clone());
        let period = router.sync_period;
        tasks.spawn(async move { Ok(keeper::run(wanted, seen, kept_tx, period, token).await?) });
        if let Some(places) = router.cni {
            let (token, state_dir) = (cancel.clone(), places.state_dir.clone());
            tasks.spawn(async move {
                reclaim::run(&state_dir, token).await;
                Ok(())
            });
            let (token, wanted) = (cancel.clone(), desired.clone());
            tasks.spawn(async move {
                install::run(places, wanted, installed_tx, token).await;
                Ok(())
            });
        }
    }
    let token = cancel.clone();
    tasks.spawn(async move { Ok(links::follow(links_tx, look, token).await?) });
    let (token, checked) = (cancel.clone(), desired.clone());
    tasks.spawn(async move {
        health_check::run(checked, unanswered_tx, token).await;
        Ok(())
    });
    let (token, to_apply) = (cancel.clone(), desired.clone());
    spawn_thread(&mut tasks, "applier", move |runtime| {
        applier::run(
            tables,
            to_apply,
            &applied_tx,
            config_sync_period,
            &token,
            runtime,
        );
    })?;
    let to_attach = devices::Devices {
        programs,
        attachments,
        edge: Edge::new(paths.bpf_root.join(LINKS)),
        uplinks,
        handover: Some(handover),
        xdp_devices,
        ownership,
        mode,
        interfaces,
        sources,
        fast_paths,
        fast_path,
    };
    let token = cancel.clone();
    spawn_thread(&mut tasks, "devices", move |runtime| {
        devices::run(
            to_attach,
            links,
            desired,
            applied,
            &devices::Published {
                devices: devices_tx,
                unenforced: unenforced_tx,
                fast_path: fast_path_tx,
            },
            &token,
            runtime,
        );
    })?;
    let (token, of_socket) = (cancel.clone(), watched.clone());
    tasks.spawn(async move { Ok(server::serve(socket, of_socket, announce, token).await?) });
    if let Some(said) = said {
        let token = cancel.clone();
        tasks.spawn(async move {
            let followed = token.run_until_cancelled(said.follow()).await;
            Ok(followed.unwrap_or(Ok(()))?)
        });
    }
    if let Some(listener) = health {
        let token = cancel.clone();
        tasks.spawn(async move { Ok(health::serve(listener, watched, token).await?) });
    }
    let ended = supervise(&mut tasks, &cancel).await;
    drop(lock);
    ended
}

/// Waits for a signal or for the first task to end, and then for all of them.
async fn supervise(tasks: &mut JoinSet<Result<()>>, cancel: &CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let first = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("a task ended by itself; this is a bug, the agent ends and can be started again")),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(panic.into()),
        },
    };
    cancel.cancel();
    tracing::info!("stopping; the kernel goes on balancing with what it has");
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!(%error, "a task failed while stopping");
            }
        }
    };
    if tokio::time::timeout(LEAVE_AFTER, all).await.is_err() {
        tracing::warn!("a task does not end; the process ends without it");
    }
    first
}

/// Runs a blocking part on a thread of its own, which counts as a task.
fn spawn_thread(
    tasks: &mut JoinSet<Result<()>>,
    name: &'static str,
    part: impl FnOnce(&Handle) + Send + 'static,
) -> Result<()> {
    let runtime = Handle::current();
    let (done, ended) = tokio::sync::oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            part(&runtime);
            if done.send(()).is_err() {
                tracing::debug!(
                    thread = name,
                    "nobody waits for the end of this thread any more"
                );
            }
        })?;
    tasks.spawn(async move {
        ended
            .await
            .with_context(|| format!("the thread {name} panicked"))
    });
    Ok(())
}

/// Makes the directories, and a bpffs where there is none; each is recorded before, but for the
/// directory of the record.
fn prepare(paths: &Paths) -> Result<Ownership> {
    let Paths {
        state_dir,
        bpf_root,
        socket,
        cgroup_root: _,
    } = paths;
    let mut fresh = missing(state_dir);
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("{}: cannot be made; check --state-dir", state_dir.display()))?;
    let mut ownership = Ownership::load(state_dir)?;
    let no_bpf = || {
        format!(
            "{}: cannot be on a bpffs, so nothing could outlive the agent; check --bpf-root, and that the agent may mount",
            bpf_root.display()
        )
    };
    let mount = bpffs::missing_mount(bpf_root).with_context(no_bpf)?;
    fresh.extend(missing(bpf_root));
    fresh.extend(socket.parent().into_iter().flat_map(missing));
    ownership.remember(|record| {
        record.directories.extend(fresh);
        record.mounts.extend(mount.clone());
    })?;
    if let Some(mount) = mount {
        bpffs::mount_on(&mount).with_context(no_bpf)?;
    }
    std::fs::create_dir_all(bpf_root).with_context(no_bpf)?;
    Ok(ownership)
}

/// Those of a directory and the ones above it that are not there.
fn missing(directory: &Path) -> Vec<PathBuf> {
    directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_owned)
        .collect()
}

/// Attaches the `connect` programs; the answer says how TCP of processes is balanced. Per packet
/// works everywhere, so only a directory that was asked for has to be one.
fn attach_connect(
    programs: &mut Programs,
    attachments: &Attachments,
    found: Option<&Path>,
    asked_for: Option<&Path>,
    masquerade_all: bool,
) -> Result<String> {
    if masquerade_all {
        attachments.detach_connect().context(
            "the connect programs of an earlier run cannot be detached; check --bpf-root",
        )?;
        return Ok("no: --masquerade-all needs the packets".to_owned());
    }
    if let Some(directory) = asked_for.filter(|directory| !cgroup::is_cgroup2(directory)) {
        bail!(
            "--cgroup-root {}: not a directory of a cgroup v2 hierarchy; leave the flag out to have it found",
            directory.display()
        );
    }
    let Some(directory) = asked_for.or(found) else {
        tracing::warn!("no cgroup v2 is mounted: TCP is balanced per packet, which is slower");
        return Ok("no: no cgroup v2 is mounted, TCP is balanced per packet".to_owned());
    };
    match attachments.attach_connect(programs, directory) {
        Ok(()) => Ok(format!("yes: {}", directory.display())),
        Err(error) => {
            tracing::warn!(%error, cause = error.cause(), "TCP is balanced per packet, which is slower");
            Ok(format!("no: {error}"))
        }
    }
}
