//! Pod to pod on one node: without policy, with policies, and with the same in iptables and ipset.
//!
//! Each has a lab of its own with the same wiring. Both pods are of the node, so a packet meets the
//! policies of both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use tests::harness::{Agent, AgentOptions, Builder, Lab, Process};

use super::workload::{CLIENT_PORTS, Workload};
use crate::compare::turns::{self, Contender, POD_WAYS};
use crate::figure::{Figure, Figures, median};
use crate::ruleset::iptables::Variant;
use crate::ruleset::kube_router;
use crate::scale::cold_start;

/// Two hundredths more than without policy.
const SLOWER: f64 = 1.02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Neither agent nor rules.
    Bare,
    /// The agent with `--run-firewall=false`.
    Open,
    /// The agent.
    Fairlead,
    /// kube-router's rules.
    Iptables,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Bare, Self::Open, Self::Fairlead, Self::Iptables];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "no agent",
            Self::Open => "no policy",
            Self::Fairlead => "fairlead",
            Self::Iptables => "iptables + ipset",
        }
    }
}

struct Engine {
    kind: Kind,
    load_seconds: f64,
    _echo: Process,
    _agent: Option<Agent>,
    lab: Lab,
}

pub(super) fn measure(
    sizes: &[usize],
    pods: usize,
    variant: Variant,
    rounds: u32,
    figures: &mut Figures,
) -> Result<()> {
    for size in sizes {
        anstream::eprintln!("traffic: {size} policies × {pods} pods, {rounds} rounds");
        let engines = Kind::ALL
            .into_iter()
            .map(|kind| Engine::start(kind, *size, pods, variant).context(kind.name()))
            .collect::<Result<Vec<_>>>()?;
        for engine in &engines {
            if matches!(engine.kind, Kind::Fairlead | Kind::Iptables) {
                let name = format!("{size} policies, {}: loaded", engine.kind.name());
                figures.push(Figure::less(name, "s", vec![engine.load_seconds]));
            }
        }
        for way in &POD_WAYS {
            let contenders = engines
                .iter()
                .map(Engine::contender)
                .collect::<Result<Vec<_>>>()?;
            let times = turns::take(&contenders, way, rounds).context(way.name)?;
            push(*size, way, &times, figures);
        }
    }
    Ok(())
}

fn push(size: usize, way: &turns::Way, times: &[Vec<f64>], figures: &mut Figures) {
    let of = |kind: Kind| {
        let index = Kind::ALL.iter().position(|other| *other == kind);
        index
            .and_then(|index| times.get(index))
            .map_or(&[][..], Vec::as_slice)
    };
    let name = |what: &str| format!("{size} policies, {}: {what}", way.name);
    for kind in Kind::ALL {
        let shown = way.shown(median(of(kind)));
        let figure = Figure::less(name(kind.name()), way.unit(), vec![shown]);
        figures.push(figure.detail());
    }
    for other in [Kind::Open, Kind::Iptables, Kind::Bare] {
        let pairs = of(Kind::Fairlead).iter().zip(of(other));
        let ratios = pairs.map(|(fairlead, other)| fairlead / other).collect();
        let name = name(&format!("time, fairlead / {}", other.name()));
        let ratio = Figure::less(name, "ratio", ratios);
        figures.push(match other {
            Kind::Open => ratio.at_most(SLOWER),
            Kind::Bare | Kind::Fairlead | Kind::Iptables => ratio,
        });
    }
    let pairs = of(Kind::Iptables).iter().zip(of(Kind::Bare));
    let ratios = pairs.map(|(iptables, bare)| iptables / bare).collect();
    let name = name("time, iptables + ipset / no agent");
    figures.push(Figure::less(name, "ratio", ratios));
}

impl Engine {
    fn start(kind: Kind, policies: usize, pods: usize, variant: Variant) -> Result<Self> {
        let lab = Builder::new(std::env::current_exe()?, 1)
            .traffic_arguments(&["traffic"])
            .pod("near", 1)
            .pod("beside", 1)
            .build()?;
        let mut echo = lab.place("beside").traffic();
        echo.args(["echo", "--port", &CLIENT_PORTS.0.to_string()]);
        let echo = Process::listening("echo", &mut echo)?;
        let measured = [("near", v4(&lab, "near")?), ("beside", v4(&lab, "beside")?)];
        let workload = Workload::new(policies, pods, &measured);
        lab.apply_nodes()?;
        workload.write(lab.manifests())?;
        let flags: &[&str] = match kind {
            Kind::Open => &["--run-firewall=false"],
            Kind::Bare | Kind::Fairlead | Kind::Iptables => &[],
        };
        let (mut agent, mut load_seconds) = (None, 0.0);
        match kind {
            Kind::Bare => {}
            Kind::Open | Kind::Fairlead => {
                let (running, took) = cold_start(&lab, "node1", &AgentOptions::flags(flags))?;
                load_seconds = took.as_secs_f64();
                agent = Some(running);
            }
            Kind::Iptables => {
                let node = lab.place("node1");
                let took = kube_router::load_all(node, variant.program(), &workload)?;
                load_seconds = took.as_secs_f64();
            }
        }
        Ok(Self {
            kind,
            load_seconds,
            _echo: echo,
            _agent: agent,
            lab,
        })
    }

    fn contender(&self) -> Result<Contender<'_>> {
        Ok(Contender {
            name: self.kind.name().to_owned(),
            place: self.lab.place("near"),
            to: SocketAddr::new(v4(&self.lab, "beside")?.into(), CLIENT_PORTS.0),
        })
    }
}

fn v4(lab: &Lab, name: &str) -> Result<Ipv4Addr> {
    match lab.address(name, false) {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => bail!("{name}: {address} is not IPv4"),
    }
}
