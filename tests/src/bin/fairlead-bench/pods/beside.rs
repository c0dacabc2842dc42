//! The plugin beside an agent: ADD returns when the pod's programs and policies are in place.

use anyhow::Result;
use serde_json::{Value, json};
use tests::harness::{Agent, AgentOptions, Builder, Lab, Outcome, PodNetwork, Sandbox};

use crate::workload::{self, ENDPOINTS, services};

const NODE: &str = "node1";
const NAMESPACE: &str = "bench";
/// Services that the agent has beside.
const SERVICES: u32 = 100;

/// A node with an agent, and its sandboxes. The fields are dropped in their order.
pub(super) struct Beside {
    _agent: Agent,
    lab: Lab,
}

impl Beside {
    /// Sandboxes of these names, whose Pods a policy selects in both directions.
    pub(super) fn start(pods: &[String]) -> Result<Self> {
        let lab = Builder::new(std::env::current_exe()?, 1)
            .traffic_arguments(&["traffic"])
            .pod_network(PodNetwork::OfPlugin)
            .build()?;
        lab.apply_nodes()?;
        workload::write(lab.manifests(), &services(SERVICES, ENDPOINTS))?;
        lab.manifests()
            .write("bench.yaml", &[namespace(), policy()])?;
        let documents: Vec<Value> = pods.iter().map(|name| pod(name)).collect();
        lab.manifests().write("pods.yaml", &documents)?;
        for name in pods {
            lab.create_sandbox(&sandbox(name))?;
        }
        let flags = lab.router_flags(NODE)?;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let agent = Agent::ready(&lab, NODE, &AgentOptions::flags(&flags))?;
        lab.await_plugin(NODE)?;
        Ok(Self { _agent: agent, lab })
    }

    pub(super) fn run(&self, command: &str, pod: &str) -> Result<Outcome> {
        self.lab.invoke_plugin(command, &sandbox(pod))
    }
}

fn sandbox(name: &str) -> Sandbox {
    Sandbox::new(NODE, NAMESPACE, name)
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

fn policy() -> Value {
    let peers = json!([{"podSelector": {"matchLabels": {"app": "bench"}}}]);
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "bench", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers}],
            "egress": [{"to": peers}],
        },
    })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "bench"}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c"}]},
        "status": {"phase": "Pending"},
    })
}
