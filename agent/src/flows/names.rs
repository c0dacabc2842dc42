//! Names of addresses and numbers, as the tasks publish them now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_abi::egress::has_backends;
use agent_abi::flow::FlowV1;
use agent_abi::service::{FRONTENDS_MAP, FrontendKeyV1, FrontendV2};
use model::{Cluster, ObjectKey};
use tokio::sync::watch;

use super::processes::Processes;
use super::resolve::Lookups;
use crate::desired::policy::Reason;
use crate::desired::{Desired, LbServiceKey};
use crate::lb::ebpf::entries::frontend_key;
use crate::policy::ebpf::facility::InForce;
use crate::reconcile::ClusterView;
use crate::sys::links::Link;
use crate::sys::map::{Table, TableError};

/// Asking for the numbers of all Services is a system call each; a number that is in none of them
/// is asked for again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where names come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Directory of the pinned maps.
    pub pins: PathBuf,
    /// The cluster.
    pub view: watch::Receiver<ClusterView>,
    /// What is wanted.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// Interfaces.
    pub links: watch::Receiver<Option<Vec<Link>>>,
    /// Rules, where policy is on.
    pub policy: Option<watch::Receiver<InForce>>,
    /// The cgroup above those whose processes are balanced as they connect.
    pub cgroups: Option<PathBuf>,
}

/// After a start, events of the time without an agent wait for names; where the cluster is not heard
/// of, they are told without.
const WAIT_FOR_NAMES: Duration = Duration::from_secs(10);

impl Sources {
    /// Waits until there are names.
    pub async fn known(mut self) {
        let known = async {
            // Where a sender is gone, the agent is stopping.
            let synced = self.view.wait_for(|view| view.synced).await.is_ok();
            if let Some(policy) = self.policy.as_mut().filter(|_| synced) {
                drop(policy.wait_for(|told| told.rules.is_some()).await);
            }
        };
        if tokio::time::timeout(WAIT_FOR_NAMES, known).await.is_err() {
            tracing::warn!("flows are told without names: the cluster has not been heard yet");
        }
    }
}

/// The names. Those of the cluster are gathered when an event comes after a change.
#[derive(Debug)]
pub struct Names {
    sources: Sources,
    gathered: bool,
    pods: HashMap<IpAddr, ObjectKey>,
    nodes: HashMap<IpAddr, String>,
    /// A number is used once, so what is here stays right. As many as there are Services, until the
    /// next time they are asked for.
    services: HashMap<u32, LbServiceKey>,
    asked: Option<Instant>,
    processes: Processes,
}

impl Names {
    /// None yet.
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            gathered: false,
            pods: HashMap::new(),
            nodes: HashMap::new(),
            services: HashMap::new(),
            asked: None,
            processes: Processes::default(),
        }
    }

    /// Where they come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Makes them those of this moment, as far as these events need them. Reads the kernel's tables.
    pub fn prepare(&mut self, events: &[FlowV1]) {
        // Where the sender is gone, the last value stays.
        if !self.gathered || self.sources.view.has_changed().unwrap_or(false) {
            let cluster = self.sources.view.borrow_and_update().cluster.clone();
            (self.pods, self.nodes) = addresses(&cluster);
            self.gathered = true;
        }
        if let Some(root) = &self.sources.cgroups {
            let view = self.sources.view.borrow();
            for event in events {
                self.processes.look_for(event.cgroup(), root, &view.cluster);
            }
        }
        let unknown = events.iter().any(|event| {
            event.service != 0
                && has_backends(event.service)
                && !self.services.contains_key(&event.service)
        });
        let may_ask = self.asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN);
        if unknown && may_ask {
            self.asked = Some(Instant::now());
            match self.numbered() {
                Ok(services) => self.services = services,
                Err(error) => {
                    tracing::debug!(%error, "flows name no Service; it is tried again");
                }
            }
        }
    }

    /// Services by their numbers in the kernel.
    fn numbered(&self) -> Result<HashMap<u32, LbServiceKey>, TableError> {
        let desired = self.sources.desired.borrow().clone();
        let frontends =
            Table::<FrontendKeyV1, FrontendV2>::open(&self.sources.pins, FRONTENDS_MAP)?;
        let mut services = HashMap::new();
        for (key, unit) in desired.iter().flat_map(|desired| &desired.services) {
            for frontend in unit.frontends.iter() {
                if let Some(found) = frontends.get(frontend_key(frontend))? {
                    services.insert(found.service, key.clone());
                    break;
                }
            }
        }
        Ok(services)
    }
}

impl Lookups for Names {
    fn pod(&self, address: IpAddr) -> Option<ObjectKey> {
        self.pods.get(&address).cloned()
    }

    fn node(&self, address: IpAddr) -> Option<String> {
        self.nodes.get(&address).cloned()
    }

    fn service(&self, id: u32) -> Option<LbServiceKey> {
        self.services.get(&id).cloned()
    }

    fn rule(&self, rule: u32) -> Option<Reason> {
        let policy = self.sources.policy.as_ref()?;
        policy.borrow().rules.as_ref()?.get(&rule).cloned()
    }

    fn process(&self, cgroup: u64) -> Option<ObjectKey> {
        self.processes.pod(cgroup)
    }

    fn interface(&self, index: u32) -> Option<String> {
        let links = self.sources.links.borrow();
        let mut links = links.iter().flatten();
        links
            .find(|link| link.index == index)
            .map(|link| link.name.clone())
    }
}

/// Pods with a network of their own, and nodes, by address.
fn addresses(cluster: &Cluster) -> (HashMap<IpAddr, ObjectKey>, HashMap<IpAddr, String>) {
    let pods = cluster.pods().map(|(_, pod)| pod);
    let with_network = pods.filter(|pod| !pod.finished && !pod.host_network);
    let pods = with_network.flat_map(|pod| pod.addresses.iter().map(|at| (*at, pod.key.clone())));
    let nodes = cluster.nodes().flat_map(|(key, node)| {
        let addresses = node.addresses.iter().map(|address| address.address);
        addresses.map(|address| (address, key.name.to_string()))
    });
    (pods.collect(), nodes.collect())
}
