//! A container runtime, as far as CNI plugins see one: a node, containers, and invocations with the
//! specification's environment and standard input.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Namespace, agent, namespace, process, teardown};

/// Where distributions have the reference plugins.
pub(super) const REFERENCE: [&str; 3] = ["/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"];

/// A node without anything but plugins. Dropped, it is removed with all its containers.
#[derive(Debug)]
pub struct CniNode {
    name: String,
    /// Its network namespace.
    pub namespace: Namespace,
}

/// One invocation, but for the configuration.
#[derive(Clone, Debug)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: &'static str,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub arguments: String,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output, where there is any.
    pub output: Option<Value>,
}

impl CniNode {
    /// A node that forwards, with a loopback interface.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cni{}x{count}", std::process::id());
        let namespace = Namespace::of(&name, "node");
        namespace::batch(&[], &format!("netns add {}\n", namespace.name()))?;
        let node = Self { name, namespace };
        node.namespace.ip("link set lo up\n")?;
        node.namespace.sysctl(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // What counts is the larger one of this and the interface's.
            ("net/ipv4/conf/all/rp_filter", "0"),
        ])?;
        fs::create_dir_all(node.directory())?;
        Ok(node)
    }

    /// The name that all its namespaces begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Files of this node alone.
    pub fn directory(&self) -> PathBuf {
        teardown::directory(&self.name)
    }

    /// `stateDir` of this node.
    pub fn state_dir(&self) -> PathBuf {
        self.directory().join("state")
    }

    /// The configuration of `fairlead-cni` on this node, with further keys.
    pub fn config(&self, more: &Value) -> Result<Value> {
        let mut config = json!({
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "fairlead-cni",
            "stateDir": self.state_dir(),
            "ranges": ["10.244.1.0/24", "fd00:10:244:1::/64"],
        });
        let more = more.as_object().context("further keys are an object")?;
        for (key, value) in more {
            config[key] = value.clone();
        }
        Ok(config)
    }

    /// Namespaces for containers of these ids.
    pub fn create(&self, containers: &[String]) -> Result<()> {
        self.each("netns add", containers)
    }

    /// Ends containers.
    pub fn end(&self, containers: &[String]) -> Result<()> {
        self.each("netns del", containers)
    }

    /// Namespace of a container.
    pub fn container(&self, container: &str) -> Namespace {
        Namespace::of(&self.name, container)
    }

    /// An invocation for a container.
    pub fn call(&self, command: &'static str, container: &str) -> Call {
        Call {
            command,
            container: container.to_owned(),
            netns: Some(self.container(container).path()),
            arguments: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={container};K8S_POD_INFRA_CONTAINER_ID={container}"
            ),
        }
    }

    /// Runs a plugin on this node.
    pub fn run(&self, program: &Path, call: &Call, config: &Value) -> Result<Outcome> {
        let child = self.start(program, call, config)?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = match text.trim() {
            "" => None,
            text => Some(serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?),
        };
        Ok(Outcome {
            code: output.status.code(),
            output: json,
        })
    }

    /// Runs `fairlead-cni` for a container.
    pub fn invoke(
        &self,
        command: &'static str,
        container: &str,
        config: &Value,
    ) -> Result<Outcome> {
        self.run(&cni_program()?, &self.call(command, container), config)
    }

    /// Starts a plugin on this node, and gives it its configuration.
    pub fn start(&self, program: &Path, call: &Call, config: &Value) -> Result<Child> {
        let mut command = Command::new(program);
        command
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", &call.container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", &call.arguments)
            .env("CNI_PATH", REFERENCE.join(":"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        match &call.netns {
            Some(netns) => command.env("CNI_NETNS", netns),
            None => command.env_remove("CNI_NETNS"),
        };
        // A process begins in the namespace of the thread that starts it.
        let mut child = self.namespace.run(|| {
            let spawned = command.spawn();
            spawned.with_context(|| format!("{} cannot be run", program.display()))
        })?;
        let mut stdin = child.stdin.take().context("invariant: it is piped")?;
        match stdin.write_all(config.to_string().as_bytes()) {
            // It may end without having read it.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error)?,
            _ => {}
        }
        Ok(child)
    }

    /// Runs a list of plugins for an ADD, each with the result of the one before, as the
    /// specification has it: the last result.
    pub fn attach(&self, container: &str, list: &[Value]) -> Result<Value> {
        let mut previous = None;
        for config in list {
            let mut config = config.clone();
            if let Some(previous) = &previous {
                config["prevResult"] = Value::clone(previous);
            }
            let program = plugin(&config)?;
            let outcome = self.run(&program, &self.call("ADD", container), &config)?;
            previous = Some(outcome.result()?);
        }
        previous.context("a list has a plugin at least")
    }

    /// Runs a list of plugins backwards for a DEL, or forwards for a CHECK, with the result of the
    /// ADD.
    pub fn after(
        &self,
        command: &'static str,
        container: &str,
        list: &[Value],
        result: &Value,
    ) -> Result<()> {
        let mut list: Vec<_> = list.to_vec();
        if command == "DEL" {
            list.reverse();
        }
        for mut config in list {
            config["prevResult"] = result.clone();
            let program = plugin(&config)?;
            let outcome = self.run(&program, &self.call(command, container), &config)?;
            ensure!(
                outcome.code == Some(0),
                "{}: {outcome:?}",
                program.display()
            );
        }
        Ok(())
    }

    /// What there is on the node of pods, see [`plugin_inventory`].
    pub fn inventory(&self) -> Result<Vec<String>> {
        plugin_inventory(&self.namespace, &self.state_dir().join("pods/leases"))
    }

    /// Runs `ip` on the node.
    pub fn show(&self, arguments: &[&str]) -> Result<String> {
        ip(&self.namespace, arguments)
    }

    fn each(&self, what: &str, containers: &[String]) -> Result<()> {
        let lines = containers
            .iter()
            .fold(String::new(), |mut lines, container| {
                // To a string, it cannot fail.
                let _written = writeln!(lines, "{what} {}", self.container(container).name());
                lines
            });
        namespace::batch(&[], &lines)
    }
}

impl Drop for CniNode {
    fn drop(&mut self) {
        if let Err(error) = teardown::remove(&self.name) {
            anstream::eprintln!("{}: {error:#}", self.name);
        }
    }
}

impl Outcome {
    /// The result of an ADD.
    pub fn result(self) -> Result<Value> {
        match self.output {
            Some(result) if self.code == Some(0) => Ok(result),
            output => bail!("exit {:?}: {output:?}", self.code),
        }
    }

    /// Code and texts of an error.
    pub fn error(self) -> Result<(u64, String)> {
        let output = self.output.unwrap_or_default();
        let text = |key: &str| output[key].as_str().unwrap_or_default();
        match (self.code, output["code"].as_u64()) {
            (Some(code), Some(number)) if code != 0 => {
                Ok((number, format!("{}: {}", text("msg"), text("details"))))
            }
            _ => bail!("exit {:?}, no error: {output}", self.code),
        }
    }
}

/// What there is of pods in a node's network namespace and directory of leases, a line each:
/// interfaces, routes, neighbours, rules that are not the kernel's, files of leases.
pub fn plugin_inventory(node: &Namespace, leases: &Path) -> Result<Vec<String>> {
    let links = ip(node, &["-o", "link", "show", "type", "veth"])?;
    let names = links
        .lines()
        .filter_map(|line| line.split([' ', '@']).nth(1));
    let pods = names.filter(|name| name.starts_with("fl"));
    let mut found: Vec<String> = pods.map(|name| format!("interface {name}")).collect();
    for arguments in [
        &["-4", "route", "show", "table", "all", "proto", "70"][..],
        &["-6", "route", "show", "table", "all", "proto", "70"],
        &["neigh", "show", "nud", "permanent"],
        &["-4", "rule", "show"],
        &["-6", "rule", "show"],
    ] {
        let text = ip(node, arguments)?;
        let is_kernels = |line: &&str| {
            ["0:", "32766:", "32767:"]
                .iter()
                .any(|rule| line.starts_with(rule))
        };
        let lines = text.lines().filter(|line| !is_kernels(line));
        found.extend(lines.map(str::to_owned));
    }
    if leases.exists() {
        for entry in fs::read_dir(leases)? {
            found.push(format!("lease {}", entry?.file_name().to_string_lossy()));
        }
    }
    Ok(found)
}

/// Runs `ip` in a namespace.
pub fn ip(namespace: &Namespace, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace.name()]).args(arguments);
    let (code, output, error) = process::run(&mut command)?;
    ensure!(
        code == Some(0),
        "ip {}: {}",
        arguments.join(" "),
        error.trim()
    );
    Ok(output)
}

/// `fairlead-cni`: `FAIRLEAD_CNI`, else where the agent is looked for.
pub fn cni_program() -> Result<PathBuf> {
    agent::program("FAIRLEAD_CNI", "fairlead-cni")
}

/// A plugin of the reference, such as `portmap`.
pub fn reference_plugin(name: &str) -> Result<PathBuf> {
    REFERENCE
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no CNI plugin {name}; install it: cargo xtask setup"))
}

/// The program of a configuration.
fn plugin(config: &Value) -> Result<PathBuf> {
    match config["type"].as_str() {
        Some("fairlead-cni") => cni_program(),
        Some(name) => reference_plugin(name),
        None => bail!("no `type` in {config}"),
    }
}
