//! Which interface gets which programs: decided here, done by `lb::ebpf::attach`.

pub mod fast_path;
mod filters;
mod multipath;
pub mod pods;
mod report;
mod role;
mod shortcut;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::applier::{Applied, with_causes};
use crate::desired::Desired;
use crate::desired::policy::PolicyTables;
use crate::divergence::{self, Divergences};
use crate::egress::maps::SourceMap;
use crate::egress::source;
use crate::handover::Handover;
use crate::lb::ebpf::attach::{Attachments, Mode, Side, Target};
use crate::lb::ebpf::fast_path::FastPaths;
use crate::lb::ebpf::programs::{LoadError, Programs};
use crate::lb::ebpf::xdp::Edge;
use crate::ownership::Ownership;
use crate::policy::ebpf::interfaces::Interfaces;
use crate::route::image::DEVICES;
use crate::settings;
use crate::sys::links::Link;
use crate::sys::map::{Owned, TableError};
use crate::sys::sysctl;
use fast_path::FastPath;
use filters::{Losses, forget_lost, leave_clsact, record_qdiscs};
use pods::Unenforced;
use report::{add_xdp, report};

pub use report::{Device, Xdp};
pub use role::{Role, role};

/// A failed attachment is tried again this often; mostly the interface is gone by then.
const RETRY: Duration = Duration::from_secs(5);
/// Of others' filters and of IPsec policies nothing tells but a look; of ours there may be news that got
/// lost.
const LOOK: Duration = Duration::from_secs(10);

/// The programs, and where they are.
#[derive(Debug)]
pub struct Devices {
    /// The loaded programs.
    pub programs: Programs,
    /// What they are attached to.
    pub attachments: Attachments,
    /// Where the edge path is.
    pub edge: Edge,
    /// `--devices`.
    pub uplinks: Vec<String>,
    /// What goes over when the programs are attached first.
    pub handover: Option<Handover>,
    /// `--xdp-devices`.
    pub xdp_devices: Vec<String>,
    /// Where the qdiscs are recorded that filters need, and settings.
    pub ownership: Ownership,
    /// How the programs are attached.
    pub mode: Mode,
    /// Who may send from behind interfaces, where network policy is on.
    pub interfaces: Option<Interfaces>,
    /// Under which addresses pods' connections leave the cluster.
    pub sources: SourceMap,
    /// How long packets may be that leave by an overlay's device, by its index.
    pub tunnels: Owned<u32, u32>,
    /// The tables of the fast path.
    pub fast_paths: FastPaths,
    /// `--fast-path`.
    pub fast_path: bool,
    /// `--config-sync-period`: how often the tables are compared with what was written.
    pub audit_period: Duration,
}

/// What is known of interfaces and of the pods behind them.
#[derive(Debug)]
pub struct Published {
    /// Interfaces.
    pub devices: watch::Sender<Option<Vec<Device>>>,
    /// Pods that network policy does not reach.
    pub unenforced: watch::Sender<Vec<Unenforced>>,
    /// What skips the host's stack.
    pub fast_path: watch::Sender<FastPath>,
    /// What of the tables was found wrong, since the start.
    pub divergences: watch::Sender<Divergences>,
}

/// Keeps the programs attached to what is there, until `cancel`.
///
/// # Errors
/// Where the kernel refuses a program: nothing is attached then, and what an agent before has attached stays.
pub fn run(
    Devices {
        mut programs,
        mut attachments,
        mut edge,
        uplinks,
        mut handover,
        xdp_devices,
        mut ownership,
        mode,
        mut interfaces,
        mut sources,
        mut tunnels,
        mut fast_paths,
        fast_path,
        audit_period,
    }: Devices,
    mut links: watch::Receiver<Option<Vec<Link>>>,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    applied: watch::Receiver<Applied>,
    published: &Published,
    cancel: &CancellationToken,
    runtime: &Handle,
) -> Result<(), LoadError> {
    // The verifier takes its time; meanwhile the tables are filled.
    programs.load_classifiers()?;
    // Programs without tables would only be in the way of another proxy's.
    let mut applied = applied;
    let first_apply = async {
        tokio::select! {
            () = cancel.cancelled() => false,
            done = applied.wait_for(|applied| applied.applies_total > 0) => done.is_ok(),
        }
    };
    if !runtime.block_on(first_apply) {
        return Ok(());
    }
    let mut failing = false;
    let mut audited = Instant::now();
    let mut losses = Losses::default();
    loop {
        if audited.elapsed() >= audit_period {
            audited = Instant::now();
            let mut found = Divergences::new();
            let read = [
                sources.audit(&mut found),
                tunnels.audit(&mut found),
                fast_paths.audit(&mut found),
                interfaces
                    .as_mut()
                    .map_or(Ok(()), |map| map.audit(&mut found)),
            ];
            count(read, found, &published.divergences);
        }
        let known = links.borrow_and_update().clone();
        let wanted = desired.borrow_and_update().clone();
        if let (Some(known), Some(wanted)) = (known, wanted) {
            let node = &wanted.node.addresses;
            let pods: BTreeSet<IpAddr> = wanted.policy.endpoints().keys().copied().collect();
            let roles: Vec<(&Link, Role)> = known
                .iter()
                .map(|link| (link, role(link, node, &uplinks, &pods)))
                .collect();
            failing = !limit_sources(interfaces.as_mut(), &wanted.policy, &roles);
            failing |= !leave_by(&mut sources, &roles, &wanted);
            failing |= !fit(&mut tunnels, &known);
            failing |= !share_routes(&mut ownership, &wanted, &known);
            let targets: Vec<Target> = roles.iter().filter_map(target).collect();
            if mode == Mode::Clsact {
                forget_lost(&mut attachments, losses.are_due());
                record_qdiscs(&mut ownership, &targets, attachments.attached());
            }
            if let Some(handover) = &handover {
                handover.before_attaching(&pods);
            }
            let errors = attachments.follow(&mut programs, &targets);
            if mode == Mode::Tcx {
                leave_clsact(&mut ownership, &known, &errors);
            }
            if let Some(handover) = handover.take() {
                handover.finish(node, &pods, &mut ownership);
            }
            let at_the_edge: Vec<Target> = targets
                .into_iter()
                .filter(|target| target.side == Side::Uplink && xdp_devices.contains(&target.name))
                .collect();
            let refused = edge.follow(&mut programs, &at_the_edge);
            let mut seen = report(&roles, &errors);
            add_xdp(&mut seen, &xdp_devices, &at_the_edge, refused);
            let (skips, done) = shortcut::follow(&mut fast_paths, fast_path, mode, |filtered| {
                let policed = programs.are_policed();
                fast_path::plan(&roles, &seen, &wanted, policed, filtered)
            });
            failing |= !done;
            publish(&published.fast_path, skips);
            let reached = match &interfaces {
                Some(_) => pods::unenforced(&wanted.policy, &known, &seen),
                None => Vec::new(),
            };
            failing |= seen.iter().any(|device| device.error.is_some());
            publish(&published.unenforced, reached);
            publish(&published.devices, Some(seen));
        }
        let go_on = runtime.block_on(async {
            tokio::select! {
                () = cancel.cancelled() => false,
                changed = links.changed() => changed.is_ok(),
                changed = desired.changed() => changed.is_ok(),
                () = tokio::time::sleep(RETRY), if failing => true,
                () = tokio::time::sleep(audit_period.saturating_sub(audited.elapsed())) => true,
                () = tokio::time::sleep(LOOK), if fast_path || mode == Mode::Clsact => true,
                () = losses.heard(attachments.attached()), if mode == Mode::Clsact => true,
            }
        });
        if !go_on {
            return Ok(());
        }
    }
}

/// Adds what an audit found, and tells it.
fn count<const N: usize>(
    read: [Result<(), TableError>; N],
    found: Divergences,
    counted: &watch::Sender<Divergences>,
) {
    for error in read.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, cause = with_causes(&error), "a table cannot be compared; it is read back and mended");
    }
    if !found.is_empty() {
        counted.send_modify(|all| divergence::add(all, found));
    }
}

fn publish<T: PartialEq>(to: &watch::Sender<T>, value: T) {
    to.send_if_modified(|before| {
        let differs = *before != value;
        *before = value;
        differs
    });
}

/// Brings the table of who may send from where up to date; whether that succeeded.
fn limit_sources(
    interfaces: Option<&mut Interfaces>,
    tables: &PolicyTables,
    roles: &[(&Link, Role)],
) -> bool {
    let Some(interfaces) = interfaces else {
        return true;
    };
    match interfaces.follow(pods::sources(tables, roles)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, cause = with_causes(&error), "sources of packets are not checked everywhere; tried again in a while");
            false
        }
    }
}

/// Brings the table of addresses that pods' connections leave under up to date; whether that succeeded.
fn leave_by(map: &mut SourceMap, roles: &[(&Link, Role)], wanted: &Desired) -> bool {
    let sources = match &wanted.egress {
        Some(_) => source::sources(roles, &wanted.node.addresses),
        None => source::Sources::new(),
    };
    match map.follow(sources) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, cause = with_causes(&error), "what pods send out of the cluster may leave under an address of before; tried again in a while");
            false
        }
    }
}

/// Notes how long packets may be in the overlay; whether that succeeded.
fn fit(map: &mut Owned<u32, u32>, links: &[Link]) -> bool {
    let overlay = links
        .iter()
        .filter(|link| DEVICES.contains(&link.name.as_str()));
    let wanted = overlay.map(|link| (link.index, link.mtu)).collect();
    match map.follow(wanted) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, cause = with_causes(&error), "TCP through the overlay may ask for segments that do not fit it; tried again in a while");
            false
        }
    }
}

/// Sets what routes with several next hops need, and takes it back where none may be; whether that
/// succeeded.
fn share_routes(ownership: &mut Ownership, wanted: &Desired, links: &[Link]) -> bool {
    let is_asked_for = wanted.node.router.is_some_and(|router| router.multipath);
    let done = match &wanted.routes {
        Some(routes) if is_asked_for => {
            let get = |name: &str| sysctl::get(name).ok().flatten();
            let mut settings = multipath::settings(routes, links, get).into_iter();
            settings.try_for_each(|(name, value)| settings::set(ownership, &name, value))
        }
        _ => {
            let recorded = ownership.record().sysctls.iter();
            let own: Vec<String> = recorded
                .map(|sysctl| sysctl.name.clone())
                .filter(|name| multipath::is_own(name))
                .collect();
            let mut own = own.iter();
            own.try_for_each(|name| settings::restore(ownership, name))
        }
    };
    if let Err(error) = &done {
        let error = format!("{error:#}");
        tracing::warn!(
            error,
            "flows may not be shared among links as they should; tried again in a while"
        );
    }
    done.is_ok()
}

fn target((link, role): &(&Link, Role)) -> Option<Target> {
    match role {
        Role::Attach(side) => Some(Target {
            index: link.index,
            name: link.name.clone(),
            side: *side,
        }),
        Role::Ignore(_) => None,
    }
}
