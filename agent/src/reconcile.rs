//! The one owner of the cluster: takes events, waits for quiet, compiles, publishes.
//!
//! Nothing is compiled before every kind has been listed once; from then on, what is published
//! depends on the cluster alone, not on how its events came.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model::{Cluster, Event, Kind, KindSet, ObjectKey, Problem, SourceState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::desired::Desired;
use crate::desired::egress::EgressOptions;
use crate::desired::node::{self, Exposure, NodeContext};
use crate::desired::route::{RouterOptions, mtu};
use crate::histogram::Histogram;
use crate::latency::{self, Triggered};
use crate::sandbox::{self, Announced, Refusal};
use crate::sys::links::Link;

/// How long to wait for more events.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    /// After an event that comes after quiet: one that comes alone is in force at once, and what is
    /// sent together comes closer than this.
    pub alone: Duration,
    /// After the last one of more: a rollout's events come in bursts closer than this.
    pub quiet: Duration,
    /// After the first one, however many follow.
    pub longest: Duration,
}

impl Debounce {
    /// Until when more is waited for, now that an event was heard: the first of them at `first`, and
    /// those before it published at `published`.
    fn deadline(self, first: Instant, published: Option<Instant>) -> Instant {
        let in_a_burst = published.is_some_and(|at| first.duration_since(at) < self.quiet);
        let quiet = if in_a_burst { self.quiet } else { self.alone };
        (Instant::now() + quiet).min(first + self.longest)
    }
}

impl Default for Debounce {
    fn default() -> Self {
        Self {
            alone: Duration::from_millis(2),
            quiet: Duration::from_millis(50),
            longest: Duration::from_millis(500),
        }
    }
}

/// What is known of the cluster, for status and readiness.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Whether every kind has been listed.
    pub synced: bool,
    /// How well each kind is heard of.
    pub states: BTreeMap<Kind, SourceState>,
    /// What is wrong with objects.
    pub problems: Vec<Problem>,
    /// Where the API server's own Service leads.
    pub api_servers: Vec<SocketAddr>,
    /// Services in the cluster.
    pub services: usize,
    /// EndpointSlices in the cluster.
    pub endpoint_slices: usize,
    /// The cluster itself.
    pub cluster: Cluster,
    /// How long it took to compile what is wanted, each time.
    pub compiles: Histogram,
}

impl AsRef<[Problem]> for ClusterView {
    fn as_ref(&self) -> &[Problem] {
        &self.problems
    }
}

/// Where the agent is.
#[derive(Debug)]
pub struct Place {
    /// Name of the node.
    pub node_name: Arc<str>,
    /// Addresses that are served.
    pub exposure: Arc<Exposure>,
    /// `--netpol-default-deny`.
    pub default_deny: bool,
    /// How pods of other nodes are reached, where routes are kept.
    pub router: Option<RouterOptions>,
    /// What keeps the pods' addresses, where others are translated.
    pub egress: watch::Receiver<Option<Arc<EgressOptions>>>,
    /// Largest packet of the network, where its interfaces say more.
    pub mtu: Option<u32>,
    /// Interfaces of the node.
    pub links: watch::Receiver<Option<Vec<Link>>>,
}

/// Interfaces of kube-router's and of kube-proxy's IPVS, with the address of every Service.
const ADDRESSES_OF_SERVICES: [&str; 2] = ["kube-dummy-if", "kube-ipvs0"];

impl Place {
    fn context(&self, cluster: &Cluster) -> NodeContext {
        let links = self.links.borrow();
        let links = || {
            let is_of_proxy = |link: &&Link| ADDRESSES_OF_SERVICES.contains(&&*link.name);
            links
                .iter()
                .flatten()
                .filter(move |link| !is_of_proxy(link))
        };
        let own = links()
            .flat_map(|link| link.addresses.iter().copied())
            .collect();
        let key = ObjectKey::cluster_scoped(&self.node_name);
        let addresses = node::addresses_of(cluster, &key);
        let is_uplink = |link: &&Link| link.addresses.iter().any(|own| addresses.contains(own));
        let mtu = mtu::of_uplinks(links().filter(is_uplink).map(|link| link.mtu), self.mtu);
        let networks = || links().flat_map(|link| &link.networks);
        let with_others = |network: &&IpNet| {
            network.prefix_len() < network.max_prefix_len() && !node::is_link_local(network.addr())
        };
        let interfaces = networks().filter(with_others);
        let interfaces = interfaces.map(|network| network.addr()).collect();
        let networks = networks().filter(|network| addresses.contains(&network.addr()));
        let networks = networks.copied().collect();
        NodeContext {
            default_deny: self.default_deny,
            router: self.router,
            egress: self.egress.borrow().clone(),
            networks,
            interfaces,
            ..NodeContext::of(cluster, &self.node_name, &self.exposure, &own, mtu)
        }
    }

    /// Waits for a change of the interfaces, or of the operator's list.
    async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.links.changed() => changed,
            Ok(()) = self.egress.changed() => Ok(()),
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Addresses of a pod that its status does not say yet.
#[derive(Debug)]
pub struct Announcement {
    /// The pod.
    pub pod: ObjectKey,
    /// What it is given.
    pub addresses: Vec<IpAddr>,
    /// The revision of the policy tables that know it.
    pub heard: oneshot::Sender<Result<u64, Refusal>>,
}

/// What the cluster is made of.
#[derive(Debug)]
pub struct Heard {
    /// What the source says.
    pub events: mpsc::Receiver<Event>,
    /// What is said on this node before the source does.
    pub announcements: mpsc::Receiver<Announcement>,
}

/// What comes of the cluster, and where to.
#[derive(Debug)]
pub struct Published {
    /// What the node should balance.
    pub desired: watch::Sender<Option<Arc<Desired>>>,
    /// What is known of the cluster.
    pub view: watch::Sender<ClusterView>,
    /// What set off the changes of each generation after the first.
    pub triggered: mpsc::Sender<Triggered>,
}

/// Follows what is heard until `cancel`, or until the source ends.
pub async fn run(
    place: Place,
    kinds: KindSet,
    heard: Heard,
    debounce: Debounce,
    published: Published,
    cancel: CancellationToken,
) {
    let mut heard = heard;
    let mut known = Known {
        place,
        kinds,
        published,
        announced: Announced::default(),
        cluster: Cluster::default(),
        before: None,
        compiles: Histogram::default(),
    };
    let mut published_at = None;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = known.place.changed() => {}
            Some(announcement) = heard.announcements.recv() => known.answer(announcement, &mut heard),
            first = heard.events.recv() => match first {
                Some(first) => known.hear(first),
                None => return,
            },
        }
        let first_at = Instant::now();
        // A list is whole as it comes: a start waits for the last of them, and no longer.
        while known.before.is_some() || !known.is_synced() {
            tokio::select! {
                more = tokio::time::timeout_at(debounce.deadline(first_at, published_at), heard.events.recv()) => {
                    let Ok(Some(more)) = more else { break };
                    known.hear(more);
                }
                Some(announcement) = heard.announcements.recv() => {
                    known.answer(announcement, &mut heard);
                }
            }
        }
        if known.is_synced() {
            let started = Instant::now();
            known.publish();
            known.compiles.observe(started.elapsed());
            published_at = Some(Instant::now());
        }
        known.show();
    }
}

/// What is known so far, and who is told.
struct Known {
    place: Place,
    kinds: KindSet,
    published: Published,
    announced: Announced,
    cluster: Cluster,
    /// As it was published last.
    before: Option<Cluster>,
    compiles: Histogram,
}

impl Known {
    fn hear(&mut self, event: Event) {
        self.cluster.apply(self.announced.fill(event));
    }

    /// With the node's addresses too: for a moment without them, its pods would not know it.
    fn is_synced(&self) -> bool {
        self.cluster.is_synced(&self.kinds) && self.place.links.borrow().is_some()
    }

    /// Compiles what a pod needs that waits for it, and so waits for nothing more. Pods that start at
    /// once are compiled at once.
    fn answer(&mut self, first: Announcement, heard: &mut Heard) {
        // The Pod itself may be among them.
        while let Ok(event) = heard.events.try_recv() {
            self.hear(event);
        }
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(Announcement {
            pod,
            addresses,
            heard: waits,
        }) = next
        {
            answers.push((waits, self.announce(&pod, &addresses)));
            next = heard.announcements.try_recv().ok();
        }
        if answers.iter().any(|(_, answer)| answer.is_ok()) {
            self.publish();
        }
        let desired = self.published.desired.borrow();
        let revision = |()| {
            let desired = desired.as_ref();
            desired.map_or(0, |desired| desired.policy.revision())
        };
        for (waits, answer) in answers {
            if waits.send(answer.map(revision)).is_err() {
                tracing::debug!("nobody waits for a pod's interface any more");
            }
        }
    }

    fn announce(&mut self, pod: &ObjectKey, addresses: &[IpAddr]) -> Result<(), Refusal> {
        if self.before.is_none() || !self.cluster.is_synced(&self.kinds) {
            return Err(sandbox::Reason::NotSynced.because("the cluster is not known yet"));
        }
        let node = &self.place.node_name;
        self.announced
            .announce(&mut self.cluster, node, pod, addresses)
    }

    fn publish(&mut self) {
        publish(
            &mut self.cluster,
            &self.place,
            &self.published,
            self.before.as_ref(),
        );
        self.before = Some(self.cluster.clone());
    }

    /// Tells what is known, for status and readiness.
    fn show(&self) {
        let cluster = &self.cluster;
        let of_services: Vec<Problem> = {
            let desired = self.published.desired.borrow();
            let desired = desired.iter();
            desired
                .flat_map(|desired| desired.problems())
                .cloned()
                .collect()
        };
        let problems: Vec<Problem> = cluster.problems().cloned().chain(of_services).collect();
        let view = &self.published.view;
        report(&view.borrow().problems, &problems);
        view.send_replace(ClusterView {
            synced: self.is_synced(),
            states: cluster.source_states().clone(),
            problems,
            api_servers: bootstrap::api_servers(cluster),
            services: cluster.services().count(),
            endpoint_slices: cluster.endpoint_slices().count(),
            cluster: cluster.clone(),
            compiles: self.compiles.clone(),
        });
    }
}

/// Compiles and publishes; `before` is the cluster of the last time.
fn publish(cluster: &mut Cluster, place: &Place, published: &Published, before: Option<&Cluster>) {
    let changes = cluster.take_changes();
    let node = place.context(cluster);
    let known = published.desired.borrow().clone();
    let next = match &known {
        Some(known) => known.follow(cluster, &changes, node),
        None => Desired::compile(cluster, node),
    };
    let differs = known.is_none_or(|known| known.generation != next.generation);
    let at = before.map_or(Vec::new(), |before| {
        latency::triggers(before, cluster, &changes)
    });
    if differs && !at.is_empty() {
        let generation = next.generation;
        // Before the generation itself, so that it is not in force earlier.
        if let Err(error) = published.triggered.try_send(Triggered { generation, at }) {
            tracing::debug!(generation, %error, "the latency of this generation is not measured");
        }
    }
    published.desired.send_if_modified(|desired| {
        *desired = Some(Arc::new(next));
        differs
    });
}

/// Logs problems that are new, and those that are gone.
fn report(before: &[Problem], after: &[Problem]) {
    for problem in after.iter().filter(|problem| !before.contains(problem)) {
        tracing::warn!(kind = %problem.kind, object = %problem.key, field = problem.field, effect = problem.effect, "{}", problem.message);
    }
    for problem in before.iter().filter(|problem| !after.contains(problem)) {
        tracing::info!(kind = %problem.kind, object = %problem.key, field = problem.field, "the problem is gone");
    }
}

#[cfg(test)]
mod tests;
