//! What the tasks publish, gathered: what `/metrics`, `explain` and `what-if` are answered from.
//! `status` and `services` are [`super::status`]'s and [`super::services`]'.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use agent_abi::counters::TrafficV1;
use tokio::sync::{mpsc, watch};

use super::egress;
use super::kernel;
use super::metrics::Measured;
use super::policy;
use super::rates::Earlier;
use crate::applier::Applied;
use crate::cni::install::Installed;
use crate::desired::Desired;
use crate::devices::Device;
use crate::devices::fast_path::FastPath;
use crate::devices::pods::Unenforced;
use crate::divergence::Divergences;
use crate::explain::lookups::Kernel;
use crate::explain::{Connect, ExplainError, Explanation, Facts, Question, explain};
use crate::flows;
use crate::histogram::Histogram;
use crate::policy::ebpf::facility::InForce;
use crate::reconcile::ClusterView;
use crate::route::keeper::Kept;
use crate::sys::clock;
use crate::whatif::answer::Answer;
use crate::whatif::flows::of_connections;
use crate::whatif::{Change, WhatIfError, judge};

/// Everything reports are made of.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When the agent started.
    pub started: Instant,
    /// Name of the node.
    pub node: Arc<str>,
    /// How TCP of processes is balanced.
    pub connect: Arc<str>,
    /// Whether network policy is on.
    pub policed: bool,
    /// Flags that change nothing.
    pub without_effect: Arc<[String]>,
    /// Directory of the pinned maps.
    pub pins: PathBuf,
    /// The cluster.
    pub view: watch::Receiver<ClusterView>,
    /// What is wanted.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// What has been applied.
    pub applied: watch::Receiver<Applied>,
    /// Interfaces.
    pub devices: watch::Receiver<Option<Vec<Device>>>,
    /// Has one looked at at once, by its index.
    pub look: mpsc::Sender<u32>,
    /// Pods that network policy does not reach.
    pub unenforced: watch::Receiver<Vec<Unenforced>>,
    /// What skips the host's stack.
    pub fast_path: watch::Receiver<FastPath>,
    /// What of the tables of interfaces was found wrong.
    pub divergences: watch::Receiver<Divergences>,
    /// All that is wrong.
    pub problems: watch::Receiver<Arc<[model::Problem]>>,
    /// From changes of endpoints until they were in force.
    pub latency: watch::Receiver<Histogram>,
    /// What the last scrape saw, where metrics have kube-router's names too.
    pub kube_router_metrics: Option<Arc<Earlier>>,
    /// What is told of the policy tables, where policy is on.
    pub policy: Option<watch::Receiver<InForce>>,
    /// What is kept of pod routes, where they are.
    pub routes: Option<watch::Receiver<Kept>>,
    /// What is installed for container runtimes, where it is.
    pub cni: Option<watch::Receiver<Installed>>,
    /// Who keeps flows.
    pub flows: mpsc::Sender<flows::log::Question>,
}

impl Watched {
    /// What is measured. Reads the kernel's tables.
    pub fn measured(&self) -> Measured {
        let applied = self.applied.borrow().clone();
        let desired = self.desired.borrow().clone();
        let view = self.view.borrow().clone();
        let traffic = desired
            .as_ref()
            .map(|desired| kernel::traffic(&self.pins, desired));
        let traffic = traffic.unwrap_or(Ok(Vec::new())).unwrap_or_else(|error| {
            tracing::warn!(%error, "the traffic of Services cannot be read; it is left out");
            Vec::new()
        });
        let rates = self.kube_router_metrics.as_ref();
        let rates = rates.map(|earlier| earlier.rates(Instant::now(), &traffic));
        let units = desired.iter().flat_map(|desired| desired.services.values());
        Measured {
            status: self.status(),
            durations: applied.durations,
            latency: self.latency.borrow().clone(),
            succeeded_at: applied.succeeded_at,
            services: view.services,
            endpoint_slices: view.endpoint_slices,
            compiles: view.compiles.clone(),
            service_ports: desired
                .as_ref()
                .map_or(0, |desired| desired.services.size()),
            endpoints: units.map(|unit| unit.backends.len()).sum(),
            traffic,
            policy: self.policy.as_ref().map(|told| {
                let told = told.borrow().clone();
                policy::measure(&self.pins, told, desired.as_deref(), &view.cluster)
            }),
            egress: egress::traffic(&self.pins).unwrap_or_else(|error| {
                tracing::warn!(%error, "the traffic that leaves the cluster cannot be read; it is left out");
                TrafficV1::default()
            }),
            kube_router: rates,
        }
    }

    /// The answer to `explain`.
    ///
    /// # Errors
    /// Where the question names what is not there, or the kernel's tables cannot be read.
    pub fn explain(&self, question: &Question) -> Result<Explanation, ExplainError> {
        let view = self.view.borrow().clone();
        let applied = self.applied.borrow().clone();
        let desired = self.desired.borrow().clone();
        let desired = desired.ok_or(ExplainError::NotSynced)?;
        let (attached, detail) = self
            .connect
            .split_once(": ")
            .unwrap_or(("no", &self.connect));
        let fast_path = self.fast_path.borrow().clone();
        let facts = Facts {
            fast_path: &fast_path,
            lookups: &Kernel::open(&self.pins)?,
            cluster: &view.cluster,
            desired: &desired,
            connect: match attached {
                "yes" => Connect::Attached(detail),
                _ => Connect::Absent(detail),
            },
            policed: self.policed,
            failures: &applied.outcome.failures,
            problems: &view.problems,
        };
        explain(question, &facts)
    }

    /// The answer to `policy what-if`. Reads the kernel's table of connections.
    ///
    /// # Errors
    /// Where the change makes no sense, or the table cannot be read.
    pub fn what_if(&self, change: &Change) -> Result<Answer, WhatIfError> {
        if !self.policed {
            return Err(WhatIfError::NotPoliced);
        }
        let desired = self.desired.borrow().clone();
        let node = desired.ok_or(WhatIfError::NotSynced)?.node.clone();
        let cluster = self.view.borrow().cluster.clone();
        let (connections, settings) = kernel::connections(&self.pins)
            .map_err(|error| WhatIfError::Table(crate::applier::with_causes(&error)))?;
        let now = clock::monotonic_nanoseconds();
        // What was dropped lately belongs here too, once it is recorded.
        let flows = of_connections(&connections, &settings, now);
        judge(&cluster, &node, change, &flows)
    }
}
