//! Which objects a change may have touched.

use std::collections::BTreeSet;

use model::{ChangeSet, Cluster, Kind, ObjectKey};

use super::addresses::Claimant;

/// What may differ.
pub(super) struct Dirty {
    pub(super) policies: BTreeSet<Claimant>,
    pub(super) pods: BTreeSet<ObjectKey>,
    pub(super) nodes: BTreeSet<ObjectKey>,
}

const POLICIES: [Kind; 2] = [Kind::NetworkPolicy, Kind::ClusterNetworkPolicy];

impl Dirty {
    pub(super) fn of(cluster: &Cluster, changes: &ChangeSet) -> Self {
        let changed = |kind| changes.get(&kind).into_iter().flatten().cloned();
        let mut pods: BTreeSet<ObjectKey> = changed(Kind::Pod).collect();
        if let Some(namespaces) = changes.get(&Kind::Namespace) {
            let names: BTreeSet<&str> = namespaces.iter().map(|key| &*key.name).collect();
            let there = cluster.pods().map(|(key, _)| key);
            pods.extend(there.filter(|key| names.contains(&*key.namespace)).cloned());
        }
        let policies = POLICIES.into_iter();
        Self {
            policies: policies
                .flat_map(|kind| changed(kind).map(move |key| (kind, key)))
                .collect(),
            pods,
            nodes: changed(Kind::Node).collect(),
        }
    }

    /// With every object that there is.
    pub(super) fn and_all(mut self, cluster: &Cluster) -> Self {
        let of_namespaces = cluster
            .network_policies()
            .map(|(key, _)| (POLICIES[0], key.clone()));
        let of_cluster = cluster.cluster_network_policies();
        let of_cluster = of_cluster.map(|(key, _)| (POLICIES[1], key.clone()));
        self.policies.extend(of_namespaces.chain(of_cluster));
        self.pods.extend(cluster.pods().map(|(key, _)| key.clone()));
        self.nodes
            .extend(cluster.nodes().map(|(key, _)| key.clone()));
        self
    }
}
