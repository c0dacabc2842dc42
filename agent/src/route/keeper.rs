//! Keeps the pod routes: follows what is wanted, the interfaces, and what others do to the agent's
//! own, which the kernel tells at once.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::hops::{self, Hops};
use super::image::{self, Image, Reach, RouteKey, Step};
use super::netlink::{Found, Kernel, RouteError, concerns, is_main};
use crate::applier::with_causes;
use crate::desired::Desired;
use crate::desired::node::is_link_local;
use crate::desired::route::{NextHop, Routes};
use crate::sys::links::Link;

/// A removed device is a message for each of its routes, within a few milliseconds.
const QUIET: Duration = Duration::from_millis(10);
/// Where somebody removes and the agent mends without end, both get this much rest.
const LONGEST: Duration = Duration::from_millis(100);
/// A failed write is tried again after this long, then after twice as long, and so on …
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … but at least this often.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What is kept, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// When the last apply ended.
    pub at: Option<SystemTime>,
    /// Routes to pods of other nodes in the kernel.
    pub routes: usize,
    /// Writes since the start.
    pub operations_total: u64,
    /// Writes that mended what somebody else had changed.
    pub repaired_total: u64,
    /// Applies since the start.
    pub applies_total: u64,
    /// Applies that failed, in whole or in part.
    pub failed_total: u64,
    /// What could not be done, and why; with the network where it is a route.
    pub failures: Vec<(Option<IpNet>, String)>,
}

/// What is known of the kernel's since the last look.
#[derive(Debug, Default)]
struct Known {
    /// Indexes of the overlay's devices.
    devices: Vec<u32>,
    /// Next hops that share routes.
    hops: Hops,
    /// The routes that are to be there.
    wanted: BTreeSet<RouteKey>,
    /// What the last apply was about that succeeded in full.
    applied: Option<Arc<Routes>>,
}

/// Keeps the routes until `cancel`. `period` is how often they are read though nothing was heard.
///
/// # Errors
/// Where there is no netlink socket.
pub async fn run(
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    mut links: watch::Receiver<Option<Vec<Link>>>,
    status: watch::Sender<Kept>,
    period: Duration,
    cancel: CancellationToken,
) -> Result<(), RouteError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ];
    let (connection, _handle, mut news) = new_multicast_connection(&groups)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let kernel = Kernel::open()?;
    let mut retry = Duration::ZERO;
    let mut known = Known::default();
    let mut ask_at = Instant::now();
    loop {
        let routes = desired.borrow_and_update().as_deref().and_then(of_routes);
        let there = links.borrow_and_update().clone();
        if let (Some(routes), Some(there)) = (&routes, &there) {
            let good = apply(&kernel, routes, there, &mut known, &status).await;
            retry = match good {
                true => Duration::ZERO,
                false => (retry * 2).clamp(FIRST_RETRY, LAST_RETRY),
            };
        }
        let due = if retry.is_zero() {
            period
        } else {
            jittered(retry)
        };
        let due = Instant::now() + due;
        loop {
            let heard = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                changed = other_routes(&mut desired, routes.as_ref()) => match changed {
                    Ok(()) => break,
                    // Who wants something has ended, and so will this.
                    Err(_) => {
                        cancel.cancelled().await;
                        return Ok(());
                    }
                },
                changed = links.changed() => match changed {
                    Ok(()) if lead_elsewhere(there.as_deref(), links.borrow_and_update().as_deref()) => break,
                    Ok(()) => continue,
                    Err(_) => {
                        cancel.cancelled().await;
                        return Ok(());
                    }
                },
                () = tokio::time::sleep_until(due) => break,
                () = tokio::time::sleep_until(ask_at), if !known.hops.watched().is_empty() => {
                    ask_at = Instant::now() + hops::ASK;
                    if let Err(error) = kernel.ask(&known.hops.asked()).await {
                        tracing::debug!(error = with_causes(&error), "a next hop is not asked whether it is there");
                    }
                    continue;
                }
                heard = news.next() => heard,
            };
            let Some((message, _)) = heard else {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
            };
            // What did not fit into the socket's buffer is lost, whatever it was about.
            let lost = matches!(message.payload, NetlinkPayload::Overrun(_));
            let own = matches!(&message.payload, NetlinkPayload::InnerMessage(message) if concerns(message, &known.devices, &known.hops, &known.wanted));
            if lost || own {
                let latest = Instant::now() + LONGEST;
                let soon = || (Instant::now() + QUIET).min(latest);
                while let Ok(Some(_)) = tokio::time::timeout_at(soon(), news.next()).await {}
                break;
            }
        }
    }
}

fn of_routes(desired: &Desired) -> Option<Arc<Routes>> {
    desired.routes.clone()
}

/// Waits until other routes are wanted than those that are `known`. Most of what changes in a cluster
/// leaves them as they are.
async fn other_routes(
    desired: &mut watch::Receiver<Option<Arc<Desired>>>,
    known: Option<&Arc<Routes>>,
) -> Result<(), watch::error::RecvError> {
    let differs = |now: &Option<Arc<Desired>>| {
        let now = now.as_deref().and_then(of_routes);
        now.as_ref().map(Arc::as_ptr) != known.map(Arc::as_ptr)
    };
    desired.wait_for(differs).await.map(drop)
}

/// Whether interfaces have changed that may lead to other nodes, which have a network. Those of pods have
/// none, and come and go all the time.
fn lead_elsewhere(before: Option<&[Link]>, now: Option<&[Link]>) -> bool {
    let with_others = |network: &IpNet| !is_link_local(network.addr());
    let leads = |link: &&Link| link.networks.iter().any(with_others);
    let (Some(before), Some(now)) = (before, now) else {
        return before.is_some() != now.is_some();
    };
    !before.iter().filter(leads).eq(now.iter().filter(leads))
}

/// Removes what an earlier run kept, where routes are not kept any more.
///
/// # Errors
/// Where there is no netlink socket, or the kernel cannot be asked.
pub async fn remove() -> Result<(), RouteError> {
    let kernel = Kernel::open()?;
    let Found {
        image: found,
        mut devices,
        ..
    } = kernel.observe().await?;
    let (mut removed, mut left) = (0, 0);
    for step in image::diff(&Image::default(), &found) {
        match kernel.apply(&step, &mut devices).await {
            Ok(()) => removed += 1,
            Err(error) => {
                left += 1;
                let error = failure(&step, &error);
                tracing::warn!(
                    error,
                    "left of the pod network; --cleanup-config tries again"
                );
            }
        }
    }
    if removed + left > 0 {
        tracing::info!(
            removed,
            left,
            "--run-router is false: the pod routes of an earlier run are removed, and pods of other nodes are reached as somebody else has it; host routes of this node's pods and the CNI plugin stay for the pods that are there"
        );
    }
    Ok(())
}

/// A quarter more or less, so that the nodes of a cluster do not retry in step.
fn jittered(delay: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(0) % 512).unwrap_or(0);
    delay * (768 + random) / 1024
}

/// Brings the kernel in line; whether everything is as it should be.
async fn apply(
    kernel: &Kernel,
    routes: &Arc<Routes>,
    links: &[Link],
    known: &mut Known,
    status: &watch::Sender<Kept>,
) -> bool {
    let link = |hop: &NextHop| {
        let mut links = links.iter();
        links.find(|link| link.networks.contains(&hop.network))
    };
    let Known {
        devices,
        hops,
        wanted: keys,
        applied,
    } = known;
    hops.watch(routes, |hop| Some(link(hop)?.index));
    match kernel.neighbours(hops.watched()).await {
        Ok(heard) => hops.hear(&heard),
        // What was known of them stays.
        Err(error) => tracing::debug!(error = with_causes(&error), "neighbours cannot be read"),
    }
    let reach = |hop: &NextHop| {
        let link = link(hop)?;
        let index = link.index;
        let usable = link.carrier && !hops.is_silent(&(index, hop.gateway));
        Some(Reach { index, usable })
    };
    let (wanted, unroutable) = image::lower(routes, reach);
    *keys = wanted.routes.keys().copied().collect();
    let unroutable = unroutable.into_iter();
    let mut failures: Vec<_> = unroutable.map(|(to, why)| (Some(to), why)).collect();
    let mut operations = 0;
    match kernel.observe().await {
        Ok(Found {
            image: found,
            devices: seen,
            foreign,
        }) => {
            *devices = seen;
            for step in image::diff(&wanted, &found) {
                let done = match (&step, foreign) {
                    (Step::AddDevice(device), Some(name)) if device.tunnel.device() == name => {
                        Err(RouteError::Foreign { name })
                    }
                    _ => kernel.apply(&step, devices).await,
                };
                match done {
                    Ok(()) => operations += 1,
                    Err(error) => failures.push((network(&step), failure(&step, &error))),
                }
            }
        }
        Err(error) => failures.push((None, with_causes(&error))),
    }
    let in_kernel = wanted.routes.keys().filter(|key| is_main(key));
    let failed = |network: &IpNet| failures.iter().any(|(of, _)| *of == Some(*network));
    let count = in_kernel
        .filter(|key| routes.to.contains_key(&key.destination) && !failed(&key.destination))
        .count();
    let good = failures.is_empty();
    let before = status.borrow().clone();
    for (_, reason) in &failures {
        if !before.failures.iter().any(|(_, known)| known == reason) {
            tracing::error!(
                reason,
                "not applied; everything else is, and it is tried again"
            );
        }
    }
    let mends = applied
        .as_ref()
        .is_some_and(|applied| Arc::ptr_eq(applied, routes));
    if operations > 0 {
        if mends {
            tracing::warn!(operations, "somebody else changed the pod routes; mended");
        } else {
            tracing::debug!(operations, "pod routes applied");
        }
    }
    status.send_modify(|status| {
        status.at = Some(SystemTime::now());
        status.routes = count;
        status.applies_total += 1;
        status.failed_total += u64::from(!good);
        status.operations_total += operations;
        status.repaired_total += if mends { operations } else { 0 };
        status.failures = failures;
    });
    if good {
        *applied = Some(Arc::clone(routes));
    }
    good
}

fn network(step: &Step) -> Option<IpNet> {
    if let Step::AddRoute(key, _) | Step::ReplaceRoute(key, _) = step {
        return is_main(key).then_some(key.destination);
    }
    None
}

fn failure(step: &Step, error: &RouteError) -> String {
    format!("{step}: {}", with_causes(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_pods_come_and_go_and_lead_nowhere_else() {
        let link = |index: u32, network: &str, carrier: bool| Link {
            index,
            networks: network.parse().into_iter().collect(),
            carrier,
            ..Link::default()
        };
        let uplink = |carrier| link(2, "172.31.0.1/24", carrier);
        let pod = |index| link(index, "fe80::1/64", true);
        for (what, before, now, expected) in [
            ("known at last", None, Some(vec![]), true),
            (
                "a pod comes",
                Some(vec![uplink(true)]),
                Some(vec![pod(1), uplink(true)]),
                false,
            ),
            (
                "one goes",
                Some(vec![uplink(true), pod(3)]),
                Some(vec![uplink(true)]),
                false,
            ),
            (
                "the cable",
                Some(vec![uplink(true)]),
                Some(vec![uplink(false)]),
                true,
            ),
            (
                "its end",
                Some(vec![uplink(true)]),
                Some(vec![pod(2)]),
                true,
            ),
        ] {
            assert_eq!(
                lead_elsewhere(before.as_deref(), now.as_deref()),
                expected,
                "{what}"
            );
        }
    }
}
