//! The cluster as last heard, and what changed since it was last read.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::{
    BackendTlsPolicy, ClusterNetworkPolicy, ConfigMap, EndpointSlice, EndpointsAnnotations, Event,
    Gateway, GatewayClass, HttpRoute, Ingress, IngressClass, Kind, KindSet, Namespace,
    NetworkPolicy, Node, Object, ObjectKey, Pod, Problem, ReferenceGrant, Secret, Service,
    SourceState, StreamRoute,
};

type Objects = RedBlackTreeMapSync<ObjectKey, Object>;

/// Keys of the objects that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    by_kind: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    services: BTreeSet<ObjectKey>,
}

impl ChangeSet {
    /// The changed objects of a kind; `None` where none did.
    pub fn get(&self, kind: &Kind) -> Option<&BTreeSet<ObjectKey>> {
        self.by_kind.get(kind)
    }

    /// The Services that changed, or have or had an EndpointSlice that did.
    pub fn services(&self) -> &BTreeSet<ObjectKey> {
        &self.services
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.by_kind.is_empty()
    }
}

/// The watched cluster. Cloning is cheap (the maps are persistent), so a clone is a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    objects: BTreeMap<Kind, Objects>,
    /// In order; a list, since most Services have one or two.
    slices_of: RedBlackTreeMapSync<ObjectKey, Arc<[ObjectKey]>>,
    problems: RedBlackTreeMapSync<(Kind, ObjectKey), Arc<[Problem]>>,
    states: BTreeMap<Kind, SourceState>,
    synced: KindSet,
    /// Nobody wants any before they have looked at the cluster once.
    changes: Option<ChangeSet>,
}

/// Typed access to the objects of one kind.
macro_rules! kind {
    ($all:ident, $one:ident, $kind:ident, $type:ty) => {
        #[doc = concat!("Every ", stringify!($kind), ", in the order of their names.")]
        pub fn $all(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<$type>)> {
            let objects = self.objects.get(&Kind::$kind).into_iter().flatten();
            objects.filter_map(|(key, object)| match object {
                Object::$kind(object) => Some((key, object)),
                _ => None,
            })
        }

        #[doc = concat!("One ", stringify!($kind), ".")]
        pub fn $one(&self, key: &ObjectKey) -> Option<&Arc<$type>> {
            match self.objects.get(&Kind::$kind)?.get(key)? {
                Object::$kind(object) => Some(object),
                _ => None,
            }
        }
    };
}

impl Cluster {
    kind!(services, service, Service, Service);
    kind!(
        endpoint_slices,
        endpoint_slice,
        EndpointSlice,
        EndpointSlice
    );
    kind!(nodes, node, Node, Node);
    kind!(pods, pod, Pod, Pod);
    kind!(namespaces, namespace, Namespace, Namespace);
    kind!(
        network_policies,
        network_policy,
        NetworkPolicy,
        NetworkPolicy
    );
    kind!(
        cluster_network_policies,
        cluster_network_policy,
        ClusterNetworkPolicy,
        ClusterNetworkPolicy
    );
    kind!(secrets, secret, Secret, Secret);
    kind!(endpoints, endpoints_of, Endpoints, EndpointsAnnotations);
    kind!(ingresses, ingress, Ingress, Ingress);
    kind!(ingress_classes, ingress_class, IngressClass, IngressClass);
    kind!(gateway_classes, gateway_class, GatewayClass, GatewayClass);
    kind!(gateways, gateway, Gateway, Gateway);
    kind!(http_routes, http_route, HttpRoute, HttpRoute);
    kind!(tls_routes, tls_route, TlsRoute, StreamRoute);
    kind!(tcp_routes, tcp_route, TcpRoute, StreamRoute);
    kind!(
        reference_grants,
        reference_grant,
        ReferenceGrant,
        ReferenceGrant
    );
    kind!(
        backend_tls_policies,
        backend_tls_policy,
        BackendTlsPolicy,
        BackendTlsPolicy
    );
    kind!(config_maps, config_map, ConfigMap, ConfigMap);
}

impl Cluster {
    /// Brings the cluster up to date with what a source says.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Replaced {
                kind,
                objects,
                problems,
            } => self.replace(kind, objects, problems),
            Event::Applied {
                kind,
                key,
                object,
                problems,
            } => {
                self.set_problems(kind, &key, problems);
                self.set(kind, key, object);
            }
            Event::Deleted { kind, key } => {
                self.set_problems(kind, &key, Vec::new());
                self.set(kind, key, None);
            }
            Event::Source { kind, state } => drop(self.states.insert(kind, state)),
        }
    }

    /// What changed since this was last called; nothing is noted before the first time.
    pub fn take_changes(&mut self) -> ChangeSet {
        self.changes
            .replace(ChangeSet::default())
            .unwrap_or_default()
    }

    /// An object of any kind.
    pub fn object(&self, kind: Kind, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(&kind)?.get(key)
    }

    /// Whether each of `kinds` has been listed.
    pub fn is_synced(&self, kinds: &KindSet) -> bool {
        kinds.is_subset(&self.synced)
    }

    /// The EndpointSlices of a Service.
    pub fn slices_of(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let keys = self
            .slices_of
            .get(service)
            .map(AsRef::as_ref)
            .into_iter()
            .flatten();
        keys.filter_map(|key| self.endpoint_slice(key))
    }

    /// The pods of a namespace, in the order of their names.
    pub fn pods_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = (&ObjectKey, &Arc<Pod>)> {
        let first = ObjectKey {
            namespace: Arc::clone(namespace),
            name: Arc::from(""),
        };
        let pods = self.objects.get(&Kind::Pod).into_iter();
        let from = pods.flat_map(move |pods| pods.range(first.clone()..));
        let there = from.take_while(move |(key, _)| key.namespace == *namespace);
        there.filter_map(|(key, object)| {
            let Object::Pod(pod) = object else {
                return None;
            };
            Some((key, pod))
        })
    }

    /// Findings about objects, in the order of their kinds and names.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flat_map(|problems| problems.iter())
    }

    /// How well each kind is heard of.
    pub fn source_states(&self) -> &BTreeMap<Kind, SourceState> {
        &self.states
    }

    fn replace(&mut self, kind: Kind, objects: Vec<Object>, problems: Vec<Problem>) {
        let mut fresh: BTreeMap<ObjectKey, Object> = objects
            .into_iter()
            .map(|object| (object.key().clone(), object))
            .collect();
        let mut problems_of: BTreeMap<ObjectKey, Vec<Problem>> = BTreeMap::new();
        for problem in problems {
            problems_of
                .entry(problem.key.clone())
                .or_default()
                .push(problem);
        }
        let with_problems: Vec<ObjectKey> = self
            .problems
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, key)| key.clone())
            .collect();
        for key in with_problems
            .iter()
            .chain(&problems_of.keys().cloned().collect::<Vec<_>>())
        {
            self.set_problems(kind, key, problems_of.get(key).cloned().unwrap_or_default());
        }
        let known: Vec<ObjectKey> = self
            .objects
            .get(&kind)
            .into_iter()
            .flat_map(|objects| objects.keys().cloned())
            .collect();
        if known.is_empty() && self.changes.is_none() {
            self.fill(kind, fresh);
        } else {
            for key in known {
                let object = fresh.remove(&key);
                self.set(kind, key, object);
            }
            for (key, object) in fresh {
                self.set(kind, key, Some(object));
            }
        }
        self.synced.insert(kind);
    }

    /// The same as [`Self::set`] for each object of a kind of which none is known, at a start, where
    /// nobody asks what changed: tens of thousands of objects are some tenths of a second less.
    fn fill(&mut self, kind: Kind, objects: BTreeMap<ObjectKey, Object>) {
        let mut slices_of: BTreeMap<ObjectKey, Vec<ObjectKey>> = BTreeMap::new();
        for (key, object) in &objects {
            if let Some(owner) = owner_of(object) {
                slices_of
                    .entry(owner.clone())
                    .or_default()
                    .push(key.clone());
            }
        }
        for (owner, slices) in slices_of {
            self.slices_of.insert_mut(owner, slices.into());
        }
        self.objects.insert(kind, objects.into_iter().collect());
    }

    fn set(&mut self, kind: Kind, key: ObjectKey, object: Option<Object>) {
        let objects = self.objects.entry(kind).or_default();
        let old = objects.get(&key).cloned();
        if old == object {
            return;
        }
        match &object {
            Some(object) => objects.insert_mut(key.clone(), object.clone()),
            None => drop(objects.remove_mut(&key)),
        }
        let owner = |object: &Option<Object>| object.as_ref().and_then(owner_of).cloned();
        let owners = [owner(&old), owner(&object)];
        let [before, after] = &owners;
        self.index(&key, before.as_ref(), after.as_ref());
        let Some(changes) = &mut self.changes else {
            return;
        };
        if kind == Kind::Service {
            changes.services.insert(key.clone());
        }
        changes.services.extend(owners.into_iter().flatten());
        changes.by_kind.entry(kind).or_default().insert(key);
    }

    fn index(&mut self, slice: &ObjectKey, before: Option<&ObjectKey>, after: Option<&ObjectKey>) {
        if before == after {
            return;
        }
        let known = |slices_of: &RedBlackTreeMapSync<_, Arc<[ObjectKey]>>, owner: &ObjectKey| {
            let slices = slices_of.get(owner).map(AsRef::as_ref);
            let others = slices.into_iter().flatten().filter(|other| *other != slice);
            others.cloned().collect::<BTreeSet<_>>()
        };
        if let Some(owner) = before {
            let slices = known(&self.slices_of, owner);
            if slices.is_empty() {
                self.slices_of.remove_mut(owner);
            } else {
                let slices = slices.into_iter().collect();
                self.slices_of.insert_mut(owner.clone(), slices);
            }
        }
        if let Some(owner) = after {
            let mut slices = known(&self.slices_of, owner);
            slices.insert(slice.clone());
            let slices = slices.into_iter().collect();
            self.slices_of.insert_mut(owner.clone(), slices);
        }
    }

    fn set_problems(&mut self, kind: Kind, key: &ObjectKey, problems: Vec<Problem>) {
        let at = (kind, key.clone());
        if problems.is_empty() {
            self.problems.remove_mut(&at);
        } else {
            self.problems.insert_mut(at, problems.into());
        }
    }
}

/// The Service that a slice belongs to.
fn owner_of(object: &Object) -> Option<&ObjectKey> {
    if let Object::EndpointSlice(slice) = object {
        slice.service.as_ref()
    } else {
        None
    }
}
