//! A lab with one engine in it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tests::harness::{Agent, AgentOptions, Builder, Lab, Process, Wire, driver};

use super::turns::{Contender, Way};
use crate::ruleset::iptables::{self, Variant};
use crate::ruleset::nftables;
use crate::scale::cold_start;
use crate::workload::{self, ENDPOINTS, POD_NETWORK, Service, services};

/// Cold starts of the agent. A ruleset is loaded once: it may take minutes.
const STARTS: u32 = 3;
/// Ports of the backend: from a pod, and from outside. Apart, so that no connection has the
/// addresses and ports of one of the other kind that the backend still remembers.
const INSIDE: u16 = 7000;
const OUTSIDE: u16 = 7001;
const NODE_PORT: u16 = 31_000;
/// Documentation's (RFC 5737).
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const CLUSTER_PORT: u16 = 80;

/// What carries a connection to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Nothing: the client knows the backend's address.
    Direct,
    /// The agent.
    Fairlead,
    /// Agents on both nodes, from outside to an external address with direct return.
    FairleadDsr,
    /// The same, and the driver sends the packets on.
    FairleadXdp,
    /// As kube-proxy's mode of that name writes it.
    Iptables,
    /// As kube-proxy's mode of that name writes it.
    Nftables,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Direct,
        Self::Fairlead,
        Self::FairleadDsr,
        Self::FairleadXdp,
        Self::Iptables,
        Self::Nftables,
    ];
    /// Those with an agent.
    pub(crate) const FAIRLEAD: [Self; 3] = [Self::Fairlead, Self::FairleadDsr, Self::FairleadXdp];

    /// Whether it is for clients outside alone.
    pub(crate) fn is_for_outside(self) -> bool {
        matches!(self, Self::FairleadDsr | Self::FairleadXdp)
    }

    /// Whether it is measured so. By XDP, a stream is as a wire brings it alone: a veth gives its XDP program
    /// segments one by one with their checksums, where the others see 64 KiB at once and no checksum.
    pub(super) fn takes_part(self, way: &Way) -> bool {
        match self {
            Self::FairleadDsr => way.is_outside,
            Self::FairleadXdp => way.is_outside && (way.is_of_a_wire || !way.is_rate()),
            Self::Direct | Self::Fairlead | Self::Iptables | Self::Nftables => true,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fairlead => "fairlead",
            Self::FairleadDsr => "fairlead-dsr",
            Self::FairleadXdp => "fairlead-xdp",
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A running engine. The fields are dropped in their order: processes before their lab.
pub(crate) struct Engine {
    pub(crate) kind: Kind,
    pub(crate) loads_seconds: Vec<f64>,
    _echo: Process,
    _agents: Vec<Agent>,
    wires: Vec<Wire>,
    pub(crate) lab: Lab,
}

impl Engine {
    pub(crate) fn start(kind: Kind, count: u32, variant: Variant) -> Result<Self> {
        anstream::eprintln!("  {kind}: starting");
        let lab = Builder::new(std::env::current_exe()?, 2)
            .traffic_arguments(&["traffic"])
            .pod("near", 1)
            .pod("far", 2)
            .build()?;
        let mut echo = lab.place("far").traffic();
        echo.arg("echo");
        for port in [INSIDE, OUTSIDE] {
            echo.args(["--port", &port.to_string()]);
        }
        let echo = Process::listening("echo", &mut echo)?;
        let external = kind.is_for_outside().then_some(EXTERNAL);
        let services = all(count, v4(&lab, "far")?, external);
        let node = lab.place("node1");
        let (mut agents, mut wires) = (Vec::new(), Vec::new());
        if kind == Kind::FairleadXdp {
            wires.push(Wire::of_router(&lab, "node1")?);
        }
        let loads_seconds = match kind {
            Kind::Direct => {
                route_clients_through_the_node(&lab)?;
                Vec::new()
            }
            Kind::Fairlead => {
                let (running, starts) = start_agent(&lab, &services)?;
                agents.push(running);
                starts
            }
            Kind::FairleadDsr | Kind::FairleadXdp => {
                agents = start_agents_of_the_edge(&lab, &services, kind)?;
                Vec::new()
            }
            Kind::Iptables => {
                vec![iptables::load_all(node, variant, &services)?.as_secs_f64()]
            }
            Kind::Nftables => vec![nftables::load_all(node, &services)?.as_secs_f64()],
        };
        if let Some(last) = loads_seconds.last() {
            anstream::eprintln!("  {kind}: ready after {last:.2} s");
        }
        Ok(Self {
            kind,
            loads_seconds,
            _echo: echo,
            _agents: agents,
            wires,
            lab,
        })
    }

    /// From now on, what comes from outside comes in segments of their own, with their checksums, as frames to the
    /// node's driver.
    pub(super) fn send_as_a_wire_brings(&mut self) -> Result<()> {
        if self.kind != Kind::FairleadXdp {
            driver::complete_checksums(&self.lab)?;
        }
        self.wires.push(Wire::to_node(&self.lab, "node1")?);
        let client = &self.lab.place("client").namespace;
        client.ip("link set eth0 gso_max_segs 1\n")
    }

    /// Address of a place of the lab.
    pub(crate) fn v4(&self, name: &str) -> Result<Ipv4Addr> {
        v4(&self.lab, name)
    }

    /// Who answers clients in pods.
    pub(crate) fn backend(&self) -> Result<SocketAddrV4> {
        Ok(SocketAddrV4::new(self.v4("far")?, INSIDE))
    }

    /// Its client.
    pub(super) fn contender(&self, is_outside: bool) -> Result<Contender<'_>> {
        let (place, to) = if is_outside {
            (self.lab.place("client"), self.outside()?)
        } else {
            (self.lab.place("near"), self.inside()?)
        };
        Ok(Contender {
            name: self.kind.to_string(),
            place,
            to,
        })
    }

    /// Where a client in a pod of the node connects to.
    pub(crate) fn inside(&self) -> Result<SocketAddr> {
        Ok(match self.kind {
            Kind::Direct => SocketAddr::new(v4(&self.lab, "far")?.into(), INSIDE),
            Kind::Fairlead
            | Kind::FairleadDsr
            | Kind::FairleadXdp
            | Kind::Iptables
            | Kind::Nftables => cluster_ip(1).into(),
        })
    }

    /// Where a client outside the node connects to.
    pub(crate) fn outside(&self) -> Result<SocketAddr> {
        Ok(match self.kind {
            Kind::Direct => SocketAddr::new(v4(&self.lab, "far")?.into(), OUTSIDE),
            Kind::FairleadDsr | Kind::FairleadXdp => SocketAddr::new(EXTERNAL.into(), CLUSTER_PORT),
            Kind::Fairlead | Kind::Iptables | Kind::Nftables => {
                SocketAddr::new(v4(&self.lab, "node1")?.into(), NODE_PORT)
            }
        })
    }
}

/// A cluster IP that none of the many Services has.
fn cluster_ip(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 97, 0, last), CLUSTER_PORT)
}

/// `count` Services; the two that are measured are in their middle, where a rule is that is found
/// after as many others as the average one.
fn all(count: u32, far: Ipv4Addr, external: Option<Ipv4Addr>) -> Vec<Service> {
    let measured = |name: &str, last, port, node_port: Option<u16>| Service {
        name: name.to_owned(),
        frontend: cluster_ip(last),
        node_port,
        direct_return: external.filter(|_| node_port.is_some()),
        hashed: false,
        endpoints: vec![SocketAddrV4::new(far, port)],
    };
    let mut services = services(count.saturating_sub(2), ENDPOINTS);
    let middle = services.len() / 2;
    services.splice(
        middle..middle,
        [
            measured("inside", 1, INSIDE, None),
            measured("outside", 2, OUTSIDE, Some(NODE_PORT)),
        ],
    );
    services
}

fn start_agent(lab: &Lab, services: &[Service]) -> Result<(Agent, Vec<f64>)> {
    lab.apply_nodes()?;
    workload::write(lab.manifests(), services)?;
    let options = AgentOptions::flags(&["--run-firewall=false", "--cluster-cidr", POD_NETWORK]);
    let mut starts = Vec::new();
    let mut running = None;
    for _ in 0..STARTS {
        drop(running.take());
        let (agent, took) = cold_start(lab, "node1", &options)?;
        starts.push(took.as_secs_f64());
        running = Some(agent);
    }
    Ok((running.context("invariant: it is started")?, starts))
}

/// Agents on both nodes: the backend's node takes packets out of the tunnel, and answers.
fn start_agents_of_the_edge(lab: &Lab, services: &[Service], kind: Kind) -> Result<Vec<Agent>> {
    lab.apply_nodes()?;
    workload::write(lab.manifests(), services)?;
    let route = format!("route add {EXTERNAL} via {}\n", v4(lab, "node1")?);
    lab.router().ip(&route)?;
    let range = format!("{EXTERNAL}/32");
    let mut flags = vec![
        "--run-firewall=false",
        "--cluster-cidr",
        POD_NETWORK,
        "--service-external-ip-range",
        &range,
    ];
    if kind == Kind::FairleadXdp {
        driver::complete_checksums(lab)?;
        flags.extend(["--xdp-devices", "eth0"]);
    }
    let options = AgentOptions::flags(&flags);
    ["node1", "node2"]
        .into_iter()
        .map(|node| Ok(cold_start(lab, node, &options)?.0))
        .collect()
}

/// The direct way from outside, with as many hops as the node port's and the node on it both ways.
fn route_clients_through_the_node(lab: &Lab) -> Result<()> {
    let (client, node, far) = (v4(lab, "client")?, v4(lab, "node1")?, v4(lab, "far")?);
    lab.place("node2")
        .namespace
        .ip(&format!("route add {client}/32 via {node} dev eth0\n"))?;
    // Packets leave by the interface they came in by, of which the sender would be told.
    let settings = ["all", "eth0"].map(|of| format!("net.ipv4.conf.{of}.send_redirects=0"));
    run(lab
        .place("node1")
        .command("sysctl")
        .arg("--quiet")
        .args(settings))?;
    let router = format!("{}-router", lab.name());
    let (far, node) = (format!("{far}/32"), node.to_string());
    run(Command::new("ip").args(["-n", &router, "route", "add", &far, "via", &node]))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", error.trim());
    Ok(())
}

fn v4(lab: &Lab, name: &str) -> Result<Ipv4Addr> {
    match lab.address(name, false) {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => anyhow::bail!("{name}: {address} is not IPv4"),
    }
}
