//! One event, as it travels, as `--output json` prints it, and as a line for people.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What became of a packet or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The packet was dropped
    #[value(alias = "drop")]
    Dropped,
    /// The packet was answered with an error
    #[value(alias = "reject")]
    Rejected,
    /// The connection passed, and an audited policy would drop it
    #[value(alias = "audit")]
    Audited,
    /// The connection passed
    #[value(alias = "allow")]
    Allowed,
}

impl Verdict {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Audited => "audited",
            Self::Allowed => "allowed",
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Address.
    pub address: IpAddr,
    /// Port; absent where the protocol has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `namespace/name` of the pod that has the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Name of the node that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            port,
            pod,
            node,
        } = self;
        if let Some(name) = pod.as_ref().or(node.as_ref()) {
            if address.is_unspecified() {
                return f.write_str(name);
            }
            write!(f, "{name} ")?;
        }
        match port {
            Some(port) => write!(f, "{}", SocketAddr::new(*address, *port)),
            None => write!(f, "{address}"),
        }
    }
}

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOf {
    /// `namespace/name`.
    pub name: String,
    /// Kind of that object: a Service, or a Pod with host ports.
    pub kind: String,
    /// Name of the port.
    pub port: String,
}

/// A policy, and what of it decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyOf {
    /// Kind.
    pub kind: String,
    /// `namespace/name`, or the name alone.
    pub name: String,
    /// Index in `ingress` or `egress`; absent where the policy isolates the pod, and no rule allows
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u16>,
}

impl fmt::Display for PolicyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, rule } = self;
        match rule {
            Some(rule) => write!(f, "rule {rule} of {kind} {name}"),
            None => write!(f, "{kind} {name} isolates the pod, and no rule allows it"),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// RFC 3339.
    pub time: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why: the counter's name, without `drop_`.
    pub reason: String,
    /// Which rules were asked: `ingress` or `egress`, seen from the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Where it was seen: `from-pod`, `to-pod`, `uplink`, `egress`, `xdp`; `connect` where a process
    /// was refused as it connected: it has no address yet, and its cgroup tells the pod.
    pub hook: String,
    /// Interface; empty where there was none.
    pub interface: String,
    /// Protocol.
    pub protocol: String,
    /// Who sent the packet.
    pub source: End,
    /// To whom.
    pub destination: End,
    /// Who is really at the other end, where the packet says another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<End>,
    /// Service that it went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceOf>,
    /// Policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyOf>,
    /// Events like it since the last one that are not shown.
    pub suppressed: u32,
}

impl Flow {
    /// Why, for people.
    pub fn why(&self) -> String {
        let mut why = match (&self.policy, self.reason.as_str()) {
            (Some(policy), _) => policy.to_string(),
            (None, "policy_ingress" | "policy_egress") => {
                "no pod is known at the address, or its rules are not in force".to_owned()
            }
            (None, reason) => meaning(reason).to_owned(),
        };
        if let Some(direction) = self.direction.as_ref().filter(|_| self.policy.is_some()) {
            why = format!("{direction}: {why}");
        }
        if self.suppressed > 0 {
            why += &format!(" ({} more like it)", self.suppressed);
        }
        why
    }

    /// The cells of its line.
    pub fn cells(&self) -> [String; 6] {
        let mut destination = self.destination.to_string();
        if let Some(peer) = &self.peer {
            // Of a packet to the pod, the peer is behind its source.
            destination += &match self.hook.as_str() {
                "to-pod" => format!(" for {peer}"),
                _ => format!(" at {peer}"),
            };
        }
        let service = self.service.as_ref();
        [
            self.time.clone(),
            self.verdict.as_str().to_owned(),
            format!("{}/{}", self.hook, self.protocol),
            format!("{} -> {destination}", self.source),
            service.map_or_else(|| "-".to_owned(), |service| service.name.clone()),
            self.why(),
        ]
    }
}

/// Names of [`Flow::cells`].
pub const HEADER: [&str; 6] = ["TIME", "VERDICT", "WHERE", "CONNECTION", "SERVICE", "WHY"];

fn meaning(reason: &str) -> &str {
    match reason {
        "packets_rejected" | "socket_rejected" => "the Service has no endpoint",
        "no_local_endpoint" => "traffic policy Local, and no endpoint is on this node",
        "source_range" => "not in loadBalancerSourceRanges",
        "no_backend" => "the endpoint was gone from the tables",
        "no_port" => "no source port was free",
        "table_full" => "the connection table is full",
        "no_route" => "no route to the endpoint, or back to the client",
        "unsupported" => "a fragment or header that cannot be translated",
        "too_big" => "does not fit the tunnel; the sender was told",
        "failed" => "the kernel refused to change or send the packet",
        "packet_connections" => "",
        other => other,
    }
}

/// What a stream says between its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Records that came faster than the client read, or than the agent did.
    pub lost: u64,
}

/// What stands between what was kept and what comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// From when on nothing is missing without being told. RFC 3339.
    pub following: String,
}

/// A line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// An event.
    Flow(Box<Flow>),
    /// Some are missing here.
    Lost(Lost),
    /// What is asked for is in force.
    Following(Following),
}
