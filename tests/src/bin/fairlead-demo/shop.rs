//! The lab of `examples/cluster` with an agent on each node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::harness::{Agent, AgentOptions, Builder, Flow, Lab, Place, PodNetwork, Traffic};
use tests::traffic::Report;

use crate::LAB;
use crate::facts::Facts;
use crate::{options, pods};

/// What there is, for who sees it for the first time.
const CLUSTER: &str = "\
Three nodes in two subnets, and a client outside. In namespace shop: web (4 pods), api (3), db (1),
dns (2), search (none), and the pod shopper. Each pod gets its network from the CNI plugin.

                          client 172.30.0.2
                                 |
                 .------------ router -------------.
          172.31.0.0/24                      172.31.1.0/24
         .-------+-------.                         |
         |               |                         |
      node1 <--direct--> node2 <----VXLAN----> node3
      web-1 web-2        web-3 api-2           web-4 api-3
      api-1 shopper      db-1  dns-1           dns-2

Each line below says what is tried, and what was seen.
";

#[derive(Debug)]
pub(crate) struct Shop {
    // Agents first: fields are dropped in order, and a lab ends what runs in it.
    pub(crate) agents: BTreeMap<String, Agent>,
    /// Flags of every agent.
    flags: Vec<String>,
    pub(crate) lab: Lab,
}

impl Shop {
    /// Builds the lab and starts the agents.
    pub(crate) fn open(
        facts: &mut Facts,
        manifests: &Path,
        dataplane: Option<&str>,
    ) -> Option<Self> {
        facts.section("A cluster of network namespaces");
        anstream::println!("{CLUSTER}");
        let mut built = None;
        facts.check(
            "build nodes, sandboxes of pods and an outside client",
            || {
                let started = Instant::now();
                let lab = Builder::from_manifests(std::env::current_exe()?, manifests)?
                    .named(LAB)
                    .traffic_arguments(&["traffic"])
                    .pod_network(PodNetwork::OfPlugin)
                    .build()?;
                lab.manifests().copy_from(manifests)?;
                let seen = format!(
                    "{} nodes, {} sandboxes in {} ms",
                    lab.nodes().count(),
                    lab.pods().count(),
                    started.elapsed().as_millis()
                );
                built = Some(lab);
                Ok(seen)
            },
        );
        let lab = built?;
        let mut flags = vec!["--run-firewall"];
        flags.extend(dataplane.into_iter().flat_map(|name| ["--dataplane", name]));
        let mut shop = Self {
            agents: BTreeMap::new(),
            flags: flags.into_iter().map(str::to_owned).collect(),
            lab,
        };
        // Of node1 the pods are there before the agent is: it takes over from another proxy.
        for node in ["node2", "node3"] {
            if !(shop.begin(facts, node) && pods::attach(facts, &shop, node)) {
                return None;
            }
        }
        if !pods::attach(facts, &shop, "node1") {
            return None;
        }
        let mut load = None;
        facts.check(
            "node1 still balances by kube-proxy's kind of rules: traffic",
            || {
                shop.lab.start_servers()?;
                load = Some(options::begin_with_another_proxy(&shop)?);
                Ok("20 TCP connections, 5 UDP flows".to_owned())
            },
        );
        let load = load?;
        if !shop.begin(facts, "node1") {
            return None;
        }
        options::take_over(facts, &shop, load);
        pods::routes(facts, &shop);
        Some(shop)
    }

    /// Names of the nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.lab.nodes().map(|(node, _)| node.name.clone());
        names.collect()
    }

    /// Starts the agent of a node for the first time; answers whether it is ready.
    fn begin(&mut self, facts: &mut Facts, node: &str) -> bool {
        facts.check(&format!("agent on {node}: start to ready"), || {
            let started = Instant::now();
            let agent = self.start(node)?;
            self.agents.insert(node.to_owned(), agent);
            Ok(format!("{} ms", started.elapsed().as_millis()))
        })
    }

    /// Starts the agent of a node, and waits until it is ready.
    pub(crate) fn start(&self, node: &str) -> Result<Agent> {
        let mut flags = self.lab.router_flags(node)?;
        flags.extend(self.flags.iter().cloned());
        let options = AgentOptions {
            flags,
            ..AgentOptions::default()
        };
        Agent::ready(&self.lab, node, &options)
    }

    pub(crate) fn agent(&self, node: &str) -> Result<&Agent> {
        self.agents
            .get(node)
            .with_context(|| format!("no agent runs on {node}"))
    }

    /// Runs a client at a place of the lab.
    pub(crate) fn run(&self, from: &str, traffic: &Traffic) -> Result<Report> {
        Flow::run(self.lab.place(from), traffic)
    }

    /// A pod of node1 in a cgroup that the hooks do not cover, so that its TCP arrives as packets.
    pub(crate) fn uncovered(&self) -> Place {
        self.lab.uncovered("api-1")
    }

    /// Gives a Service other endpoints: those of the pods named.
    pub(crate) fn scale(&self, service: &str, pods: &[&str]) -> Result<()> {
        let mut chosen = Vec::new();
        for name in pods {
            let pod = self
                .lab
                .pods()
                .find(|(pod, _)| pod.name == *name)
                .with_context(|| format!("no pod {name}"))?;
            chosen.push(pod.0);
        }
        self.lab.manifests().edit(&format!("{service}.yaml"), |documents| {
            for slice in documents.iter_mut().filter(|document| document["kind"] == "EndpointSlice") {
                let v6 = slice["addressType"] == "IPv6";
                let endpoints = chosen.iter().flat_map(|pod| {
                    let address = pod.addresses.iter().find(|address| address.is_ipv6() == v6)?;
                    Some(serde_json::json!({"addresses": [address], "nodeName": pod.node, "conditions": {"ready": true}}))
                });
                slice["endpoints"] = Value::Array(endpoints.collect());
            }
        })
    }

    /// Lets lab and agents run on after the demo.
    pub(crate) fn keep(self) {
        let Self {
            agents, mut lab, ..
        } = self;
        agents.into_values().for_each(Agent::keep);
        lab.keep();
    }
}

/// The cluster IPs of the shop's Services, as in the manifests.
pub(crate) fn service(number: u8, v6: bool) -> IpAddr {
    if v6 {
        format!("fd00:96::{number}").parse()
    } else {
        format!("10.96.0.{number}").parse()
    }
    .expect("invariant: a well-formed address")
}

/// Everything answered, by all the pods expected and no other.
pub(crate) fn answered_by(report: &Report, pods: &[&str]) -> Result<String> {
    ensure!(
        report.is_clean(),
        "{} of {} answered, {} connections lost, {:?}; by {}",
        report.answered,
        report.attempts,
        report.lost_connections,
        report.errors,
        report.spread()
    );
    let seen: Vec<_> = report.backends.keys().map(String::as_str).collect();
    ensure!(
        seen == pods,
        "answered by {}, not by each of {}",
        report.spread(),
        pods.join(", ")
    );
    Ok(format!(
        "{} of {}: {}; median {}",
        report.answered,
        report.attempts,
        report.spread(),
        microseconds(report.latency.median_microseconds)
    ))
}

pub(crate) fn microseconds(time: u64) -> String {
    if time < 10_000 {
        format!("{time} µs")
    } else {
        format!("{} ms", time / 1000)
    }
}
