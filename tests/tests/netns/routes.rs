//! Pod routes: three nodes in two subnets with a router between, that knows nothing of pods.

#[cfg(test)]
mod audited;
#[cfg(test)]
mod cni;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod fast_path;
#[cfg(test)]
mod kernel;
#[cfg(test)]
pub(crate) mod large;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod mended;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod multipath;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod options;
#[cfg(test)]
mod plugin;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod taken_back;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::harness::{
    Agent, AgentOptions, Builder, Flow, Lab, PodNetwork, Traffic, eventually, plugin_inventory,
};

const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// A pod of each node, and another of the first.
const PODS: [(&str, u8); 4] = [("a", 1), ("b", 2), ("c", 3), ("d", 1)];
const OVERLAY: &str = "fairlead-vxlan";

/// Which families the cluster has.
#[derive(Clone, Copy, PartialEq)]
enum Families {
    V6,
    Both,
}

/// The lab, with the third node in a subnet of its own.
struct Network {
    // Agents first: fields are dropped in order.
    agents: BTreeMap<&'static str, Agent>,
    flags: Vec<String>,
    families: Families,
    lab: Lab,
}

impl Network {
    #[track_caller]
    fn start(families: Families, mtu: u32, flags: &[&str]) -> Self {
        let mut network = Self::build(families, mtu, flags);
        for node in NODES {
            network.start_agent(node);
        }
        for agent in network.agents.values_mut() {
            agent.wait_ready().unwrap();
        }
        network
    }

    #[track_caller]
    fn build(families: Families, mtu: u32, flags: &[&str]) -> Self {
        Self::build_with(&[], families, mtu, flags)
    }

    /// With more pods than [`PODS`].
    #[track_caller]
    fn build_with(more: &[(&str, u8)], families: Families, mtu: u32, flags: &[&str]) -> Self {
        let mut builder = Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), 3);
        builder = builder.elsewhere(3).pod_network(PodNetwork::RoutesOfAgents);
        for (pod, node) in PODS.iter().chain(more) {
            builder = builder.pod(pod, *node);
        }
        let lab = builder.build().unwrap();
        let network = Self {
            agents: BTreeMap::new(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            families,
            lab,
        };
        network.wire(mtu);
        network.apply_nodes(|_| {});
        network
    }

    /// Sets the MTU of everything, and takes IPv4 away where the cluster has none.
    fn wire(&self, mtu: u32) {
        let mut of_router = format!("link set client mtu 9000\nlink set nodes mtu {mtu}\n");
        for node in NODES {
            of_router += &format!("link set {node} mtu {mtu}\n");
        }
        self.lab.router().ip(&of_router).unwrap();
        for node in NODES {
            let mut lines = format!("link set eth0 mtu {mtu}\n");
            if self.families == Families::V6 {
                lines += "addr flush dev eth0 scope global\n";
                lines += match node {
                    "node1" => "addr add fd00:31::11/64 dev eth0 nodad\n",
                    "node2" => "addr add fd00:31::12/64 dev eth0 nodad\n",
                    _ => "addr add fd00:31:1::13/64 dev eth0 nodad\n",
                };
                lines += match node {
                    "node3" => "route replace default via fd00:31:1::1 dev eth0\n",
                    _ => "route replace default via fd00:31::1 dev eth0\n",
                };
            }
            self.lab.place(node).namespace.ip(&lines).unwrap();
        }
        // As the plugin sets it up, from the MTU it is told.
        let overhead = if self.families == Families::V6 {
            70
        } else {
            50
        };
        for (pod, number) in PODS {
            let line = format!("link set eth0 mtu {}\n", mtu - overhead);
            self.lab.place(pod).namespace.ip(&line).unwrap();
            let node = &self.lab.place(&format!("node{number}")).namespace;
            node.ip(&format!("link set p-{pod} mtu {}\n", mtu - overhead))
                .unwrap();
        }
    }

    /// Writes the Nodes as they are wired, changed by a test.
    fn apply_nodes(&self, change: impl Fn(&mut Vec<Value>)) {
        let mut nodes = self.lab.node_documents();
        let only_v6 = self.families == Families::V6;
        for node in &mut nodes {
            if only_v6 {
                let v6 = |text: &Value| text.as_str().unwrap().contains(':');
                let addresses = node["status"]["addresses"].as_array_mut().unwrap();
                addresses.retain(|address| v6(&address["address"]));
                let cidrs = node["spec"]["podCIDRs"].as_array_mut().unwrap();
                cidrs.retain(v6);
                node["spec"]["podCIDR"] = node["spec"]["podCIDRs"][0].clone();
            }
        }
        change(&mut nodes);
        self.lab.manifests().write("nodes.yaml", &nodes).unwrap();
    }

    fn options(&self, node: &str) -> AgentOptions {
        let mut flags = self.lab.router_flags(node).unwrap();
        flags.extend(self.flags.clone());
        AgentOptions {
            flags,
            ..AgentOptions::default()
        }
    }

    /// A file of a node's CNI.
    fn cni(&self, node: &str, name: &str) -> PathBuf {
        self.lab.cni(node, name)
    }

    /// Ends an agent at once.
    #[track_caller]
    fn kill_agent(&mut self, node: &'static str) {
        let agent = self.agents.get_mut(node).unwrap();
        agent.process().kill().unwrap();
    }

    /// Starts an agent and waits until it is ready.
    #[track_caller]
    fn start_ready(&mut self, node: &'static str) {
        self.start_agent(node);
        self.agents.get_mut(node).unwrap().wait_ready().unwrap();
    }

    #[track_caller]
    fn start_agent(&mut self, node: &'static str) {
        let agent = Agent::start(&self.lab, node, &self.options(node)).unwrap();
        self.agents.insert(node, agent);
    }

    fn families(&self) -> &'static [bool] {
        match self.families {
            Families::V6 => &[true],
            Families::Both => &[false, true],
        }
    }

    /// The `routing` of a node's status.
    fn routing(&self, node: &str) -> Value {
        self.agents[node].status().unwrap()["routing"].clone()
    }

    /// Waits until a node has so many routes and no failures.
    #[track_caller]
    fn await_routes(&self, node: &str, count: usize) {
        eventually("the routes are there", || {
            let routing = self.routing(node);
            let good = routing["in_kernel"] == count && routing["failures"] == json!([]);
            anyhow::ensure!(good, "{routing:#}");
            Ok(Some(()))
        })
        .unwrap();
    }

    /// Every pod reaches every other pod, and each node the pods of the others, as itself.
    #[track_caller]
    fn expect_reach(&self) {
        for v6 in self.families() {
            for (to, _) in PODS {
                for from in ["a", "b", "c", "node1", "node3"] {
                    let address = self.lab.address(to, *v6);
                    for traffic in [Traffic::connect(address, 8080), Traffic::udp(address, 8080)] {
                        let traffic = traffic.count(2).timeout_milliseconds(3000);
                        let report = Flow::run(&self.lab.uncovered(from), &traffic).unwrap();
                        assert!(
                            report.is_clean() && report.answered == 2,
                            "{from} to {to}: {report:?}"
                        );
                        if from != to && PODS.iter().any(|(pod, _)| *pod == from) {
                            let own = self.lab.address(from, *v6).to_string();
                            assert_eq!(report.seen_as.into_iter().collect::<Vec<_>>(), [own]);
                        }
                    }
                }
            }
        }
    }

    /// What `ip` prints in a node.
    fn show(&self, node: &str, arguments: &[&str]) -> String {
        self.shown("ip", node, arguments)
    }

    fn shown(&self, program: &str, node: &str, arguments: &[&str]) -> String {
        let name = self.lab.place(node).namespace.name().to_owned();
        let output = Command::new(program)
            .args(["-n", &name])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What there is of the plugin's pods on a node; what is the agent's is not.
    #[track_caller]
    fn pods_of_plugin(&self, node: &str) -> Vec<String> {
        let leases = self.cni(node, "leases/fairlead/leases");
        let found = plugin_inventory(&self.lab.place(node).namespace, &leases).unwrap();
        let of_agent = |line: &String| line.contains(OVERLAY) || line.starts_with("7100:");
        found.into_iter().filter(|line| !of_agent(line)).collect()
    }

    /// A sysctl of a node, as in `ipv4/ip_forward`.
    fn setting(&self, node: &str, name: &str) -> String {
        let file = format!("/proc/sys/net/{name}");
        let read = || Ok(std::fs::read_to_string(&file)?);
        let text = self.lab.place(node).namespace.run(read).unwrap();
        text.trim().to_owned()
    }

    fn set(&self, node: &str, name: &str, value: &str) {
        let file = format!("/proc/sys/net/{name}");
        let write = || Ok(std::fs::write(&file, value)?);
        self.lab.place(node).namespace.run(write).unwrap();
    }

    /// Everything of the agent's in a node's network.
    fn inventory(&self, node: &str) -> String {
        let mut text = String::new();
        for family in ["-4", "-6"] {
            text += &self.show(
                node,
                &[family, "route", "show", "table", "all", "proto", "71"],
            );
            let rules = self.show(node, &[family, "rule"]);
            text.extend(
                rules
                    .lines()
                    .filter(|line| line.starts_with("7100:"))
                    .map(|l| format!("{l}\n")),
            );
        }
        text += &self.show(node, &["neigh", "show", "dev", OVERLAY, "nud", "permanent"]);
        text += &self.shown("bridge", node, &["fdb", "show", "dev", OVERLAY]);
        let link = self.show(node, &["-d", "link", "show", "dev", OVERLAY]);
        // The index goes up when the device is made anew.
        text += link.split_once(": ").map_or("", |(_, rest)| rest);
        text
    }
}
