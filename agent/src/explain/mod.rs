//! Why a packet goes where it goes: the way the eBPF programs take through the tables, in words.
//!
//! [`explain`] decides over looked-up values; [`lookups`] looks them up in the kernel. The order
//! of the steps is that of `agent-ebpf`'s `connect`, `services`, `connections` and `source`. Where
//! the tables are not what `Desired` asks for, a step says so.

pub mod ask;
mod beside;
mod choice;
mod client;
mod connection;
mod egress;
mod fast_path;
mod frontend;
mod landing;
pub mod lookups;
mod policy;
mod pool;
mod resolve;
pub mod source;
pub mod step;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use agent_abi::Address;
use agent_abi::connection::TupleV1;
use model::{Cluster, ObjectKey, Problem, Protocol};

use crate::applier::Failure;
use crate::desired::Desired;
use crate::devices::fast_path::FastPath;
use crate::lb::ebpf::entries::address;
use crate::sys::map::TableError;
use client::Client;
use lookups::Lookups;
use pool::Pooled;
pub use step::{Explanation, Step, Topic, Verdict};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whose packets.
    pub from: ask::Sender,
    /// Where to.
    pub to: ask::Destination,
    /// By which protocol; absent for that of the Service's port, or TCP.
    pub protocol: Option<Protocol>,
}

/// What answers are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The kernel's tables.
    pub lookups: &'a dyn Lookups,
    /// The cluster as last heard.
    pub cluster: &'a Cluster,
    /// What is wanted for this node.
    pub desired: &'a Desired,
    /// Whether, and where, TCP is balanced at `connect`.
    pub connect: Connect<'a>,
    /// What skips the host's stack.
    pub fast_path: &'a FastPath,
    /// Whether network policy is on.
    pub policed: bool,
    /// What of the wanted could not be applied.
    pub failures: &'a [Failure],
    /// What is wrong with objects.
    pub problems: &'a [Problem],
}

/// Whether the `connect` programs are attached.
#[derive(Clone, Copy, Debug)]
pub enum Connect<'a> {
    /// To this cgroup.
    Attached(&'a str),
    /// They are not, for this reason.
    Absent(&'a str),
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Too early.
    #[error("the agent has not heard the whole cluster yet; see `fairlead-agent status`")]
    NotSynced,
    /// No such pod.
    #[error(
        "Pod {0} is not known on this node, which knows its own pods only; ask the agent of the pod's node, or give the pod's address"
    )]
    UnknownPod(ObjectKey),
    /// A pod of another node.
    #[error(
        "Pod {pod} runs on {node}, where its connections are balanced; ask the agent there, or give the pod's address to see what this node does with its packets"
    )]
    PodElsewhere {
        /// The pod.
        pod: ObjectKey,
        /// Its node.
        node: String,
    },
    /// A pod that is not up, or of the other family.
    #[error("Pod {0} has no address that could reach the Service's; give an address")]
    PodWithoutAddress(ObjectKey),
    /// No such Service.
    #[error("there is no Service {0}")]
    UnknownService(ObjectKey),
    /// Several ports, or none of this name.
    #[error("Service {service}: say which port: {ports}")]
    WhichPort {
        /// The Service.
        service: ObjectKey,
        /// Those there are.
        ports: String,
    },
    /// A Service of the other family.
    #[error("{from} and {to} are not of one family")]
    Families {
        /// The client.
        from: String,
        /// What it asks for.
        to: String,
    },
    /// The kernel does not answer.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Explains what becomes of a new connection, or of the one whose source port is given.
///
/// # Errors
/// [`ExplainError`] where the question names what is not there, or the kernel refuses.
pub fn explain(question: &Question, facts: &Facts<'_>) -> Result<Explanation, ExplainError> {
    let (client, target, mut steps) = match resolve::resolve(question, facts)? {
        resolve::Resolved::Packet { client, target } => (client, target, Vec::new()),
        resolve::Resolved::NotBalanced(explanation) => return Ok(explanation),
    };
    steps.push(client.step());
    let packet = Packet { client, target };
    let (explanation, way) = balance(&packet, facts, steps)?;
    let explanation = egress::leave(&packet, facts, explanation)?;
    let explanation = policy::judge(&packet, facts, explanation);
    Ok(match way {
        Way::AsItIs => fast_path::add(&packet, facts, explanation),
        Way::Translated => explanation,
    })
}

/// What packets are on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// What the client has sent.
    AsItIs,
    /// Something else, or nothing.
    Translated,
}

/// Where the service tables send the packet.
fn balance(
    packet: &Packet,
    facts: &Facts<'_>,
    mut steps: Vec<Step>,
) -> Result<(Explanation, Way), ExplainError> {
    let translated = |explanation| Ok((explanation, Way::Translated));
    let found = frontend::find(packet, facts, &mut steps)?;
    if let Some(existing) = connection::find(packet, facts, &mut steps)? {
        return translated(existing.explanation(packet, steps));
    }
    let Some(found) = found else {
        let result = format!("{} passes untouched", packet);
        let explanation = Explanation::new(steps, Verdict::Untouched, result);
        return Ok((explanation, Way::AsItIs));
    };
    let pool = match pool::find(packet, &found, facts, &mut steps)? {
        Pooled::Pool(pool) => pool,
        Pooled::Nobody(verdict, why) => {
            let what = verdict.as_str();
            return translated(Explanation::new(
                steps,
                verdict,
                format!("{packet} is {what}: {why}"),
            ));
        }
    };
    let candidates = choice::choose(packet, &found, &pool, facts, &mut steps)?;
    if candidates.is_empty() {
        let result = format!("{packet} is dropped: the tables lack the backend");
        return translated(Explanation::new(steps, Verdict::Dropped, result));
    }
    let settings = facts.lookups.settings()?;
    let way = match pool.at_connect {
        true => Way::AsItIs,
        false => Way::Translated,
    };
    let explanation = landing::land(packet, &found, &pool, &candidates, &settings, steps);
    Ok((explanation, way))
}

/// The first packet of what is asked about.
#[derive(Clone, Debug)]
struct Packet {
    client: Client,
    target: Target,
}

/// An address, port and protocol that a client uses.
#[derive(Clone, Copy, Debug)]
struct Target {
    address: SocketAddr,
    protocol: Protocol,
}

impl Packet {
    /// As the tables have it; port 0 where none is given.
    fn tuple(&self) -> TupleV1 {
        let port = self.client.port.map_or(0, NonZeroU16::get);
        TupleV1 {
            source: address(self.client.address),
            destination: address(self.target.address.ip()),
            source_port: port.to_be_bytes(),
            destination_port: self.target.address.port().to_be_bytes(),
            protocol: self.target.protocol.number(),
            _pad: [0; 3],
        }
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} -> {}",
            endpoint(self.client.address, self.client.port),
            self.target
        )
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol)
    }
}

/// An address, with its port where that is known.
fn endpoint(address: IpAddr, port: Option<NonZeroU16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port.get()).to_string(),
        None => address.to_string(),
    }
}

/// An address of the tables.
fn ip(address: &Address) -> IpAddr {
    Ipv6Addr::from(*address).to_canonical()
}

/// An address and port of the tables.
fn socket(address: &Address, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(ip(address), u16::from_be_bytes(port))
}

/// The first few of a list, and how many more there are.
fn some_of(items: &[String]) -> String {
    /// What fits a line or two.
    const SHOWN: usize = 8;
    let shown = items.get(..SHOWN).unwrap_or(items).join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
