//! Pod to pod, on one node and between two: plain veth pairs and the kernel's routes, the bridge of the
//! reference plugins, and Fairlead with policy and Services on, with its fast path and without it.
//!
//! Each has a lab of its own, and they take turns. IPv4. With the bridge, pods of a node are ports of
//! it, and iptables do not see what it bridges.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::json;
use tests::harness::{Agent, AgentOptions, Builder, Lab, Process, eventually};

use super::wiring::{self, PODS};
use crate::compare::turns::{self, Contender, POD_WAYS, Way};
use crate::figure::{Figure, Figures, median};
use crate::workload::{self, ENDPOINTS, services};

const PORT: u16 = 7000;
/// Services that the agent has beside what is measured.
const SERVICES: u32 = 100;
/// At most so much more than plain routing.
const SLOWER: f64 = 1.03;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// veth pairs and the kernel's routes.
    Plain,
    /// veth pairs at a bridge.
    Bridge,
    /// The agent.
    Fairlead,
    /// The same with `--fast-path=false`.
    Stack,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Plain, Self::Bridge, Self::Fairlead, Self::Stack];
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "plain routing",
            Self::Bridge => "bridge",
            Self::Fairlead => "fairlead",
            Self::Stack => "fairlead without fast path",
        })
    }
}

/// What is between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Vxlan,
}

/// The fields are dropped in their order: processes before their lab.
struct Engine {
    kind: Kind,
    _echos: Vec<Process>,
    _agents: Vec<Agent>,
    lab: Lab,
}

pub(super) fn measure(rounds: u32, figures: &mut Figures) -> Result<()> {
    for between in [Between::Nothing, Between::Vxlan] {
        let engines = Kind::ALL
            .into_iter()
            .map(|kind| Engine::start(kind, between).with_context(|| kind.to_string()))
            .collect::<Result<Vec<_>>>()?;
        let paths: &[(&str, &str)] = match between {
            Between::Nothing => &[("on one node", "beside"), ("between nodes", "far")],
            Between::Vxlan => &[("between nodes, VXLAN", "far")],
        };
        for (path, to) in paths {
            anstream::eprintln!("traffic: {path}, {rounds} rounds");
            for way in &POD_WAYS {
                let contenders: Vec<_> =
                    engines.iter().map(|engine| engine.contender(to)).collect();
                let times = turns::take(&contenders, way, rounds).context(way.name)?;
                push(path, way, &times, figures);
            }
        }
    }
    Ok(())
}

fn push(path: &str, way: &Way, times: &[Vec<f64>], figures: &mut Figures) {
    let of = |kind: Kind| {
        let index = Kind::ALL.iter().position(|other| *other == kind);
        index
            .and_then(|index| times.get(index))
            .map_or(&[][..], Vec::as_slice)
    };
    let name = |what: &str| format!("{path}, {}: {what}", way.name);
    for kind in Kind::ALL {
        let shown = of(kind).iter().map(|time| way.shown(*time)).collect();
        let what = name(&kind.to_string());
        figures.push(match way.is_rate() {
            true => Figure::more(what, way.unit(), shown),
            false => Figure::less(what, way.unit(), shown),
        });
    }
    for (kind, other, target) in [
        (Kind::Fairlead, Kind::Plain, Some(SLOWER)),
        (Kind::Fairlead, Kind::Bridge, Some(1.0)),
        (Kind::Fairlead, Kind::Stack, None),
    ] {
        let ratio = median(of(kind)) / median(of(other));
        let what = name(&format!("time, {kind} / {other}"));
        let figure = Figure::less(what, "ratio", vec![ratio]);
        figures.push(match target {
            Some(target) => figure.at_most(target),
            None => figure,
        });
    }
}

impl Engine {
    fn start(kind: Kind, between: Between) -> Result<Self> {
        anstream::eprintln!("  {kind}: starting");
        let mut builder = Builder::new(std::env::current_exe()?, 2).traffic_arguments(&["traffic"]);
        for (pod, node) in PODS {
            builder = builder.pod(pod, node);
        }
        let lab = builder.build()?;
        if between == Between::Vxlan {
            wiring::shrink(&lab)?;
            wiring::without_routes(&lab)?;
        }
        let mut agents = Vec::new();
        match kind {
            Kind::Bridge => wiring::bridge(&lab)?,
            Kind::Plain => {}
            Kind::Fairlead | Kind::Stack => agents = start_agents(&lab, kind, between)?,
        }
        if between == Between::Vxlan && agents.is_empty() {
            wiring::vxlan(&lab)?;
        }
        let echos = ["beside", "far"].map(|pod| {
            let mut echo = lab.place(pod).traffic();
            echo.args(["echo", "--port", &PORT.to_string()]);
            Process::listening("echo", &mut echo)
        });
        Ok(Self {
            kind,
            _echos: echos.into_iter().collect::<Result<_>>()?,
            _agents: agents,
            lab,
        })
    }

    fn contender(&self, to: &str) -> Contender<'_> {
        Contender {
            name: self.kind.to_string(),
            place: self.lab.place("near"),
            to: SocketAddr::new(self.lab.address(to, false), PORT),
        }
    }
}

/// An agent on each node, with Services, and a policy that selects every pod in both directions.
fn start_agents(lab: &Lab, kind: Kind, between: Between) -> Result<Vec<Agent>> {
    let manifests = lab.manifests();
    lab.apply_nodes()?;
    workload::write(manifests, &services(SERVICES, ENDPOINTS))?;
    let pods = PODS.map(|(pod, _)| (pod, "bench", json!({"app": "bench"})));
    lab.apply_pods(&pods)?;
    let peers = json!([{"podSelector": {"matchLabels": {"app": "bench"}}}]);
    let ports = json!([{"port": PORT, "endPort": PORT + 99}]);
    manifests.write(
        "policy.yaml",
        &[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "bench", "namespace": "bench"},
                "spec": {
                    "podSelector": {},
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": peers, "ports": ports}],
                    "egress": [{"to": peers, "ports": ports}],
                },
            }),
        ],
    )?;
    let mut flags = vec!["--run-router", "--enable-cni=false"];
    flags.push(match between {
        Between::Nothing => "--enable-overlay=false",
        Between::Vxlan => "--overlay-type=full",
    });
    if kind == Kind::Stack {
        flags.push("--fast-path=false");
    }
    let mut agents = Vec::new();
    for node in ["node1", "node2"] {
        agents.push(Agent::ready(lab, node, &AgentOptions::flags(&flags))?);
    }
    for agent in &agents {
        // The pods' interfaces, and the way to the other node.
        eventually("the routes and the fast path are there", || {
            let status = agent.status()?;
            let path = &status["fast_path"];
            let is_ready = status["routing"]["in_kernel"].as_u64().unwrap_or(0) > 0
                && (kind == Kind::Stack || path["pods"].as_u64().unwrap_or(0) > 0);
            Ok(is_ready.then_some(()))
        })?;
    }
    Ok(agents)
}
