//! From a change of the cluster to the tables, by looking only at what it may have touched.
//!
//! policies → which pods of this node they select → sets → what is in force → classes of peers →
//! entries. A step that comes to the same result ends there. A pod costs what its labels cost;
//! a selector that comes into force is asked about each peer once, see [`News`].

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use model::{ChangeSet, Cluster, Kind, Labels, ObjectKey, Pod, Problem, Tier};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::PolicyTables;
use super::addresses::{Claim, Claimant, Touched};
use super::difference::Difference;
use super::dirty::Dirty;
use super::in_force::InForce;
use super::index::TermIndex;
use super::news::News;
use super::rules::{Policy, Rule, SetKey, list};
use super::selection::{LocalPod, Selection};
use super::sets::{Lists, forget};
use super::term::{Class, PolicyRef};
use crate::desired::NodeContext;

/// What the next step goes on from.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    node: Option<Arc<NodeContext>>,
    policies: RedBlackTreeMapSync<Claimant, Arc<Policy>>,
    pub(super) selection: Selection,
    /// How many pods use a set.
    users: HashTrieMapSync<SetKey, usize>,
    in_force: InForce,
    index: Arc<TermIndex>,
    /// No labels; those of a namespace that is not known.
    unlabelled: Arc<Labels>,
}

/// Policies that were read again.
#[derive(Default)]
struct Reread {
    /// What they were and are called in the names of sets.
    ids: BTreeSet<Arc<PolicyRef>>,
    /// Where they may select pods; the cluster's is empty.
    namespaces: BTreeSet<Arc<str>>,
}

/// Lists of rules that are new.
type Fresh = Vec<(SetKey, Arc<[Rule]>)>;

impl PolicyTables {
    /// What the whole cluster asks for on a node.
    pub fn compile(cluster: &Cluster, node: &NodeContext) -> Self {
        Self::default().follow(cluster, &ChangeSet::default(), node)
    }

    /// What the cluster asks for now, where only `changes` may differ from before.
    #[must_use]
    pub fn follow(&self, cluster: &Cluster, changes: &ChangeSet, node: &NodeContext) -> Self {
        let mut next = self.clone();
        let mut dirty = Dirty::of(cluster, changes);
        let mut touched = Touched::default();
        let mut differs = false;
        let before = next.known.node.take();
        let is_same_node = before.as_deref() == Some(node);
        if is_same_node {
            next.known.node = before;
        } else {
            dirty = dirty.and_all(cluster);
            let own = before.iter().flat_map(|before| &before.own);
            let own = own.chain(&node.own).copied().map(ipnet::IpNet::from);
            touched.networks.extend(own);
            next.known.node = Some(Arc::new(node.clone()));
            differs = true;
            next.close(node);
        }
        let reread = next.read(cluster, &dirty);
        let mut pods = dirty.pods.clone();
        pods.extend(reread.namespaces.iter().flat_map(|of| next.pods_in(of)));
        for key in &pods {
            differs |= next.select(cluster, key, &node.name, &mut touched);
        }
        let mut difference = Difference::default();
        let (differing, fresh) = next.list(&reread.ids, &touched.sets, &mut difference);
        if differing && let Some(news) = next.put_in_force() {
            touched.networks.extend(news.networks());
            dirty
                .pods
                .extend(news.pods(cluster, &next.known, &next.addresses));
            dirty.nodes.extend(news.nodes(cluster));
        }
        for key in &dirty.pods {
            next.claim_pod(cluster, key, &mut touched);
        }
        for key in &dirty.nodes {
            next.claim_node(cluster, key, &mut touched);
        }
        differs |= next.settle(&node.own, &mut touched, &mut difference);
        next.fill(touched, fresh, &mut difference);
        if differs || differing {
            next.revision += 1;
            next.recent.note(is_same_node.then_some(difference));
        }
        next
    }

    /// What is closed to pods that are not known.
    fn close(&mut self, node: &NodeContext) {
        self.closed = Arc::default();
        self.problems = Arc::default();
        if node.default_deny && node.pod_cidrs.is_empty() {
            let problem = Problem::new(
                Kind::Node,
                ObjectKey::cluster_scoped(&node.name),
                "spec.podCIDRs",
                "is missing",
                "--netpol-default-deny cannot tell which addresses are pods', and has no effect",
            );
            self.problems = [problem].into();
        } else if node.default_deny {
            self.closed = node.pod_cidrs.clone().into();
        }
    }

    /// Reads the policies again that may differ.
    fn read(&mut self, cluster: &Cluster, dirty: &Dirty) -> Reread {
        let mut reread = Reread::default();
        for (kind, key) in &dirty.policies {
            let policy = if *kind == Kind::NetworkPolicy {
                let policy = cluster.network_policy(key);
                policy.map(|policy| Policy::of_namespace(policy))
            } else {
                let policy = cluster.cluster_network_policy(key);
                policy.map(|policy| Policy::of_cluster(policy))
            };
            let at = (*kind, key.clone());
            let before = self.known.policies.get(&at).map(|before| &before.id);
            let after = policy.as_ref().map(|policy| &policy.id);
            reread.ids.extend(before.into_iter().chain(after).cloned());
            reread.namespaces.insert(Arc::clone(&key.namespace));
            match policy {
                Some(policy) => self.known.policies.insert_mut(at, Arc::new(policy)),
                None => drop(self.known.policies.remove_mut(&at)),
            }
        }
        for namespace in &reread.namespaces {
            let policies: Vec<_> = self.known.policies_in(namespace).cloned().collect();
            self.known.selection.replace(namespace, &policies);
        }
        reread
    }

    /// The pods of this node in a namespace; of the empty one, which is the cluster's, all.
    fn pods_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = ObjectKey> + '_ {
        let first = ObjectKey::new(namespace, "");
        let namespace = Arc::clone(namespace);
        let there = self.pods.range(first..).map(|(key, _)| key.clone());
        there.take_while(move |key| namespace.is_empty() || key.namespace == namespace)
    }

    /// Finds the rules for a pod, if it is one of this node's; answers whether it differs.
    fn select(
        &mut self,
        cluster: &Cluster,
        key: &ObjectKey,
        node: &str,
        touched: &mut Touched,
    ) -> bool {
        let pod = cluster.pod(key).filter(|pod| is_reachable(pod));
        let pod = pod.filter(|pod| pod.node_name.as_deref() == Some(node));
        let after = pod.map(|pod| {
            let labels = self.known.labels_of(cluster, key);
            self.known.selection.select(pod, labels)
        });
        let before = self.pods.get(key).cloned();
        if before.as_deref() == after.as_ref() {
            return false;
        }
        for set in before.iter().flat_map(|pod| pod.sets()) {
            self.known.count(set, false);
        }
        let sets = before.iter().flat_map(|pod| pod.sets());
        let sets = sets.chain(after.iter().flat_map(LocalPod::sets));
        touched.sets.extend(sets.cloned());
        for set in after.iter().flat_map(LocalPod::sets) {
            self.known.count(set, true);
        }
        let addresses = before.iter().flat_map(|pod| pod.addresses.iter());
        let addresses = addresses.chain(after.iter().flat_map(|pod| pod.addresses.iter()));
        touched
            .networks
            .extend(addresses.map(|address| ipnet::IpNet::from(*address)));
        match after {
            Some(pod) => self.pods.insert_mut(key.clone(), Arc::new(pod)),
            None => drop(self.pods.remove_mut(key)),
        }
        true
    }

    /// The lists of rules that pods use: whether they differ, and which of them are new.
    fn list(
        &mut self,
        policies: &BTreeSet<Arc<PolicyRef>>,
        touched: &BTreeSet<SetKey>,
        difference: &mut Difference,
    ) -> (bool, Fresh) {
        // Where policies differ, so may the sets of which they are; else those that pods came to or
        // left.
        let is_of_them = |key: &SetKey| {
            let of_set = &key.policies;
            policies.iter().any(|id| of_set.binary_search(id).is_ok())
        };
        let mut concerned = touched.clone();
        if !policies.is_empty() {
            let used = self.known.users.keys();
            concerned.extend(used.filter(|key| is_of_them(key)).cloned());
        }
        let mut differing = false;
        let mut fresh = Vec::new();
        for key in concerned {
            let known = self.sets.get(&key).map(|set| Arc::clone(&set.rules));
            if !self.known.users.contains_key(&key) {
                if let Some(known) = known {
                    self.known.in_force.replace(&known, &[]);
                    self.sets.remove_mut(&key);
                    difference.sets.insert(key);
                    differing = true;
                }
                continue;
            }
            if known.is_some() && !is_of_them(&key) {
                continue;
            }
            let policies = key
                .policies
                .iter()
                .filter_map(|policy| self.known.policy(policy));
            let policies: Vec<Arc<Policy>> = policies.collect();
            let rules = list(&key, &policies);
            let known = known.as_deref().unwrap_or_default();
            if *known != *rules || !self.sets.contains_key(&key) {
                self.known.in_force.replace(known, &rules);
                difference.sets.insert(key.clone());
                fresh.push((key, rules.into()));
            }
        }
        (differing || !fresh.is_empty(), fresh)
    }

    /// Finds out what is in force; the answer is what differs, `None` where nothing does.
    fn put_in_force(&mut self) -> Option<News> {
        let known = &self.known.index;
        let (terms, names) = self.known.in_force.take_news(known)?;
        let index = Arc::new(TermIndex::new(terms, names, known));
        let before = std::mem::replace(&mut self.known.index, Arc::clone(&index));
        Some(News::between(before, index))
    }

    fn claim_pod(&mut self, cluster: &Cluster, key: &ObjectKey, touched: &mut Touched) {
        let claimant = (Kind::Pod, key.clone());
        let pod = cluster.pod(key).filter(|pod| is_reachable(pod));
        let claims = pod.map_or(Vec::new(), |pod| {
            let index = &self.known.index;
            let ids = index.of_pod(pod, self.known.labels_of(cluster, key));
            let ports = index.ports_of(pod);
            let class = |address| index.class(address, &ids, &ports);
            claims(&claimant, pod.created_unix_seconds, &pod.addresses, class)
        });
        self.addresses.claim(&claimant, claims, touched);
    }

    fn claim_node(&mut self, cluster: &Cluster, key: &ObjectKey, touched: &mut Touched) {
        let claimant = (Kind::Node, key.clone());
        let claims = cluster.node(key).map_or(Vec::new(), |node| {
            let index = &self.known.index;
            let ids = index.of_node(node);
            let addresses: Vec<IpAddr> = node.addresses.iter().map(|at| at.address).collect();
            let class = |address| index.class(address, &ids, &[]);
            // Before any pod: no pod is at a node's address.
            claims(&claimant, i64::MAX, &addresses, class)
        });
        self.addresses.claim(&claimant, claims, touched);
    }

    /// Settles who is at the touched addresses; answers whether that differs.
    fn settle(
        &mut self,
        own: &BTreeSet<IpAddr>,
        touched: &mut Touched,
        difference: &mut Difference,
    ) -> bool {
        for network in std::mem::take(&mut touched.networks) {
            let index = &self.known.index;
            if self.addresses.settle(&network, own, index, touched) {
                difference.networks.insert(network);
            }
            if network.prefix_len() != network.max_prefix_len() {
                continue;
            }
            let address = network.addr();
            let owner = self.addresses.owner(address);
            let pod = owner.filter(|_| !own.contains(&address)).and_then(|claim| {
                let (kind, key) = &claim.claimant;
                self.pods.get(key).filter(|_| *kind == Kind::Pod).cloned()
            });
            if self.endpoints.get(&address) == pod.as_ref() {
                continue;
            }
            difference.endpoints.insert(address);
            match pod {
                Some(pod) => self.endpoints.insert_mut(address, pod),
                None => drop(self.endpoints.remove_mut(&address)),
            }
        }
        !difference.networks.is_empty() || !difference.endpoints.is_empty()
    }

    /// Fills fresh sets for all classes, and the others for the classes that are new.
    fn fill(&mut self, touched: Touched, fresh: Fresh, difference: &mut Difference) {
        let (new, gone) = self.addresses.differing(touched);
        let index = &self.known.index;
        forget(&mut self.sets, &gone, difference);
        if !new.is_empty() {
            let replaced: BTreeSet<&SetKey> = fresh.iter().map(|(key, _)| key).collect();
            let kept = self.sets.iter().filter(|(key, _)| !replaced.contains(key));
            let kept = kept.map(|(key, set)| (key, &set.rules));
            let mut lists = Lists::new(kept, index);
            lists.add(&mut self.sets, &new, index, difference);
        }
        difference.classes.extend(new.into_iter().chain(gone));
        if !fresh.is_empty() {
            let mut lists = Lists::new(fresh.iter().map(|(key, rules)| (key, rules)), index);
            lists.make(&mut self.sets);
            // All of it is new, as the difference says already.
            let of_fresh = &mut Difference::default();
            lists.add(
                &mut self.sets,
                self.addresses.classes.keys(),
                index,
                of_fresh,
            );
        }
    }
}

fn claims(
    claimant: &Claimant,
    made: i64,
    addresses: &[IpAddr],
    class: impl Fn(IpAddr) -> Class,
) -> Vec<(IpAddr, Claim)> {
    let claim = |address: &IpAddr| Claim {
        made: Reverse(made),
        claimant: claimant.clone(),
        class: Arc::new(class(*address)),
    };
    addresses.iter().map(|at| (*at, claim(at))).collect()
}

impl Known {
    pub(super) fn labels_of<'a>(&'a self, cluster: &'a Cluster, pod: &ObjectKey) -> &'a Labels {
        let namespace = cluster.namespace(&ObjectKey::cluster_scoped(&pod.namespace));
        namespace.map_or(&*self.unlabelled, |namespace| &namespace.labels)
    }

    /// The policies of a namespace; of the empty one, those of the cluster.
    fn policies_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Arc<Policy>> {
        let kind = if namespace.is_empty() {
            Kind::ClusterNetworkPolicy
        } else {
            Kind::NetworkPolicy
        };
        let first = (kind, ObjectKey::new(namespace, ""));
        let there = self.policies.range(first..);
        let namespace = Arc::clone(namespace);
        there
            .take_while(move |((of, key), _)| *of == kind && key.namespace == namespace)
            .map(|(_, policy)| policy)
    }

    pub(super) fn policy(&self, id: &PolicyRef) -> Option<Arc<Policy>> {
        let kind = match id.tier {
            Tier::NetworkPolicy => Kind::NetworkPolicy,
            Tier::Admin | Tier::Baseline => Kind::ClusterNetworkPolicy,
        };
        self.policies.get(&(kind, id.key.clone())).cloned()
    }

    fn count(&mut self, set: &SetKey, more: bool) {
        let count = self.users.get(set).copied().unwrap_or(0);
        let count = if more {
            count + 1
        } else {
            count.saturating_sub(1)
        };
        if count == 0 {
            self.users.remove_mut(set);
        } else {
            self.users.insert_mut(set.clone(), count);
        }
    }
}

pub(super) fn is_reachable(pod: &Pod) -> bool {
    !pod.host_network && !pod.finished
}
