//! A container runtime on a lab's nodes: it runs the plugin that the agent installed, with the
//! configuration that the agent installed.

mod list;

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cni::REFERENCE;
use super::{Lab, Namespace, Outcome, Place, cni_program, eventually, namespace, wiring};

/// Of a pod where packets may have to fit into VXLAN's over IPv4 (RFC 7348 §5).
const MTU: u32 = 1450;

/// A pod's network namespace, as a runtime knows it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Name of its node.
    pub node: String,
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod; the container's id is the same.
    pub name: String,
    /// Addresses that the runtime asks for; the plugin chooses where there is none.
    pub addresses: Vec<IpAddr>,
}

impl Sandbox {
    /// A pod whose addresses the plugin chooses.
    pub fn new(node: &str, namespace: &str, name: &str) -> Self {
        Self {
            node: node.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses: Vec::new(),
        }
    }
}

impl Lab {
    /// A file or directory of a node's CNI.
    pub fn cni(&self, node: &str, name: &str) -> PathBuf {
        self.directory().join(node).join("cni").join(name)
    }

    /// Flags of an agent that keeps the routes of its node and installs the plugin there.
    pub fn router_flags(&self, node: &str) -> Result<Vec<String>> {
        let source = self.cni(node, "source");
        if !source.exists() {
            fs::create_dir_all(self.cni(node, ""))?;
            fs::copy(cni_program()?, &source)
                .with_context(|| format!("{}: the plugin cannot be copied", source.display()))?;
        }
        let flag = |flag: &str, name: &str| format!("--{flag}={}", self.cni(node, name).display());
        Ok(vec![
            "--run-router".to_owned(),
            flag("cni-conf-dir", "net.d"),
            flag("cni-bin-dir", "bin"),
            flag("cni-plugin", "source"),
            flag("cni-state-dir", "leases"),
        ])
    }

    /// Runs the installed plugin on a node with the installed configuration.
    pub fn invoke_plugin(&self, command: &str, sandbox: &Sandbox) -> Result<Outcome> {
        let (program, config) = self.plugin_config(&sandbox.node, &sandbox.addresses)?;
        let program = self.cni(&sandbox.node, program);
        let child = self.start_plugin(command, sandbox, &program, &config)?;
        outcome(child)
    }

    /// Starts the installed plugin, for who ends it before it has done.
    pub fn start_installed(&self, command: &str, sandbox: &Sandbox) -> Result<Child> {
        let (program, config) = self.plugin_config(&sandbox.node, &sandbox.addresses)?;
        let program = self.cni(&sandbox.node, program);
        self.start_plugin(command, sandbox, &program, &config)
    }

    fn start_plugin(
        &self,
        command: &str,
        sandbox: &Sandbox,
        program: &Path,
        config: &Value,
    ) -> Result<Child> {
        let Sandbox {
            node,
            namespace,
            name,
            ..
        } = sandbox;
        let mut plugin = Command::new(program);
        let own = self.cni(node, "bin").display().to_string();
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", name)
            .env("CNI_NETNS", Namespace::of(self.name(), name).path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", [&[&*own][..], &REFERENCE].concat().join(":"))
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Started as a runtime does. To join a cgroup takes a grace period of RCU, which is no part of
        // what a plugin takes. A process begins in the namespace of the thread that starts it.
        let mut child = self.place(node).namespace.run(|| {
            let spawned = plugin.spawn();
            spawned.with_context(|| format!("{} cannot be run", program.display()))
        })?;
        let mut input = child.stdin.take().context("invariant: it is piped")?;
        input.write_all(config.to_string().as_bytes())?;
        Ok(child)
    }

    /// Program and configuration as a runtime makes them of the installed list; without one, as an
    /// operator would write them before there is an agent.
    fn plugin_config(&self, node: &str, addresses: &[IpAddr]) -> Result<(&'static str, Value)> {
        let path = self.cni(node, "net.d/10-fairlead.conflist");
        let (program, mut config) = if path.exists() {
            let list: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let mut config = list["plugins"][0].clone();
            config["name"] = list["name"].clone();
            config["cniVersion"] = list["cniVersions"][1].clone();
            ("bin/fairlead-cni", config)
        } else {
            let (spec, _) = self
                .nodes()
                .find(|(spec, _)| spec.name == node)
                .with_context(|| format!("no node {node}"))?;
            let config = json!({
                "cniVersion": "1.1.0",
                "name": "fairlead",
                "type": "fairlead-cni",
                "stateDir": self.cni(node, "leases"),
                "ranges": spec.pod_networks,
                "mtu": MTU,
            });
            ("source", config)
        };
        if !addresses.is_empty() {
            config["runtimeConfig"] = json!({"ips": addresses});
        }
        Ok((program, config))
    }

    /// Waits until the plugin of a node says that it can serve.
    pub fn await_plugin(&self, node: &str) -> Result<()> {
        eventually("the plugin can serve", || {
            let outcome = self.invoke_plugin("STATUS", &Sandbox::new(node, "lab", "status"))?;
            anyhow::ensure!(outcome.code == Some(0), "{outcome:?}");
            Ok(Some(()))
        })
    }

    /// Makes a sandbox, still without a network: where the pod's processes run.
    pub fn create_sandbox(&self, sandbox: &Sandbox) -> Result<Place> {
        let namespace = Namespace::of(self.name(), &sandbox.name);
        namespace::batch(&[], &format!("netns add {}\n", namespace.name()))?;
        namespace.sysctl(&wiring::SETTINGS)?;
        // A runtime's own work, not that of the plugins.
        namespace.ip("link set lo up\n")?;
        Ok(self.place_of(sandbox))
    }

    /// Where a sandbox's processes run.
    pub fn place_of(&self, sandbox: &Sandbox) -> Place {
        let at = self.place(&sandbox.node);
        Place {
            name: sandbox.name.clone(),
            namespace: Namespace::of(self.name(), &sandbox.name),
            ..at.in_cgroup(at.cgroup.join("pods"))
        }
    }

    /// Removes a sandbox.
    pub fn end_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        let namespace = Namespace::of(self.name(), &sandbox.name);
        namespace::batch(&[], &format!("netns del {}\n", namespace.name()))
    }

    /// Gives the pods of a node their network through the plugin, with the addresses that the
    /// manifests say: how long each ADD took.
    pub fn attach_pods(&self, node: &str, namespace: &str) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for (pod, place) in self.pods().filter(|(pod, _)| pod.node == node) {
            place.namespace.ip("link set lo up\n")?;
            let sandbox = Sandbox {
                addresses: pod.addresses.clone(),
                ..Sandbox::new(&pod.node, namespace, &pod.name)
            };
            let begun = Instant::now();
            let outcome = self.invoke_plugin("ADD", &sandbox)?;
            times.push(begun.elapsed());
            outcome
                .result()
                .with_context(|| format!("ADD of {}", pod.name))?;
        }
        Ok(times)
    }
}

/// Waits for a plugin.
fn outcome(child: Child) -> Result<Outcome> {
    let output = child.wait_with_output()?;
    Ok(Outcome {
        code: output.status.code(),
        output: serde_json::from_slice(&output.stdout).ok(),
    })
}
