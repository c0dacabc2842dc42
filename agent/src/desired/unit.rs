//! One port of one Service or pod in one family, which is balanced as a unit: who asks for it, where
//! clients find it, what is behind, and how that is chosen from. Plain values; who makes them is
//! [`super::service`] and [`super::host_port`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{IpFamily, Kind, ObjectKey, PortName, Protocol, SessionAffinity, SourceRanges};

/// Who asks for a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A Service.
    Service(ObjectKey),
    /// A pod with host ports.
    Pod(ObjectKey),
}

impl Owner {
    /// Namespace and name.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Service(key) | Self::Pod(key) => key,
        }
    }

    /// Kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Pod(_) => Kind::Pod,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}

/// One port of one Service or pod in one family: what is balanced as a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LbServiceKey {
    /// Whose it is.
    pub owner: Owner,
    /// Name of the port.
    pub port: PortName,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Family of frontends and backends.
    pub family: IpFamily,
}

impl fmt::Display for LbServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port `{}`/{}", self.owner, self.port, self.protocol)
    }
}

/// Where clients of a unit find it, what is behind, and how that is chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbService {
    /// Addresses and ports in order, without those that an older owner has.
    pub frontends: Arc<[Frontend]>,
    /// Targets in order, those that only finish what they have begun among them.
    pub backends: Arc<[Backend]>,
    /// How a new connection's backend is chosen.
    pub choice: Choice,
    /// Whether a client stays with its backend.
    pub affinity: SessionAffinity,
    /// Who may use a load balancer's addresses.
    pub sources: SourceRanges,
}

impl LbService {
    /// The members of a pool, in order.
    pub fn pool(&self, pool: Pool) -> impl Iterator<Item = &Backend> {
        self.backends
            .iter()
            .filter(move |backend| backend.pools.contains(pool))
    }

    /// Whether some client's connections go to this node's endpoints alone.
    pub fn uses_local_pool(&self) -> bool {
        let mut frontends = self.frontends.iter();
        frontends.any(|frontend| frontend.inside == Pool::Local || frontend.outside == Pool::Local)
    }
}

/// How a new connection's backend is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At random, by weight.
    Random,
    /// By consistent hashing of parts of the packet.
    Hash {
        /// The client's address.
        source: bool,
        /// The client's port.
        port: bool,
        /// The Service's address and port.
        destination: bool,
    },
}

/// Which endpoints a frontend leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Traffic policy Cluster.
    Cluster,
    /// Traffic policy Local.
    Local,
}

/// One address, port and protocol that clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
    /// Protocol.
    pub protocol: Protocol,
    /// What kind of address it is.
    pub scope: Scope,
    /// For clients on this node and its pods.
    pub inside: Pool,
    /// For clients on other machines.
    pub outside: Pool,
    /// Whether replies to other machines leave from the backend's node.
    pub direct_return: bool,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            SocketAddr::new(self.address, self.port.get()),
            self.protocol
        )
    }
}

/// Kind of a frontend's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Known within the cluster.
    ClusterIp,
    /// An address of this node.
    NodePort,
    /// A loopback address, on a node port.
    Loopback,
    /// An address of this node, on a pod's host port.
    HostPort,
    /// One of `spec.externalIPs`.
    ExternalIp,
    /// An address of a load balancer.
    LoadBalancer,
}

impl Scope {
    /// As people know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::Loopback => "NodePort (loopback)",
            Self::HostPort => "hostPort",
            Self::ExternalIp => "externalIP",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// One target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
    /// Whether it runs on this node.
    pub local: bool,
    /// Where new connections find it.
    pub pools: Pools,
    /// Its share of new connections, against the others'.
    pub weight: u16,
    /// Address of its node, where clients' packets are sent as they are.
    pub node: Option<IpAddr>,
}

/// Pools a backend is in. In none, it only finishes what it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pools {
    /// [`Pool::Cluster`].
    pub cluster: bool,
    /// [`Pool::Local`].
    pub local: bool,
}

impl Pools {
    /// Whether `pool` is one of them.
    pub fn contains(self, pool: Pool) -> bool {
        match pool {
            Pool::Cluster => self.cluster,
            Pool::Local => self.local,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port.get()).fmt(f)
    }
}
