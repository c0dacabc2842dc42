//! What rules forward to: servers, and how they are chosen and asked.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use model::ObjectKey;

use super::{Origin, Timeouts};
use crate::edge::value::{HeaderName, Hostname, Id, UrlPath};

/// What rules forward to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Generated.
    pub id: Id,
    /// What servers speak.
    pub protocol: BackendProtocol,
    /// How a server is chosen.
    pub balance: Balance,
    /// Servers, in the order of their names.
    pub servers: Vec<Server>,
    /// How servers are asked whether they are well.
    pub health: Option<HealthCheck>,
    /// How long servers may take.
    pub timeouts: Timeouts,
    /// Clients stay with their server.
    pub sticky: Option<StickyCookie>,
    /// Servers are told the client's address first.
    pub sends_proxy_protocol: bool,
    /// Who asked for it.
    pub origin: Origin,
}

/// What servers speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendProtocol {
    /// HTTP/1.1 (and WebSocket) in clear text.
    Http,
    /// HTTP/2 in clear text, by prior knowledge (gRPC).
    H2c,
    /// HTTP/1.1 in TLS.
    Https(BackendTls),
    /// Bytes.
    Tcp,
}

/// TLS towards servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// Name in SNI, which the certificate must have too.
    pub server_name: Option<Hostname>,
    /// Authorities, in [`EdgePlan::certificates`]; `None` verifies nothing.
    pub authorities: Option<Id>,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// Fewest connections.
    LeastConnections,
    /// By the client's address, consistently.
    Source,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Generated of the pod or node and port, so it stays while those do.
    pub name: Id,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
    /// 0 to 256; 0 gets no new connections.
    pub weight: u16,
    /// Whether it gets new connections.
    pub state: ServerState,
    /// The pod or node it is, for templates and people.
    pub target: Option<ObjectKey>,
}

/// Whether a server gets new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It does.
    Active,
    /// It ends: what it has goes on.
    Draining,
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Port, where it is not the server's.
    pub port: Option<NonZeroU16>,
    /// Between two.
    pub interval: Duration,
    /// For an answer.
    pub timeout: Duration,
    /// Good answers until it is well.
    pub rise: u32,
    /// Bad answers until it is not.
    pub fall: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether it accepts.
    Tcp,
    /// Whether it answers 2xx or 3xx.
    Http {
        /// Path.
        path: UrlPath,
        /// `Host`; the server's address without it.
        host: Option<Hostname>,
        /// In TLS, unverified, as the kubelet asks.
        is_tls: bool,
    },
}

/// A cookie by which clients stay with their server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    /// Name.
    pub name: HeaderName,
    /// How long browsers keep it; `None` is until they close.
    pub max_age: Option<Duration>,
}
