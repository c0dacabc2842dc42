//! Which policies go for which pod of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Direction, Labels, ObjectKey, Pod};
use rpds::RedBlackTreeMapSync;

use super::index::{TermIndex, named};
use super::rules::{Policy, SetKey, names};

/// A pod of this node and the rules that go for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its addresses, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Rules for what comes in; without any, everything may.
    pub ingress: Option<SetKey>,
    /// Rules for what goes out; without any, everything may.
    pub egress: Option<SetKey>,
}

impl LocalPod {
    /// The rules for a direction.
    pub fn set(&self, direction: Direction) -> Option<&SetKey> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// The rules of both directions.
    pub fn sets(&self) -> impl Iterator<Item = &SetKey> {
        self.ingress.iter().chain(&self.egress)
    }
}

/// Policies by the pods they apply to. A policy is looked for at pods of its own namespace alone; the
/// cluster's, whose namespace is empty, at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    by_namespace: RedBlackTreeMapSync<Arc<str>, Arc<Subjects>>,
}

/// Those of a namespace.
#[derive(Debug)]
struct Subjects {
    index: TermIndex,
    policies: Vec<Vec<Arc<Policy>>>,
}

impl Subjects {
    fn new(policies: &[Arc<Policy>]) -> Self {
        let mut by_subject: BTreeMap<_, Vec<Arc<Policy>>> = BTreeMap::new();
        for policy in policies {
            let of_subject = by_subject.entry(Arc::clone(&policy.subject)).or_default();
            of_subject.push(Arc::clone(policy));
        }
        let subjects = by_subject.keys().cloned().collect();
        Self {
            index: TermIndex::new(subjects, BTreeSet::new(), &TermIndex::default()),
            policies: by_subject.into_values().collect(),
        }
    }

    fn of_pod<'a>(
        &'a self,
        pod: &Pod,
        labels_of_namespace: &Labels,
    ) -> impl Iterator<Item = &'a Arc<Policy>> {
        let subjects = self.index.of_pod(pod, labels_of_namespace).into_iter();
        subjects
            .filter_map(|id| self.policies.get(id as usize))
            .flatten()
    }
}

impl Selection {
    /// Puts the policies of a namespace in place of those that it had.
    pub(super) fn replace(&mut self, namespace: &Arc<str>, policies: &[Arc<Policy>]) {
        if policies.is_empty() {
            self.by_namespace.remove_mut(namespace);
        } else {
            let subjects = Arc::new(Subjects::new(policies));
            self.by_namespace
                .insert_mut(Arc::clone(namespace), subjects);
        }
    }

    /// The rules for a pod of this node.
    pub(super) fn select(&self, pod: &Pod, labels_of_namespace: &Labels) -> LocalPod {
        let of_namespaces = ["", &*pod.key.namespace].into_iter();
        let mut policies: Vec<&Arc<Policy>> = of_namespaces
            .filter_map(|namespace| self.by_namespace.get(namespace))
            .flat_map(|subjects| subjects.of_pod(pod, labels_of_namespace))
            .collect();
        policies.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let set = |direction| {
            let concerned = policies
                .iter()
                .filter(|policy| policy.rules(direction).is_some());
            let concerned: Vec<&&Arc<Policy>> = concerned.collect();
            let rules = concerned
                .iter()
                .flat_map(|policy| policy.rules(direction))
                .flatten();
            let names = match direction {
                Direction::Ingress => names(rules),
                Direction::Egress => BTreeSet::new(),
            };
            (!concerned.is_empty()).then(|| SetKey {
                direction,
                policies: concerned
                    .iter()
                    .map(|policy| Arc::clone(&policy.id))
                    .collect(),
                ports: named(pod, |name| names.contains(name)).into(),
            })
        };
        LocalPod {
            key: pod.key.clone(),
            addresses: pod.addresses.clone(),
            ingress: set(Direction::Ingress),
            egress: set(Direction::Egress),
        }
    }
}
