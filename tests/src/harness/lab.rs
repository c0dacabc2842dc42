//! A lab: where its nodes, pods and client are, and what is known of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, mount};
use serde_json::Value;

use super::address;
use super::builder::{Builder, NodeSpec, PodNetwork, PodSpec};
use super::process::Process;
use super::{Manifests, Namespace, Place, ServiceSpec, cgroup, teardown};

/// A running lab. Dropped, it is taken down.
#[derive(Debug)]
pub struct Lab {
    pub(super) name: String,
    pub(super) pod_network: PodNetwork,
    directory: PathBuf,
    pub(super) cgroup: PathBuf,
    pub(super) nodes: Vec<(NodeSpec, Place)>,
    pub(super) pods: BTreeMap<String, (PodSpec, Place)>,
    servers: Vec<Process>,
    pub(super) client: Place,
    pub(super) router: Namespace,
    manifests: Manifests,
    kept: bool,
}

impl Lab {
    pub(super) fn describe(builder: Builder) -> Result<Self> {
        let Builder {
            name,
            pod_network,
            traffic,
            nodes,
            pods,
        } = builder;
        let directory = teardown::directory(&name);
        let cgroup = cgroup::unified_mount()?.join(&name);
        let place = |what: &str, cgroup: PathBuf| Place {
            name: what.to_owned(),
            namespace: Namespace::of(&name, what),
            cgroup,
            traffic: traffic.clone(),
        };
        let client = place("client", cgroup.join("outside"));
        let router = Namespace::of(&name, "router");
        let mut placed = BTreeMap::new();
        for pod in pods {
            ensure!(
                nodes.iter().any(|node| node.name == pod.node),
                "pod {}: no node {}",
                pod.name,
                pod.node
            );
            ensure!(
                pod.name.len() <= 13,
                "pod {}: the name does not fit into that of an interface",
                pod.name
            );
            let name = format!("pod{}", super::manifests::uid(&pod.name));
            let at = place(&pod.name, cgroup.join(&pod.node).join("pods").join(name));
            placed.insert(pod.name.clone(), (pod, at));
        }
        let nodes = nodes
            .into_iter()
            .map(|node| (node.clone(), place(&node.name, cgroup.join(&node.name))))
            .collect();
        let manifests = Manifests::new(directory.join("manifests"));
        Ok(Self {
            name,
            pod_network,
            directory,
            cgroup,
            nodes,
            pods: placed,
            servers: Vec::new(),
            client,
            router,
            manifests,
            kept: false,
        })
    }

    pub(super) fn make_directories(&self) -> Result<()> {
        fs::create_dir(&self.directory).with_context(|| {
            format!(
                "{}: a lab of this name is there already",
                self.directory.display()
            )
        })?;
        fs::create_dir(self.manifests.directory())?;
        cgroup::create(&self.cgroup)?;
        cgroup::create(&self.cgroup.join("outside"))?;
        for (node, place) in &self.nodes {
            cgroup::create(&place.cgroup)?;
            cgroup::create(&place.cgroup.join("pods"))?;
            for (_, at) in self.pods.values().filter(|(pod, _)| pod.node == node.name) {
                cgroup::create(&at.cgroup)?;
            }
            let bpf = self.bpf_root(&node.name);
            fs::create_dir_all(&bpf)?;
            fs::create_dir_all(self.state_directory(&node.name))?;
            mount("bpf", &bpf, "bpf", MountFlags::empty(), None)
                .with_context(|| format!("{}: cannot mount bpffs", bpf.display()))?;
        }
        Ok(())
    }

    /// Starts what the pods answer with. [`Builder::build`] does it, unless the plugin makes the
    /// pods' network.
    pub fn start_servers(&mut self) -> Result<()> {
        let mut started = Vec::new();
        for (pod, place) in self.pods.values().filter(|(pod, _)| !pod.ports.is_empty()) {
            let mut command = place.traffic();
            command
                .args(["serve", "--name", &pod.name])
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            for port in &pod.ports {
                command.args(["--port", &port.to_string()]);
            }
            started.push(Process::start(&pod.name, &mut command)?);
        }
        for server in &mut started {
            server.expect_listening()?;
        }
        self.servers = started;
        Ok(())
    }

    /// Its name, the prefix of its namespaces' names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything of it in the file system.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program of its own: what the shell makes of `text`, with the arguments as `$@`.
    pub fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Its manifests, which all agents read.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeSpec, &Place)> {
        self.nodes.iter().map(|(node, place)| (node, place))
    }

    /// Its pods.
    pub fn pods(&self) -> impl Iterator<Item = (&PodSpec, &Place)> {
        self.pods.values().map(|(pod, place)| (pod, place))
    }

    /// A node, a pod or `client`.
    #[track_caller]
    pub fn place(&self, name: &str) -> &Place {
        let node = self
            .nodes
            .iter()
            .find(|(node, _)| node.name == name)
            .map(|(_, place)| place);
        node.or_else(|| self.pods.get(name).map(|(_, place)| place))
            .or_else(|| (name == "client").then_some(&self.client))
            .unwrap_or_else(|| panic!("lab {}: neither node nor pod is named {name}", self.name))
    }

    /// What is between the nodes and the client. Its interface to a node has the node's name.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The same place in a cgroup that no agent's hooks cover.
    #[track_caller]
    pub fn uncovered(&self, name: &str) -> Place {
        self.place(name).in_cgroup(&self.client.cgroup)
    }

    /// Sends what goes to an address from outside to a node, as an upstream router does.
    pub fn route_to(&self, address: IpAddr, node: &str) -> Result<()> {
        let via = self.address(node, address.is_ipv6());
        self.router
            .ip(&format!("route replace {address} via {via}\n"))
    }

    /// Address of a node, a pod or `client`.
    #[track_caller]
    pub fn address(&self, name: &str, v6: bool) -> IpAddr {
        let client = address::both(address::CLIENT);
        let node = self
            .nodes
            .iter()
            .find(|(node, _)| node.name == name)
            .map(|(node, _)| &node.addresses[..]);
        let addresses = node
            .or_else(|| self.pods.get(name).map(|(pod, _)| &pod.addresses[..]))
            .or_else(|| (name == "client").then_some(&client[..]))
            .unwrap_or_default();
        let found = addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == v6);
        found.unwrap_or_else(|| panic!("lab {}: {name} has no such address", self.name))
    }

    /// Directory of a node's pins.
    pub fn bpf_root(&self, node: &str) -> PathBuf {
        self.directory.join(node).join("bpf")
    }

    /// Directory of an agent's state.
    pub fn state_directory(&self, node: &str) -> PathBuf {
        self.directory.join(node).join("state")
    }

    /// A Service and its EndpointSlices as objects of the API.
    pub fn documents(&self, service: &ServiceSpec) -> Result<Vec<Value>> {
        service.documents(|pod| self.pods.get(pod).map(|(pod, _)| pod))
    }

    /// The lab's Nodes as objects of the API.
    pub fn node_documents(&self) -> Vec<Value> {
        self.nodes
            .iter()
            .map(|(node, _)| super::manifests::node_document(node))
            .collect()
    }

    /// Writes a Service and its EndpointSlices into the manifests, in one step.
    pub fn apply(&self, service: &ServiceSpec) -> Result<()> {
        self.manifests
            .write(&service.file(), &self.documents(service)?)
    }

    /// Writes pods into the manifests: name, namespace and labels of each.
    pub fn apply_pods(&self, pods: &[(&str, &str, Value)]) -> Result<()> {
        let mut documents = Vec::new();
        for (name, namespace, labels) in pods {
            let (pod, _) = self
                .pods
                .get(*name)
                .with_context(|| format!("lab {}: no pod is named {name}", self.name))?;
            documents.push(super::manifests::pod_document(pod, namespace, labels));
        }
        self.manifests.write("pods.yaml", &documents)
    }

    /// Writes the lab's Nodes into the manifests.
    pub fn apply_nodes(&self) -> Result<()> {
        self.manifests.write("nodes.yaml", &self.node_documents())
    }

    /// Fails where `connect` to an address does not lead to that address before there is an agent.
    ///
    /// The hooks of an agent whose cgroup is above the lab's run for every process of the lab,
    /// whatever its network namespace, and after the lab's own: a Service of the same address is
    /// theirs for what [`Lab::uncovered`] places.
    pub fn expect_untranslated(&self, address: IpAddr) -> Result<()> {
        /// The router itself refuses the connection, at the second SYN at the latest.
        const AT_ONCE: Duration = Duration::from_secs(5);
        self.router
            .ip(&format!("route add local {address} dev lo\n"))?;
        let to = SocketAddr::new(address, 80);
        let outcome = self
            .router
            .run(|| Ok(TcpStream::connect_timeout(&to, AT_ONCE)));
        self.router
            .ip(&format!("route del local {address} dev lo\n"))?;
        match outcome? {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => bail!(
                "connect to {to} leads elsewhere ({other:?}): an agent of this machine is attached above the lab's cgroup and has the same Service; stop it, or give it a --cgroup-root of its own"
            ),
        }
    }

    /// Leaves it running when dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            std::mem::take(&mut self.servers)
                .into_iter()
                .for_each(std::mem::forget);
            return;
        }
        if let Err(error) = teardown::remove(&self.name) {
            eprintln!("lab {}: {error:#}", self.name);
        }
    }
}
