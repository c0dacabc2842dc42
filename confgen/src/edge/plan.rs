//! What the edge serves, before any proxy.
//!
//! Made by [`super::compile`]; lowered to HAProxy, nginx and operators' templates, and asked by the
//! routing simulator. Everything in it is typed and ordered: equal clusters give equal plans.

mod backend;
mod origin;
mod rule;
mod views;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{Problem, Reason};

pub use backend::{
    Backend, BackendProtocol, BackendTls, Balance, HealthCheck, Probe, Server, ServerState,
    StickyCookie,
};
pub use origin::{Loss, LossCause, Origin};
pub use rule::{
    Access, Action, ClientCertificates, Filter, Forward, HeaderChange, HostTls, HttpRule,
    PathRewrite, Redirect, RequestMatch, Timeouts, ValueMatch, VirtualHost,
};
pub use views::{Domain, ServiceInformation, Views};

use super::value::{HostMatch, Id, Pem, UrlPath};

/// What the edge serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgePlan {
    /// What is listened on.
    pub listeners: Arc<BTreeMap<Listen, Listener>>,
    /// What rules forward to. Each is shared, so that a change of one endpoint is told by address.
    pub backends: BTreeMap<Id, Arc<Backend>>,
    /// Certificates and keys, by the hash of their content.
    pub certificates: Arc<BTreeMap<Id, Certificate>>,
    /// What operators' templates see beside all this.
    pub views: Arc<Views>,
    /// Claims that another won, or that the host-claim policy refused.
    pub losses: Arc<Vec<Loss>>,
    /// What is wrong with single objects.
    pub problems: Arc<Vec<Problem>>,
}

impl EdgePlan {
    /// Whether everything is there that a host's TLS needs. Without it the host is closed: another
    /// host's certificate asks for no certificate of its clients.
    pub fn can_end_tls(&self, host: &VirtualHost) -> bool {
        host.tls.as_ref().is_some_and(|tls| {
            let authorities = tls.clients.iter().map(|clients| &clients.authorities);
            let mut all = authorities.chain([&tls.certificate]);
            all.all(|id| self.certificates.contains_key(id))
        })
    }

    /// What is wrong with objects, lost claims among it.
    pub fn all_problems(&self) -> Vec<Problem> {
        let lost = self.losses.iter().map(|loss| {
            let Loss {
                origin,
                about,
                cause,
            } = loss;
            let message = format!("claims {about}, but {cause}");
            origin
                .problem(message, "this claim is not served")
                .because(Reason::Conflict)
        });
        self.problems.iter().cloned().chain(lost).collect()
    }
}

/// An address and port of the edge node; the unspecified address is all of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: NonZeroU16,
}

impl fmt::Display for Listen {
    /// As both proxies read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port.get()).fmt(f)
    }
}

/// What happens at one [`Listen`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// HTTP in clear text.
    Http(HttpListener),
    /// TLS: hosts that end here, and hosts whose bytes go on as they are.
    Tls(TlsListener),
    /// Bytes to one backend.
    Tcp(TcpListener),
}

/// HTTP hosts of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpListener {
    /// By what they match, in order of precedence.
    pub hosts: BTreeMap<HostMatch, VirtualHost>,
    /// What a request for no known host gets.
    pub unknown_host: Unknown,
    /// Answers 200 at this path for unknown hosts: load balancers in front ask for it.
    pub status_path: Option<UrlPath>,
    /// Clients speak the PROXY protocol first.
    pub accepts_proxy_protocol: bool,
}

/// TLS of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsListener {
    /// Hosts whose TLS ends here; each has [`VirtualHost::tls`].
    pub http: HttpListener,
    /// Hosts passed through by SNI.
    pub passthrough: BTreeMap<HostMatch, SniRoute>,
    /// Shown to clients that ask for no known host, in [`EdgePlan::certificates`]; without it their
    /// handshakes are refused.
    pub unknown_host: Option<Id>,
}

impl TlsListener {
    /// Every host in order of precedence, an exact name before another's wildcard; with the way of
    /// those that are passed through.
    pub fn hosts(&self) -> BTreeMap<&HostMatch, Option<&SniRoute>> {
        let ended = self.http.hosts.keys().map(|host| (host, None));
        let passed = self.passthrough.iter();
        ended
            .chain(passed.map(|(host, route)| (host, Some(route))))
            .collect()
    }
}

/// One host's TLS connections, passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SniRoute {
    /// To whom.
    pub forward: Forward,
    /// Who asked for it.
    pub origin: Origin,
}

/// A port whose bytes are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpListener {
    /// To whom.
    pub forward: Forward,
    /// Clients speak the PROXY protocol first.
    pub accepts_proxy_protocol: bool,
    /// Who asked for it.
    pub origin: Origin,
}

/// What a request gets that no host or no rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// The connection is closed without an answer (nginx's 444).
    #[default]
    Close,
    /// This status.
    Status(u16),
    /// A request to this backend.
    Forward(Forward),
}

/// Certificates, and their key where they are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the leaf first; or authorities.
    pub chain: Pem,
    /// The leaf's key.
    pub key: Option<Pem>,
    /// When the first of the chain ends, in seconds since 1970.
    pub expires_unix_seconds: i64,
    /// Whose it is.
    pub origin: Origin,
}
