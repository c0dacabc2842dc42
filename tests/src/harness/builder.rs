//! What a lab will be made of, and in which order it is built.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use super::address;
use super::lab::Lab;
use super::place::TrafficProgram;

/// A node to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Name of the Node.
    pub name: String,
    /// Its addresses, on the router's bridge.
    pub addresses: Vec<IpAddr>,
    /// Networks of its pods.
    pub pod_networks: Vec<String>,
}

/// A pod to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Name of the Pod.
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports it answers on, TCP and UDP.
    pub ports: Vec<u16>,
}

/// Who makes the network of the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// The lab makes their links, and the routes between the nodes.
    #[default]
    OfLab,
    /// The lab makes their links, the agents the routes between the nodes.
    RoutesOfAgents,
    /// The plugin that the agents install makes the links, once [`Lab::attach_pods`] is called; the
    /// agents make the routes.
    OfPlugin,
}

/// What a lab will be made of.
#[derive(Debug)]
pub struct Builder {
    pub(super) name: String,
    pub(super) pod_network: PodNetwork,
    pub(super) traffic: TrafficProgram,
    pub(super) nodes: Vec<NodeSpec>,
    pub(super) pods: Vec<PodSpec>,
}

impl Builder {
    /// A lab of `nodes` nodes, `node1` and so on. `traffic` is the program whose arguments are
    /// those of `fairlead-traffic`.
    pub fn new(traffic: impl Into<PathBuf>, nodes: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "fl{}x{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let traffic = TrafficProgram {
            program: traffic.into(),
            arguments: Vec::new(),
        };
        let nodes = (1..=nodes)
            .map(|number| NodeSpec {
                name: format!("node{number}"),
                addresses: address::both(address::node(number)).to_vec(),
                pod_networks: address::pod_networks(number).to_vec(),
            })
            .collect();
        Self {
            name,
            pod_network: PodNetwork::default(),
            traffic,
            nodes,
            pods: Vec::new(),
        }
    }

    /// The nodes and pods of a directory of manifests.
    pub fn from_manifests(traffic: impl Into<PathBuf>, manifests: &Path) -> Result<Self> {
        let (nodes, pods) = super::manifests::topology(manifests)?;
        Ok(Self {
            nodes,
            pods,
            ..Self::new(traffic, 0)
        })
    }

    /// Gives the lab a name of its own.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Arguments before those of `fairlead-traffic`.
    #[must_use]
    pub fn traffic_arguments(mut self, arguments: &[&str]) -> Self {
        self.traffic.arguments = arguments.iter().map(OsString::from).collect();
        self
    }

    /// Says who makes the network of the pods.
    #[must_use]
    pub fn pod_network(mut self, pod_network: PodNetwork) -> Self {
        self.pod_network = pod_network;
        self
    }

    /// Puts a node into a subnet of its own, behind the router.
    #[must_use]
    pub fn elsewhere(mut self, number: u8) -> Self {
        let name = format!("node{number}");
        for node in self.nodes.iter_mut().filter(|node| node.name == name) {
            node.addresses = address::both(address::node_elsewhere(number)).to_vec();
        }
        self
    }

    /// Adds a pod that answers on port 8080, and on 9090.
    #[must_use]
    pub fn pod(mut self, name: &str, node: u8) -> Self {
        let node_name = format!("node{node}");
        let index = self.pods.iter().filter(|pod| pod.node == node_name).count();
        let index = u8::try_from(index).expect("invariant: a handful of pods");
        self.pods.push(PodSpec {
            name: name.to_owned(),
            node: node_name,
            addresses: address::both(address::pod(node, index)).to_vec(),
            ports: vec![8080, 9090],
        });
        self
    }

    /// Builds it. What was built before an error is taken down again.
    pub fn build(self) -> Result<Lab> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a lab needs root: it makes network namespaces and loads eBPF"
        );
        let mut lab = Lab::describe(self)?;
        lab.make_directories()?;
        lab.make_namespaces()?;
        lab.configure()?;
        if lab.pod_network != PodNetwork::OfPlugin {
            lab.start_servers()?;
        }
        Ok(lab)
    }
}
