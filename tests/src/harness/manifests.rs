//! A directory of manifests: written and edited in one step each, as an agent must never read half
//! a file; and what a directory says about nodes and pods.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{NodeSpec, PodSpec};

/// A directory of manifests.
#[derive(Clone, Debug)]
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    /// The manifests in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies every manifest of another directory.
    pub fn copy_from(&self, other: &Path) -> Result<()> {
        for path in files(other)? {
            let name = path
                .file_name()
                .context("invariant: an entry of a directory has a name")?;
            fs::copy(&path, self.directory.join(name))
                .with_context(|| format!("{}: cannot be copied", path.display()))?;
        }
        Ok(())
    }

    /// Writes a file of documents.
    pub fn write(&self, file: &str, documents: &[Value]) -> Result<()> {
        let texts: Vec<_> = documents
            .iter()
            .map(serde_norway::to_string)
            .collect::<Result<_, _>>()?;
        self.write_text(file, &texts.join("---\n"))
    }

    /// Writes a file as it is.
    pub fn write_text(&self, file: &str, text: &str) -> Result<()> {
        let hidden = self.directory.join(format!(".{file}.new"));
        fs::write(&hidden, text)
            .with_context(|| format!("{}: cannot be written", hidden.display()))?;
        let path = self.directory.join(file);
        fs::rename(&hidden, &path)
            .with_context(|| format!("{}: cannot be replaced", path.display()))
    }

    /// Changes the documents of a file.
    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let mut documents = documents(&self.directory.join(file))?;
        change(&mut documents);
        self.write(file, &documents)
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) -> Result<()> {
        let path = self.directory.join(file);
        fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))
    }
}

/// The documents of a file.
pub fn documents(path: &Path) -> Result<Vec<Value>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_norway::Deserializer::from_str(&text)
        .map(|document| {
            Value::deserialize(document).with_context(|| format!("{}: not YAML", path.display()))
        })
        .collect()
}

/// Nodes and pods of a directory.
pub(super) fn topology(directory: &Path) -> Result<(Vec<NodeSpec>, Vec<PodSpec>)> {
    let mut nodes = Vec::new();
    let mut pods = Vec::new();
    for path in files(directory)? {
        for document in documents(&path)? {
            let parsed = match document["kind"].as_str() {
                Some("Node") => node(&document).map(|node| nodes.push(node)),
                Some("Pod") => pod(&document).map(|pod| pods.push(pod)),
                _ => Some(()),
            };
            parsed.with_context(|| {
                format!(
                    "{}: {} {} lacks a field the lab needs",
                    path.display(),
                    document["kind"],
                    document["metadata"]["name"]
                )
            })?;
        }
    }
    Ok((nodes, pods))
}

/// A Node of the API.
pub(super) fn node_document(node: &NodeSpec) -> Value {
    let addresses: Vec<_> = node
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name},
        "spec": {"podCIDR": node.pod_networks.first(), "podCIDRs": node.pod_networks},
        "status": {"addresses": addresses},
    })
}

/// The uid of a pod of a lab.
pub(super) fn uid(pod: &str) -> String {
    let sum = pod.bytes().fold(0xcbf2_9ce4_8422_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x1b3) & 0xffff_ffff_ffff
    });
    format!("00000000-0000-4000-8000-{sum:012x}")
}

/// A Pod of the API that runs. Its ports are named `http`, `http-1` and so on.
pub(super) fn pod_document(pod: &PodSpec, namespace: &str, labels: &Value) -> Value {
    let addresses: Vec<_> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let mut ports = Vec::new();
    for (index, port) in pod.ports.iter().enumerate() {
        let name = match index {
            0 => "http".to_owned(),
            index => format!("http-{index}"),
        };
        for protocol in ["TCP", "UDP"] {
            ports.push(json!({"name": name, "containerPort": port, "protocol": protocol}));
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": namespace, "uid": uid(&pod.name), "labels": labels},
        "spec": {"nodeName": pod.node, "containers": [{"name": "server", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": addresses},
    })
}

fn node(document: &Value) -> Option<NodeSpec> {
    let addresses = document["status"]["addresses"].as_array()?;
    Some(NodeSpec {
        name: document["metadata"]["name"].as_str()?.to_owned(),
        addresses: addresses
            .iter()
            .filter(|address| address["type"] == "InternalIP")
            .map(|address| parse(&address["address"]))
            .collect::<Option<_>>()?,
        pod_networks: document["spec"]["podCIDRs"]
            .as_array()?
            .iter()
            .map(|network| network.as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
    })
}

fn pod(document: &Value) -> Option<PodSpec> {
    let ports = document["spec"]["containers"]
        .as_array()?
        .iter()
        .filter_map(|container| container["ports"].as_array());
    let numbers = ports.flatten().map(|port| {
        port["containerPort"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
    });
    let mut ports = numbers.collect::<Option<Vec<_>>>()?;
    // One port may be named for TCP and for UDP; a server answers on both.
    ports.sort_unstable();
    ports.dedup();
    Some(PodSpec {
        name: document["metadata"]["name"].as_str()?.to_owned(),
        node: document["spec"]["nodeName"].as_str()?.to_owned(),
        addresses: document["status"]["podIPs"]
            .as_array()?
            .iter()
            .map(|address| parse(&address["ip"]))
            .collect::<Option<_>>()?,
        ports,
    })
}

fn parse(address: &Value) -> Option<IpAddr> {
    address.as_str()?.parse().ok()
}

/// The manifests in a directory, in the order of their names.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("{}: cannot be read", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
