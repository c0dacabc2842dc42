//! The objects of the cluster, and who is where.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use model::k8s::{Reduced, reduce};
use model::{Cluster, Direction, Event, Kind, ObjectKey};
use serde_json::{Value, json};
use tests::harness::Lab;

use super::table::Probe;
use super::{NodeContext, Outcome, Policies, Traffic, reference};

/// `xa` is pod `a` of namespace `x`. Each namespace is on both nodes.
pub(super) const PODS: [(&str, u8); 9] = [
    ("xa", 1),
    ("xb", 1),
    ("xc", 2),
    ("ya", 1),
    ("yb", 2),
    ("yc", 2),
    ("za", 1),
    ("zb", 2),
    ("zc", 1),
];
pub(super) const NODES: [&str; 2] = ["node1", "node2"];
const OUTSIDE: &str = "client";
const FILE: &str = "world.yaml";

/// The cluster as the test wants it.
pub(super) struct World {
    labels: BTreeMap<String, Value>,
    policies: Policies,
    addresses: BTreeMap<String, [IpAddr; 2]>,
    nodes: Vec<Value>,
    marks: u32,
    known: Cluster,
}

impl World {
    pub(super) fn new(lab: &Lab) -> Self {
        let names = PODS
            .iter()
            .map(|(pod, _)| *pod)
            .chain(NODES)
            .chain([OUTSIDE]);
        let both = |name| [false, true].map(|v6| lab.address(name, v6));
        let mut world = Self {
            labels: BTreeMap::new(),
            policies: BTreeMap::new(),
            addresses: names.map(|name| (name.to_owned(), both(name))).collect(),
            nodes: lab.node_documents(),
            marks: 0,
            known: Cluster::default(),
        };
        for (node, name) in world.nodes.iter_mut().zip(NODES) {
            node["metadata"]["labels"] = json!({"name": name});
        }
        world.relabel_as_at_first();
        world
    }

    /// Every pod has `pod: a` and the like, every namespace `ns: x`.
    pub(super) fn relabel_as_at_first(&mut self) {
        self.labels.clear();
        for (pod, _) in PODS {
            let (namespace, name) = pod.split_at(1);
            self.labels
                .insert(namespace.to_owned(), json!({"ns": namespace}));
            self.labels.insert(pod.to_owned(), json!({"pod": name}));
        }
    }

    /// Gives a pod (`xa`) or a namespace (`x`) other labels.
    pub(super) fn relabel(&mut self, what: &str, labels: Value) {
        let known = self.labels.insert(what.to_owned(), labels);
        assert!(known.is_some(), "{what}");
    }

    /// Puts policies in force, and removes those that are null.
    pub(super) fn change(&mut self, policies: &Policies) {
        for (name, spec) in policies {
            if spec.is_null() {
                assert!(self.policies.remove(name).is_some(), "{name}");
            } else {
                self.policies.insert(name.clone(), spec.clone());
            }
        }
    }

    pub(super) fn remove_policies(&mut self) {
        self.policies.clear();
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.addresses.keys().map(String::as_str)
    }

    pub(super) fn is_pod(&self, name: &str) -> bool {
        node_of(name).is_some()
    }

    pub(super) fn address(&self, name: &str, v6: bool) -> IpAddr {
        self.addresses[name][usize::from(v6)]
    }

    /// Whether it is a node that tries one of its own pods, or the other way.
    pub(super) fn is_probed_by_its_node(&self, probe: &Probe) -> bool {
        let of = |pod, node: &str| node_of(pod) == Some(node);
        of(&probe.to, &probe.from) || of(&probe.from, &probe.to)
    }

    /// Adds or removes a Service, which says that everything else is known too.
    pub(super) fn mark(&mut self) {
        self.marks += 1;
        self.known = Cluster::default();
        for document in self.documents() {
            let kind = kind(&document);
            let Reduced {
                key,
                object,
                problems,
            } = reduce(kind, &document);
            assert!(
                problems.is_empty() && object.is_some(),
                "{problems:?}: {document}"
            );
            self.known.apply(Event::Applied {
                kind,
                key,
                object,
                problems,
            });
        }
    }

    pub(super) fn is_marked(&self) -> bool {
        self.marks % 2 == 1
    }

    #[track_caller]
    pub(super) fn write(&self, lab: &Lab) {
        lab.manifests().write(FILE, &self.documents()).unwrap();
    }

    /// Whether traffic passes, by the reference. What nobody isolates and what stays within a pod
    /// does.
    pub(super) fn allows(&self, from: &str, to: &str, v6: bool, traffic: Traffic) -> bool {
        if from == to {
            return true;
        }
        let passes = |pod: &str, peer: &str, direction| {
            let Some(node) = node_of(pod) else {
                return true;
            };
            let node = NodeContext::of(
                &self.known,
                &node.into(),
                &Arc::default(),
                &self.addresses[node].into(),
                1500,
            );
            let (namespace, _) = pod.split_at(1);
            let key = ObjectKey::new(namespace, pod);
            let peer = self.address(peer, v6);
            let outcome = reference::outcome(&self.known, &node, &key, direction, peer, traffic);
            outcome != Outcome::Deny
        };
        passes(from, to, Direction::Egress) && passes(to, from, Direction::Ingress)
    }

    fn documents(&self) -> Vec<Value> {
        let mut documents = self.nodes.clone();
        for (name, labels) in &self.labels {
            documents.push(match node_of(name) {
                Some(node) => self.pod(name, node, labels),
                None => json!({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "labels": labels}}),
            });
        }
        // A pod with its node's network is no peer, whatever its labels say.
        documents.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "host", "namespace": "x", "labels": {"pod": "a"}},
            "spec": {"nodeName": "node2", "hostNetwork": true, "containers": []},
            "status": {"phase": "Running",
                "podIPs": self.addresses["node2"].map(|ip| json!({"ip": ip}))},
        }));
        documents.extend(self.policies.iter().map(|(name, spec)| policy(name, spec)));
        if self.is_marked() {
            documents.push(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "mark", "namespace": "x"},
                "spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"],
                    "ports": [{"port": self.marks, "protocol": "TCP"}]},
            }));
        }
        documents
    }

    fn pod(&self, name: &str, node: &str, labels: &Value) -> Value {
        let (namespace, short) = name.split_at(1);
        // One name, different ports: what a rule on a named port opens depends on who receives.
        let (web, alt) = if short == "c" {
            (9090, 8080)
        } else {
            (8080, 9090)
        };
        let mut ports = Vec::new();
        for protocol in ["TCP", "UDP", "SCTP"] {
            for (port, number) in [("web", web), ("alt", alt)] {
                let name = format!("{port}-{}", protocol.to_lowercase());
                ports.push(json!({"name": name, "containerPort": number, "protocol": protocol}));
            }
        }
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "server", "ports": ports}]},
            "status": {"phase": "Running",
                "podIPs": self.addresses[name].map(|ip| json!({"ip": ip}))},
        })
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, labels) in &self.labels {
            writeln!(f, "{name}: {labels}")?;
        }
        for (name, spec) in &self.policies {
            writeln!(f, "{name}: {spec}")?;
        }
        Ok(())
    }
}

fn node_of(pod: &str) -> Option<&'static str> {
    let (_, node) = PODS.iter().find(|(name, _)| *name == pod)?;
    Some(NODES[usize::from(node - 1)])
}

/// A policy of a namespace (`x/name`), or of the cluster (`name`). With `mode` it is annotated.
fn policy(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    let mode = spec.as_object_mut().unwrap().remove("mode");
    let (api_version, kind, mut metadata) = match name.split_once('/') {
        Some((namespace, name)) => (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"namespace": namespace, "name": name}),
        ),
        None => (
            "policy.networking.k8s.io/v1alpha2",
            "ClusterNetworkPolicy",
            json!({"name": name}),
        ),
    };
    if let Some(mode) = mode {
        metadata["annotations"] = json!({"fairlead.io/policy-mode": mode});
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn kind(document: &Value) -> Kind {
    let name = document["kind"].as_str().unwrap();
    let mut all = Kind::ALL.into_iter();
    all.find(|kind| format!("{kind:?}") == name).unwrap()
}
