//! Policies and pods as numbers, as manifests, and for the ruleset.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::{Value, json};
use tests::harness::Manifests;

/// Ports of the servers that are measured.
pub(crate) const CLIENT_PORTS: (u16, u16) = (7000, 7099);
const NAMESPACES: usize = 100;
const APPS: usize = 10;
/// Objects in one file.
const A_FILE: usize = 500;

/// One that selects the pods of an app in a namespace, both ways.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    number: usize,
    pub(crate) namespace: usize,
    pub(crate) app: usize,
    /// The app whose pods may come to `port`.
    pub(crate) peer_app: usize,
    pub(crate) port: u16,
}

/// A pod; the measured ones are of the first namespace and app.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    name: String,
    namespace: usize,
    app: usize,
    pub(crate) address: Ipv4Addr,
    /// Whether it is on the node that is measured.
    pub(crate) local: bool,
}

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) policies: Vec<Policy>,
    pub(crate) pods: Vec<Pod>,
}

impl Policy {
    fn numbered(number: usize) -> Self {
        let round = number / NAMESPACES;
        let port = u16::try_from(8000 + number % 50).unwrap_or(8000);
        Self {
            number,
            namespace: number % NAMESPACES,
            app: round % APPS,
            peer_app: (round + 1) % APPS,
            port,
        }
    }

    /// A network it allows, and the part of it that it does not.
    pub(crate) fn networks(&self) -> [String; 2] {
        let third = self.number % 200;
        [
            format!("192.0.{third}.0/24"),
            format!("192.0.{third}.128/25"),
        ]
    }

    /// As an object of the API; `variant` is what a change changes.
    pub(crate) fn document(&self, variant: usize) -> Value {
        let app = |of: usize| json!({"matchLabels": {"app": format!("app{of}")}});
        let [network, except] = self.networks();
        let (first, last) = CLIENT_PORTS;
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": format!("ns{}", self.namespace), "name": format!("policy{}", self.number)},
            "spec": {
                "podSelector": app(self.app),
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": app(self.peer_app)}], "ports": [{"port": usize::from(self.port) + variant}]},
                    {"from": [{"podSelector": {}}], "ports": [{"port": first, "endPort": last}]},
                ],
                "egress": [
                    {"to": [{"podSelector": {}}]},
                    {"to": [{"ipBlock": {"cidr": network, "except": [except]}}], "ports": [{"port": 443}]},
                ],
            },
        })
    }
}

impl Pod {
    /// One of many, at an address that no pod of the lab has.
    pub(crate) fn numbered(number: usize, local: bool) -> Self {
        let offset = u32::try_from(number).unwrap_or(0);
        Self {
            name: format!("pod{number}"),
            namespace: number % NAMESPACES,
            app: number / NAMESPACES % APPS,
            address: Ipv4Addr::from_bits(0x0a80_0001 + offset),
            local,
        }
    }

    pub(crate) fn document(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": format!("ns{}", self.namespace), "name": self.name,
                "labels": {"app": format!("app{}", self.app), "pod": self.name}},
            "spec": {"nodeName": if self.local { "node1" } else { "node2" },
                "containers": [{"name": "server", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": self.address}]},
        })
    }
}

impl Workload {
    /// `pods` pods, one in a hundred of them of the node, and `measured` beside them.
    pub(crate) fn new(policies: usize, pods: usize, measured: &[(&str, Ipv4Addr)]) -> Self {
        let measured = measured.iter().map(|(name, address)| Pod {
            name: (*name).to_owned(),
            namespace: 0,
            app: 0,
            address: *address,
            local: true,
        });
        let others = (0..pods).map(|number| Pod::numbered(number, number % 101 == 0));
        // Those that are measured are in the middle, as a rule is that is found after as many others
        // as the average one.
        let mut pods: Vec<_> = others.collect();
        let middle = pods.len() / 2;
        pods.splice(middle..middle, measured);
        Self {
            policies: (0..policies).map(Policy::numbered).collect(),
            pods,
        }
    }

    /// Those of an app in a namespace, or all of the namespace.
    pub(crate) fn pods_of(
        &self,
        namespace: usize,
        app: Option<usize>,
    ) -> impl Iterator<Item = &Pod> {
        let all = self.pods.iter();
        all.filter(move |pod| pod.namespace == namespace && app.is_none_or(|app| pod.app == app))
    }

    /// Numbers of the policies that select a pod.
    pub(crate) fn selecting(&self, pod: &Pod) -> Vec<usize> {
        let all = self.policies.iter();
        all.filter(|policy| policy.namespace == pod.namespace && policy.app == pod.app)
            .map(|policy| policy.number)
            .collect()
    }

    /// Everything as objects of the API.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Value> {
        let namespaces = (0..NAMESPACES).map(|number| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("ns{number}")}})
        });
        let pods = self.pods.iter().map(Pod::document);
        let policies = self.policies.iter().map(|policy| policy.document(0));
        namespaces.chain(pods).chain(policies)
    }

    /// Writes all of it, as JSON, which is YAML.
    pub(crate) fn write(&self, manifests: &Manifests) -> Result<()> {
        let documents: Vec<_> = self.documents().collect();
        for (number, documents) in documents.chunks(A_FILE).enumerate() {
            let texts: Vec<_> = documents.iter().map(Value::to_string).collect();
            manifests.write_text(
                &format!("policies-{number:05}.yaml"),
                &texts.join("\n---\n"),
            )?;
        }
        Ok(())
    }
}
