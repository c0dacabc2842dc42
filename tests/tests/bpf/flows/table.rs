//! What stands in the table of flows, and what it means to the agent.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use agent::desired::{Backend, Choice, Frontend, LbService, Pool, Pools, Scope};
use model::{Protocol, SessionAffinity, SourceRanges};
use serde::Deserialize;

use crate::lab::At;

/// The node's own addresses.
pub(super) const NODE: [&str; 2] = ["172.31.0.1", "fd00::1"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) service: Service,
    #[serde(default)]
    pub(super) node: Node,
    pub(super) packet: Packet,
    pub(super) expected: Expected,
    pub(super) then: Option<Then>,
}

/// What the client's next packet meets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Then {
    /// Those that the Service has by then.
    pub(super) backends: Vec<FlowBackend>,
    pub(super) expected: Next,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Next {
    Word(NextWord),
    Other(Expected),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NextWord {
    Stays,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) protocol: String,
    pub(super) frontends: Vec<FlowFrontend>,
    pub(super) backends: Vec<FlowBackend>,
    #[serde(default)]
    pub(super) choice: FlowChoice,
    pub(super) affinity_seconds: Option<u64>,
    pub(super) source_ranges: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowFrontend {
    pub(super) address: SocketAddr,
    pub(super) scope: String,
    #[serde(default)]
    pub(super) inside: Policy,
    #[serde(default)]
    pub(super) outside: Policy,
    #[serde(default)]
    pub(super) direct_return: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
pub(super) enum Policy {
    #[default]
    Cluster,
    Local,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowBackend {
    pub(super) address: SocketAddr,
    pub(super) on: On,
    #[serde(default)]
    pub(super) draining: bool,
    pub(super) weight: Option<u16>,
    pub(super) node: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum On {
    Here,
    Elsewhere,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FlowChoice {
    #[default]
    Random,
    Source,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    pub(super) masquerade_all: bool,
    pub(super) cluster_cidr: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Packet {
    pub(super) from: From,
    pub(super) is: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum From {
    Outside,
    Pod,
    Node,
    NodeToPod,
    Tunnel,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Expected {
    Reached {
        backends: BTreeSet<SocketAddr>,
        source: Seen,
    },
    Tunnelled {
        tunnels: BTreeSet<IpAddr>,
    },
    Dropped {
        drop: String,
    },
    Rejected {
        reject: Rejection,
    },
    Word(Word),
}

/// Whose address the backend sees.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Seen {
    Client,
    Node,
    Service,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rejection {
    Rst,
    Icmp,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Untouched,
}

impl From {
    pub(super) fn at(self) -> At {
        match self {
            Self::Outside | Self::Tunnel => At::Uplink,
            Self::Pod => At::Pod,
            Self::Node => At::Node,
            Self::NodeToPod => At::NodeToPod,
        }
    }
}

impl Service {
    pub(super) fn write(&self, unit: &mut LbService) {
        let protocol = match self.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Udp,
        };
        let frontends = self.frontends.iter();
        unit.frontends = frontends.map(|flow| flow.frontend(protocol)).collect();
        unit.backends = self.backends.iter().map(FlowBackend::backend).collect();
        if self.choice == FlowChoice::Source {
            unit.choice = Choice::Hash {
                source: true,
                port: false,
                destination: false,
            };
        }
        if let Some(seconds) = self.affinity_seconds {
            let timeout = Duration::from_secs(seconds);
            unit.affinity = SessionAffinity::ClientIp { timeout };
        }
        if let Some(ranges) = &self.source_ranges {
            let ranges = ranges.iter().map(|range| range.parse().unwrap());
            unit.sources = SourceRanges::Only(ranges.collect());
        }
    }

    pub(super) fn is_random(&self) -> bool {
        self.choice == FlowChoice::Random && self.affinity_seconds.is_none()
    }

    pub(super) fn is_weighted(&self) -> bool {
        self.backends.iter().any(|backend| backend.weight.is_some())
    }
}

impl FlowFrontend {
    pub(super) fn frontend(&self, protocol: Protocol) -> Frontend {
        let scopes = [
            Scope::ClusterIp,
            Scope::NodePort,
            Scope::Loopback,
            Scope::HostPort,
            Scope::ExternalIp,
            Scope::LoadBalancer,
        ];
        let named = |scope: &Scope| scope.as_str() == self.scope;
        let pool = |policy| match policy {
            Policy::Cluster => Pool::Cluster,
            Policy::Local => Pool::Local,
        };
        Frontend {
            address: self.address.ip(),
            port: NonZeroU16::new(self.address.port()).unwrap(),
            protocol,
            scope: scopes.into_iter().find(named).expect("a kind of address"),
            inside: pool(self.inside),
            outside: pool(self.outside),
            direct_return: self.direct_return,
        }
    }
}

impl FlowBackend {
    pub(super) fn backend(&self) -> Backend {
        let local = self.on == On::Here;
        Backend {
            address: self.address.ip(),
            port: NonZeroU16::new(self.address.port()).unwrap(),
            local,
            pools: Pools {
                cluster: !self.draining,
                local: local && !self.draining,
            },
            weight: self.weight.unwrap_or(1),
            node: self.node,
        }
    }

    /// Where its answers come by.
    pub(super) fn answers_at(&self) -> At {
        match self.on {
            On::Elsewhere => At::Uplink,
            On::Here if NODE.contains(&&*self.address.ip().to_string()) => At::NodeToPod,
            On::Here => At::Pod,
        }
    }
}
