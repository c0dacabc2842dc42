//! What the edge serves, before any proxy.
//!
//! Made by [`super::compile`]; lowered to HAProxy, nginx and operators' templates, and asked by the
//! routing simulator. Everything in it is typed and ordered: equal clusters give equal plans.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model::{Kind, ObjectKey, Problem, Reason};

use super::value::{
    ApiKey, HeaderName, HeaderValue, HostMatch, Hostname, Id, Method, PathMatch, Pem, UrlPath,
};

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
    /// What is wrong with objects, lost claims among it.
    pub fn all_problems(&self) -> Vec<Problem> {
        let lost = self.losses.iter().map(|loss| {
            let Loss {
                origin,
                about,
                cause,
            } = loss;
            let message = format!("claims {about}, but {cause}");
            let effect = "this claim is not served";
            Problem::new(
                origin.kind,
                origin.key.clone(),
                &*origin.field,
                message,
                effect,
            )
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

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualHost {
    /// How its TLS ends here; `None` in clear text.
    pub tls: Option<HostTls>,
    /// Rules in order of precedence: the first whose match takes the request decides.
    pub rules: Vec<HttpRule>,
    /// What a request gets that no rule takes.
    pub unknown_path: Unknown,
}

/// TLS of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTls {
    /// Its certificate and key, in [`EdgePlan::certificates`].
    pub certificate: Id,
    /// What clients must show.
    pub clients: Option<ClientCertificates>,
    /// Who gave it.
    pub origin: Origin,
}

/// What clients must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Authorities, in [`EdgePlan::certificates`].
    pub authorities: Id,
    /// Whether a client without any is refused.
    pub is_required: bool,
}

/// One rule of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Generated; unique in the plan, and stable while the rule is.
    pub id: Id,
    /// Which requests.
    pub matches: RequestMatch,
    /// Who may.
    pub access: Access,
    /// What is changed on the way.
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub action: Action,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Largest request body; `None` is any.
    pub max_body_bytes: Option<u64>,
    /// Who asked for it.
    pub origin: Origin,
}

/// Which requests. Everything given must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestMatch {
    /// Path, without the query.
    pub path: PathMatch,
    /// Method; `None` is any.
    pub method: Option<Method>,
    /// Headers and what they must be.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters and what they must be.
    pub query: Vec<(HeaderName, ValueMatch)>,
}

impl RequestMatch {
    /// By the path alone.
    pub fn path(path: PathMatch) -> Self {
        Self {
            path,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }
}

/// What a header or a parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(HeaderValue),
    /// Matched somewhere by this expression (RE2 syntax that is PCRE too).
    Regex(HeaderValue),
    /// There, whatever it is.
    Present,
}

/// Who may use a rule. Everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A header that must have one of these values; none in the list lets nobody in, which is how
    /// a missing Secret fails closed.
    pub api_key: Option<(HeaderName, Vec<ApiKey>)>,
    /// Networks that may; empty is everybody.
    pub allowed_sources: Vec<IpNet>,
    /// Networks that may not.
    pub denied_sources: Vec<IpNet>,
    /// Basic authentication: names and `crypt(3)` hashes; empty lets nobody in.
    pub basic_users: Option<Vec<(HeaderValue, HeaderValue)>>,
}

/// A change on the way. Applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A header towards the backend.
    RequestHeader(HeaderChange),
    /// A header towards the client.
    ResponseHeader(HeaderChange),
    /// Another `Host` towards the backend.
    RewriteHost(Hostname),
    /// Another path towards the backend.
    RewritePath(PathRewrite),
    /// A copy to another backend, whose answer is dropped.
    Mirror(Id),
}

/// A change of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// In place of any there are.
    Set(HeaderName, HeaderValue),
    /// Beside any there are.
    Add(HeaderName, HeaderValue),
    /// None any more.
    Remove(HeaderName),
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// This one, whatever it was.
    Full(UrlPath),
    /// The matched prefix becomes this one.
    Prefix(UrlPath),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To backends.
    Forward(Forward),
    /// Back to the client, which asks elsewhere.
    Redirect(Redirect),
    /// An answer with this status.
    Respond(u16),
}

/// To backends by weight; none at all answers 500 (Gateway API), and 503 where servers lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Backends in [`EdgePlan::backends`] and their weights; 0 gets nothing.
    pub to: Vec<(Id, u32)>,
}

impl Forward {
    /// All to one backend.
    pub fn to(backend: Id) -> Self {
        Self {
            to: vec![(backend, 1)],
        }
    }
}

/// Elsewhere; what is not given stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme: whether https.
    pub to_https: Option<bool>,
    /// Host.
    pub host: Option<Hostname>,
    /// Port; absent with a scheme it is the scheme's own.
    pub port: Option<NonZeroU16>,
    /// Path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// How long something may take; what is not given is the configuration's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a server accepts a connection.
    pub connect: Option<Duration>,
    /// Between two bytes of a server's answer.
    pub server: Option<Duration>,
    /// For the whole answer.
    pub request: Option<Duration>,
}

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

/// Which object, and which part of it, asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `metadata.creationTimestamp`: the oldest of two claims wins.
    pub created_unix_seconds: i64,
    /// The object.
    pub key: ObjectKey,
    /// Its kind.
    pub kind: Kind,
    /// Path of the field.
    pub field: Arc<str>,
}

impl Ord for Origin {
    /// By age, then by name, then in the order of lists: the second rule is before the eleventh.
    fn cmp(&self, other: &Self) -> Ordering {
        let object = (self.created_unix_seconds, &self.key, self.kind);
        object
            .cmp(&(other.created_unix_seconds, &other.key, other.kind))
            .then_with(|| self.parts().cmp(other.parts()))
    }
}

impl Origin {
    /// Parts of the field. Of two indices the longer text is the greater number.
    fn parts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.field.split(['[', ']']).map(|part| {
            let is_index = part.bytes().all(|byte| byte.is_ascii_digit());
            (if is_index { part.len() } else { 0 }, part)
        })
    }
}

impl PartialOrd for Origin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A claim that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Who made it.
    pub origin: Origin,
    /// What it was about: a host, a path, a port.
    pub about: String,
    /// Why.
    pub cause: LossCause,
}

/// Why a claim is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// An older one has it.
    OlderClaim(Origin),
    /// The host-claim policy does not let its namespace have the host.
    HostNotAllowed,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OlderClaim(by) => write!(f, "{} {} {} is older", by.kind, by.key, by.field),
            Self::HostNotAllowed => f.write_str("host_claims does not let its namespace have it"),
        }
    }
}

/// What operators' templates see beside the plan: the models of the originals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// pyconfd's `domains`, by domain.
    pub domains: BTreeMap<Hostname, Domain>,
    /// kube2lb's services, in order.
    pub services: Vec<ServiceInformation>,
    /// kube2lb's nodes: names and addresses, in order.
    pub nodes: Vec<(Arc<str>, IpAddr)>,
}

/// pyconfd's view of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `proto`: `http`, `https`, or a word that a template looks for.
    pub protocol: HeaderName,
    /// The backend that has its servers, in [`EdgePlan::backends`].
    pub backend: Id,
    /// Who asked for it.
    pub origin: Origin,
}

/// kube2lb's view of one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInformation {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Where the edge listens for it.
    pub listen: Listen,
    /// `http`, `tcp`, or a word that a template looks for.
    pub mode: HeaderName,
    /// `tcp` or `udp`.
    pub protocol: model::Protocol,
    /// `nodePort`.
    pub node_port: Option<NonZeroU16>,
    /// Server names made of the configured templates, then the annotation's.
    pub names: Vec<HostMatch>,
    /// Those of the annotation alone.
    pub external: Vec<HostMatch>,
    /// `kube2lb/backend-timeout`.
    pub timeout: Option<Duration>,
    /// The backend that has its servers, in [`EdgePlan::backends`].
    pub backend: Id,
}
