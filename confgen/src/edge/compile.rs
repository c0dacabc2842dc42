//! From the cluster to the plan, whole or by what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ChangeSet, Cluster, Kind, KindSet, ObjectKey};

use super::claim::{BackendSpec, Claims, Members};
use super::outside::Outside;
use super::plan::{Backend, EdgePlan};
use super::resolve::{Resolved, resolve};
use super::value::Id;
use super::{EdgeConfig, convention, members};

/// The plan of a cluster.
pub fn compile(cluster: &Cluster, config: &EdgeConfig) -> EdgePlan {
    Compiler::new(config.clone()).whole(cluster).clone()
}

/// The kinds that the conventions in force read.
pub fn kinds(config: &EdgeConfig) -> KindSet {
    convention::kinds(config)
}

/// Keeps the plan up to date. Endpoints change far more often than anything else: a change of them
/// alone costs their backends. The result is always that of [`compile`].
#[derive(Debug)]
pub struct Compiler {
    config: EdgeConfig,
    specs: BTreeMap<Id, BackendSpec>,
    of_service: BTreeMap<ObjectKey, Vec<Id>>,
    plan: EdgePlan,
}

impl Compiler {
    /// Before the first plan.
    pub fn new(config: EdgeConfig) -> Self {
        Self {
            config,
            specs: BTreeMap::new(),
            of_service: BTreeMap::new(),
            plan: EdgePlan::default(),
        }
    }

    /// The plan after `changes`, which say what of `cluster` differs from the last time.
    pub fn update(&mut self, cluster: &Cluster, changes: &ChangeSet) -> &EdgePlan {
        let of_endpoints_alone = Kind::ALL
            .iter()
            .all(|kind| *kind == Kind::EndpointSlice || changes.get(kind).is_none());
        if !of_endpoints_alone {
            return self.whole(cluster);
        }
        for service in changes.services() {
            for id in self.of_service.get(service).into_iter().flatten() {
                let backend = members::fill(&self.specs[id], cluster);
                keep_or_put(&mut self.plan.backends, backend);
            }
        }
        &self.plan
    }

    /// The plan with other addresses of names outside the cluster, or another certificate.
    pub fn look_outside(&mut self, cluster: &Cluster, outside: Outside) -> &EdgePlan {
        self.config.outside = outside;
        self.whole(cluster)
    }

    /// The plan, made anew; parts that are as they were stay the same in memory.
    pub fn whole(&mut self, cluster: &Cluster) -> &EdgePlan {
        let Claims {
            http,
            tls,
            sni,
            tcp,
            mut backends,
            mut certificates,
            views,
            problems,
        } = convention::claims(cluster, &self.config);
        let Outside {
            fallbacks,
            certificate,
        } = &self.config.outside;
        let of_fallbacks = fallbacks.iter();
        backends.extend(of_fallbacks.map(|(id, fallback)| (id.clone(), fallback.backend())));
        certificates.extend(certificate.as_deref().cloned());
        let claims = Claims {
            http,
            tls,
            sni,
            tcp,
            ..Claims::default()
        };
        let Resolved { listeners, losses } = resolve(&claims, &self.config);
        self.of_service.clear();
        for (id, spec) in &backends {
            if let Members::Endpoints { service, .. } = &spec.members {
                let ids = self.of_service.entry(service.clone()).or_default();
                ids.push(id.clone());
            }
        }
        self.specs = backends;
        let plan = &mut self.plan;
        let wanted: BTreeSet<&Id> = self.specs.keys().collect();
        plan.backends.retain(|id, _| wanted.contains(id));
        for spec in self.specs.values() {
            keep_or_put(&mut plan.backends, members::fill(spec, cluster));
        }
        set(&mut plan.listeners, listeners);
        set(&mut plan.certificates, certificates);
        set(&mut plan.views, views);
        set(&mut plan.losses, losses);
        set(&mut plan.problems, problems);
        plan
    }
}

fn keep_or_put(backends: &mut BTreeMap<Id, Arc<Backend>>, backend: Backend) {
    if backends
        .get(&backend.id)
        .is_none_or(|known| **known != backend)
    {
        backends.insert(backend.id.clone(), backend.into());
    }
}

fn set<T: PartialEq>(shared: &mut Arc<T>, value: T) {
    if **shared != value {
        *shared = value.into();
    }
}
