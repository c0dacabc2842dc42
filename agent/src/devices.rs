//! Which interface gets which programs: decided here, done by `lb::ebpf::attach`.

pub mod fast_path;
pub mod pods;
mod shortcut;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::applier::{Applied, with_causes};
use crate::desired::Desired;
use crate::desired::policy::PolicyTables;
use crate::egress::maps::SourceMap;
use crate::egress::source;
use crate::handover::Handover;
use crate::lb::ebpf::attach::{AttachError, Attachments, Mode, Side, Target};
use crate::lb::ebpf::fast_path::FastPaths;
use crate::lb::ebpf::programs::Programs;
use crate::lb::ebpf::xdp::Edge;
use crate::ownership::Ownership;
use crate::policy::ebpf::interfaces::Interfaces;
use crate::sys::links::{Link, LinkKind};
use crate::sys::qdisc;
use fast_path::FastPath;
use pods::Unenforced;

/// A failed attachment is tried again this often; mostly the interface is gone by then.
const RETRY: Duration = Duration::from_secs(5);
/// Of filters and IPsec policies of others nothing tells but a look.
const LOOK: Duration = Duration::from_secs(10);

/// What an interface is to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It gets programs.
    Attach(Side),
    /// It does not, and why.
    Ignore(&'static str),
}

/// One interface as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Index; 0 where it is not there.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is to the agent.
    pub role: Role,
    /// Whether its driver runs the edge path.
    pub xdp: Xdp,
    /// Why the programs are not there.
    pub error: Option<String>,
}

/// The edge path of one interface. Without it, packets take the way through tc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// `--xdp-devices` does not name the interface.
    NotWanted,
    /// The driver runs it.
    Attached,
    /// It does not, and why.
    Refused(String),
}

/// Decides what an interface is. Behind a veth or a bridge there are pods, unless it has an address
/// of the node or leads to the default gateway; `--devices` names the uplinks outright. An interface
/// of another kind is a pod's where the route to one of `pods` says so.
pub fn role(
    link: &Link,
    node_addresses: &[IpAddr],
    devices: &[String],
    pods: &BTreeSet<IpAddr>,
) -> Role {
    let uplink = if devices.is_empty() {
        link.default_route
            || link
                .addresses
                .iter()
                .any(|address| node_addresses.contains(address))
    } else {
        devices.contains(&link.name)
    };
    match link.kind {
        LinkKind::Loopback => Role::Attach(Side::Loopback),
        _ if !link.ethernet => {
            Role::Ignore("no Ethernet header: Services are not balanced for packets here")
        }
        _ if uplink => Role::Attach(Side::Uplink),
        LinkKind::Veth | LinkKind::Bridge => Role::Attach(Side::Workload),
        LinkKind::Other if pods::leads_to_one(link, pods) => Role::Attach(Side::Workload),
        LinkKind::Other => Role::Attach(Side::Uplink),
    }
}

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
    /// The tables of the fast path.
    pub fast_paths: FastPaths,
    /// `--fast-path`.
    pub fast_path: bool,
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
}

/// Keeps the programs attached to what is there, until `cancel`.
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
        mut fast_paths,
        fast_path,
    }: Devices,
    mut links: watch::Receiver<Option<Vec<Link>>>,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    applied: watch::Receiver<Applied>,
    published: &Published,
    cancel: &CancellationToken,
    runtime: &Handle,
) {
    // The verifier takes its time; meanwhile the tables are filled. What it refuses now, it refuses
    // again, and is reported, when the program is attached.
    if let Err(error) = programs.load_classifiers() {
        tracing::debug!(%error, "refused ahead of its use");
    }
    // Programs without tables would only be in the way of another proxy's.
    let mut applied = applied;
    let first_apply = async {
        tokio::select! {
            () = cancel.cancelled() => false,
            done = applied.wait_for(|applied| applied.applies_total > 0) => done.is_ok(),
        }
    };
    if !runtime.block_on(first_apply) {
        return;
    }
    let mut failing = false;
    loop {
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
            let targets: Vec<Target> = roles.iter().filter_map(target).collect();
            if mode == Mode::Clsact {
                record_qdiscs(&mut ownership, &targets, attachments.attached());
            }
            if let Some(handover) = &handover {
                handover.before_attaching(&pods);
            }
            let errors = attachments.follow(&mut programs, &targets);
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
                () = tokio::time::sleep(LOOK), if fast_path => true,
            }
        });
        if !go_on {
            return;
        }
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

/// Records the qdiscs that attaching is about to make, and forgets those of interfaces that are
/// gone.
fn record_qdiscs(ownership: &mut Ownership, targets: &[Target], attached: &BTreeMap<u32, Target>) {
    let fresh = targets
        .iter()
        .filter(|target| !attached.contains_key(&target.index))
        .filter(|target| matches!(qdisc::is_there(&target.name), Ok(false)));
    let fresh: Vec<String> = fresh.map(|target| target.name.clone()).collect();
    if fresh.is_empty() {
        return;
    }
    let recorded = ownership.remember(|record| {
        record
            .qdiscs
            .retain(|name| targets.iter().any(|target| target.name == *name));
        record.qdiscs.extend(fresh);
    });
    if let Err(error) = recorded {
        // Traffic matters more than a qdisc without filters that stays behind.
        tracing::warn!(%error, "--cleanup-config will leave clsact qdiscs behind");
    }
}

fn report(roles: &[(&Link, Role)], errors: &[AttachError]) -> Vec<Device> {
    for error in errors {
        tracing::warn!(%error, cause = error.cause(), "tried again in a while");
    }
    let of = |name: &str| errors.iter().find(|error| error.interface() == Some(name));
    let device = |(link, role): &(&Link, Role)| Device {
        index: link.index,
        name: link.name.clone(),
        role: *role,
        xdp: Xdp::NotWanted,
        error: of(&link.name).map(|error| format!("{error}: {}", error.cause())),
    };
    roles.iter().map(device).collect()
}

/// Says of each of `names` what became of the edge path there. `targets` could have it, all but
/// those in `refused` do.
fn add_xdp(
    devices: &mut Vec<Device>,
    names: &[String],
    targets: &[Target],
    refused: &BTreeMap<u32, String>,
) {
    for name in names {
        let target = targets.iter().find(|target| target.name == *name);
        let xdp = match target.map(|target| refused.get(&target.index)) {
            Some(None) => Xdp::Attached,
            Some(Some(reason)) => Xdp::Refused(reason.clone()),
            None => Xdp::Refused("not an uplink".to_owned()),
        };
        match devices.iter_mut().find(|device| device.name == *name) {
            Some(device) => device.xdp = xdp,
            None => devices.push(Device {
                index: 0,
                name: name.clone(),
                role: Role::Ignore("not there, but named by --xdp-devices"),
                xdp: Xdp::NotWanted,
                error: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: LinkKind, address: &str, default_route: bool) -> Link {
        let addresses = address.parse().into_iter().collect();
        Link {
            index: 2,
            name: "eth0".into(),
            kind,
            ethernet: kind != LinkKind::Loopback,
            addresses,
            sources: Vec::new(),
            networks: Default::default(),
            default_route,
            routes: BTreeSet::new(),
            bridge: None,
            mtu: 1500,
            peer_elsewhere: kind == LinkKind::Veth,
            queued: false,
        }
    }

    #[test]
    fn uplinks_workloads_and_others_are_told_apart() {
        let node = ["172.31.0.1".parse().unwrap()];
        let (uplink, workload) = (Role::Attach(Side::Uplink), Role::Attach(Side::Workload));
        for (what, link, devices, expected) in [
            (
                "a node address on a veth",
                link(LinkKind::Veth, "172.31.0.1", false),
                &[][..],
                uplink,
            ),
            (
                "a default route on a bridge",
                link(LinkKind::Bridge, "", true),
                &[],
                uplink,
            ),
            (
                "a pod's veth",
                link(LinkKind::Veth, "", false),
                &[],
                workload,
            ),
            (
                "a bridge of pods",
                link(LinkKind::Bridge, "10.244.1.1", false),
                &[],
                workload,
            ),
            (
                "a second card",
                link(LinkKind::Other, "192.0.2.1", false),
                &[],
                uplink,
            ),
            (
                "a veth named by --devices",
                link(LinkKind::Veth, "", false),
                &["eth0".to_owned()],
                uplink,
            ),
            (
                "one not named by --devices",
                link(LinkKind::Veth, "", true),
                &["eth1".to_owned()],
                workload,
            ),
        ] {
            let role = role(&link, &node, devices, &BTreeSet::new());
            assert_eq!(role, expected, "{what}");
        }
        let mut tunnel = link(LinkKind::Other, "", false);
        tunnel.ethernet = false;
        let role = |link: &Link| role(link, &node, &[], &["10.0.0.1".parse().unwrap()].into());
        assert!(matches!(role(&tunnel), Role::Ignore(_)));
        let mut tap = link(LinkKind::Other, "", false);
        tap.routes.insert("10.0.0.0/24".parse().unwrap());
        assert_eq!(role(&tap), uplink, "a route to many");
        tap.routes.insert("10.0.0.1/32".parse().unwrap());
        assert_eq!(role(&tap), workload, "the route to a pod");
        tap.default_route = true;
        assert_eq!(role(&tap), uplink, "the way out");
        let loopback = link(LinkKind::Loopback, "127.0.0.1", false);
        assert_eq!(role(&loopback), Role::Attach(Side::Loopback));
    }

    #[test]
    fn every_interface_named_for_xdp_says_what_became_of_it() {
        let device = |name: &str, side, xdp| Device {
            index: 2,
            name: name.into(),
            role: Role::Attach(side),
            xdp,
            error: None,
        };
        let target = |index, name: &str| Target {
            index,
            name: name.into(),
            side: Side::Uplink,
        };
        let mut devices = vec![
            device("eth0", Side::Uplink, Xdp::NotWanted),
            device("eth1", Side::Uplink, Xdp::NotWanted),
            device("eth2", Side::Uplink, Xdp::NotWanted),
            device("pod", Side::Workload, Xdp::NotWanted),
        ];
        let reason = "Operation not supported".to_owned();
        add_xdp(
            &mut devices,
            &["eth0", "eth1", "pod", "eth9"].map(str::to_owned),
            &[target(1, "eth0"), target(2, "eth1")],
            &[(2, reason.clone())].into(),
        );
        let absent = Device {
            index: 0,
            name: "eth9".into(),
            role: Role::Ignore("not there, but named by --xdp-devices"),
            xdp: Xdp::NotWanted,
            error: None,
        };
        let not_an_uplink = Xdp::Refused("not an uplink".into());
        assert_eq!(
            devices,
            [
                device("eth0", Side::Uplink, Xdp::Attached),
                device("eth1", Side::Uplink, Xdp::Refused(reason)),
                device("eth2", Side::Uplink, Xdp::NotWanted),
                device("pod", Side::Workload, not_an_uplink),
                absent,
            ]
        );
    }
}
