//! All tasks, and how they are wired.
//!
//! ```text
//! source ──Event──► reconcile ──Desired──┬─► applier (thread) ──Applied──┐
//!                       │                ├─► devices (thread) ──Device───┤
//!                       │                └─► routes, CNI ──Kept──────────┤
//!                  ClusterView       links ──Link──┘                     │
//!                       └───────────────────────────────────► socket, health, Events, learned addresses, latency
//! ```
//!
//! The node is taken first ([`claim`]), then programs and tables are loaded ([`load`]), then all runs
//! until the first of them ends ([`tasks`]). The pinned programs and tables go on balancing.

mod claim;
mod connect;
mod load;
mod network;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use model::{Kind, KindSet, ObjectKey};
use model_watch::Source;
use tokio::sync::{mpsc, watch};

use crate::applier::{self, Applied};
use crate::bootstrap;
use crate::cleanup::LINKS;
use crate::cni::install::Installed;
use crate::config::Config;
use crate::control::collect::Watched;
use crate::control::{health, health_check, pod_interface, server, sweep};
use crate::devices;
use crate::devices::fast_path::FastPath;
use crate::divergence::Divergences;
use crate::egress::excluded::Given;
use crate::flows;
use crate::flows::names::{Names, Sources};
use crate::histogram::Histogram;
use crate::latency;
use crate::lb::ebpf::attach::Mode;
use crate::lb::ebpf::xdp::Edge;
use crate::lb::ebpf::{DEBUG_OBJECT, OBJECT};
use crate::probe::Capabilities;
use crate::problems::{self, Finders, OfNetwork};
use crate::reconcile::{self, ClusterView, Debounce, Heard, Place, Published};
use crate::route::keeper::Kept;
use crate::sys::links;
use claim::Claim;
use load::Loaded;
use network::Network;
use tasks::Tasks;

/// Events on their way to the cluster. A list of 10,000 objects is one event; a watch that runs
/// ahead of a compile by more than this waits.
const EVENTS: usize = 1024;

/// Who reports, in Kubernetes Events.
const COMPONENT: &str = "fairlead-agent";

/// The kinds that an agent watches, on a node where network policy is on or not.
pub fn kinds(policed: bool) -> KindSet {
    let mut kinds = KindSet::from([Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::Pod]);
    if policed {
        kinds.extend([
            Kind::Namespace,
            Kind::NetworkPolicy,
            Kind::ClusterNetworkPolicy,
        ]);
    }
    kinds
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Where the node lacks something, or a task fails.
pub async fn run(mut config: Config) -> Result<()> {
    if !config.run_service_proxy {
        bail!(
            "--run-service-proxy=false: behind another proxy's translation nobody can tell which backend a policy is about; leave the flag out, or use --cleanup-config to remove this agent"
        );
    }
    for flag in &config.without_effect {
        tracing::warn!(flag, "has no effect in this build; see --help");
    }
    let mut node = Capabilities::of_this_node().context("/proc cannot be read; is it mounted?")?;
    node.suffice()?;
    if !config.tcx {
        node.attach = Mode::Clsact;
    }
    let object = if config.debug_programs {
        DEBUG_OBJECT
    } else {
        OBJECT
    };
    let object = object.context("this build has no eBPF programs, so nothing can be balanced; build with `cargo xtask build`")?;
    let mut claim = Claim::make(&mut config, node.attach).await?;
    let loaded = Loaded::load(object, &config, &node, &mut claim.ownership)?;
    tracing::info!(node = %config.node_name, mode = ?node.attach, connect = loaded.connect, "started");
    start(config, &node, claim, loaded).await
}

/// Wires all tasks and waits for their end.
async fn start(config: Config, node: &Capabilities, claim: Claim, loaded: Loaded) -> Result<()> {
    let Config {
        node_name,
        source,
        run_service_proxy: _,
        exposure,
        translation: _,
        limits,
        default_deny,
        router,
        mtu,
        fast_path,
        devices: uplinks,
        xdp_devices,
        tcx: _,
        config_sync_period,
        paths,
        health_addr: _,
        kube_router_metrics,
        debug_programs: _,
        rcu_expedited: _,
        without_effect,
    } = config;
    let Claim {
        lock,
        ownership,
        socket,
        health,
        learned,
    } = claim;
    let Loaded {
        pins,
        programs,
        attachments,
        handover,
        connect,
        tables,
        sources,
        tunnels,
        log,
        in_force,
        fast_paths,
        interfaces,
        said,
    } = loaded;

    let kinds = kinds(limits.policy.is_some());
    let (events, heard) = mpsc::channel(EVENTS);
    let (desired_tx, desired) = watch::channel(None);
    let (view_tx, view) = watch::channel(ClusterView::default());
    let (applied_tx, applied) = watch::channel(Applied::default());
    let (links_tx, links) = watch::channel(None);
    let (look, to_look_at) = mpsc::channel(pod_interface::WAITING);
    let (devices_tx, device_list) = watch::channel(None);
    let (fast_path_tx, fast_path_seen) = watch::channel(FastPath::default());
    let (divergences_tx, divergences) = watch::channel(Divergences::default());
    let (unenforced_tx, unenforced) = watch::channel(Vec::new());
    let (unanswered_tx, unanswered) = watch::channel(BTreeMap::new());
    let (problems_tx, all_problems) = watch::channel(Arc::default());
    let (announce, announcements) = mpsc::channel(pod_interface::WAITING);
    let (triggered_tx, triggered) = mpsc::channel(latency::WAITING);
    let (latency_tx, latencies) = watch::channel(Histogram::default());
    let (kept_tx, kept) = watch::channel(Kept::default());
    let (installed_tx, installed) = watch::channel(Installed::default());
    let egress = router.as_ref().and_then(|router| router.egress.as_ref());
    let (excluded_tx, excluded) = watch::channel(egress.map(Given::read));
    let (questions, asked) = mpsc::channel(flows::log::QUESTIONS);
    let cni = router.as_ref().and_then(|router| router.cni.as_ref());
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
        look,
        unenforced: unenforced.clone(),
        fast_path: fast_path_seen,
        divergences,
        problems: all_problems.clone(),
        latency: latencies,
        kube_router_metrics: kube_router_metrics.then(Arc::default),
        policy: in_force.clone(),
        flows: questions,
        routes: router.as_ref().map(|_| kept.clone()),
        cni: cni.map(|_| installed.clone()),
    };

    let names = Names::new(Sources {
        pins,
        view: view.clone(),
        desired: desired.clone(),
        links: links.clone(),
        policy: in_force,
        cgroups: paths.cgroup_root.clone().or(node.cgroup2.clone()),
    });

    let mut tasks = Tasks::default();
    if let Source::Kube(options) = &source {
        let (options, node, to_learn) = (options.clone(), Arc::clone(&node_name), view.clone());
        tasks
            .spawn(|token| model_watch::post_events(options, COMPONENT, node, all_problems, token));
        tasks.spawn(|token| bootstrap::run(learned, to_learn, token));
    }
    let finders = Finders {
        view,
        applied: applied.clone(),
        unenforced,
        unanswered,
        network: OfNetwork {
            node: ObjectKey::cluster_scoped(&node_name),
            installed,
            kept,
        },
    };
    tasks.spawn(|token| problems::run(finders, problems_tx, token));
    let of_source = kinds.clone();
    tasks.try_spawn(|token| model_watch::run(source, of_source, events, token));
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
    let heard = Heard {
        events: heard,
        announcements,
    };
    tasks.spawn(|token| reconcile::run(place, kinds, heard, Debounce::default(), published, token));
    let to_measure = applied.clone();
    tasks.spawn(|token| latency::run(triggered, to_measure, latency_tx, token));
    let swept = watched.clone();
    tasks.spawn(|token| sweep::run(swept, config_sync_period, token));
    tasks.spawn_thread("flows", move |runtime, token| {
        let ended = runtime.block_on(log.run(names, asked, token));
        ended.context("flows cannot be read; the agent ends, and can be started again")
    })?;
    let network = Network {
        desired: desired.clone(),
        links: links.clone(),
        excluded: excluded_tx,
        kept: kept_tx,
        installed: installed_tx,
    };
    network.start(router, &mut tasks).await;
    tasks.try_spawn(|token| links::follow(links_tx, to_look_at, token));
    let (checked, of_health) = (desired.clone(), applied.clone());
    tasks.spawn(|token| health_check::run(checked, of_health, unanswered_tx, token));
    let to_apply = desired.clone();
    tasks.spawn_thread("applier", move |runtime, token| {
        applier::run(
            tables,
            to_apply,
            &applied_tx,
            config_sync_period,
            &token,
            runtime,
        );
        Ok(())
    })?;
    let to_attach = devices::Devices {
        programs,
        attachments,
        edge: Edge::new(paths.bpf_root.join(LINKS)),
        uplinks,
        handover: Some(handover),
        xdp_devices,
        ownership,
        mode: node.attach,
        interfaces,
        sources,
        tunnels,
        fast_paths,
        fast_path,
        audit_period: config_sync_period,
    };
    tasks.spawn_thread("devices", move |runtime, token| {
        devices::run(
            to_attach,
            links,
            desired,
            applied,
            &devices::Published {
                devices: devices_tx,
                unenforced: unenforced_tx,
                fast_path: fast_path_tx,
                divergences: divergences_tx,
            },
            &token,
            runtime,
        )?;
        Ok(())
    })?;
    let of_socket = watched.clone();
    tasks.try_spawn(|token| server::serve(socket, of_socket, announce, token));
    if let Some(said) = said {
        tasks.try_spawn(|token| async move {
            let followed = token.run_until_cancelled(said.follow()).await;
            followed.unwrap_or(Ok(()))
        });
    }
    if let Some(listener) = health {
        tasks.try_spawn(|token| health::serve(listener, watched, token));
    }
    let ended = tasks.supervise().await;
    drop(lock);
    ended
}
