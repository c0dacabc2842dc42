//! What HAProxy's template prints: sections and their parts, every name generated.

use serde::Serialize;

use super::options;

/// The whole configuration.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    pub(super) options: options::View<'a>,
    pub(super) generation: String,
    pub(super) userlists: Vec<Userlist>,
    pub(super) http: Vec<HttpFrontend>,
    pub(super) tls: Vec<TlsFrontend>,
    pub(super) tcp: Vec<TcpFrontend>,
    pub(super) backends: Vec<Section>,
}

#[derive(Debug, Serialize)]
pub(super) struct Userlist {
    pub(super) name: String,
    pub(super) users: Vec<User>,
}

#[derive(Debug, Serialize)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) hash: String,
}

/// A frontend that routes requests by host and path.
#[derive(Debug, Serialize)]
pub(super) struct HttpFrontend {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) is_v6_only: bool,
    pub(super) accepts_proxy: bool,
    /// Socket on which it gets what a TLS frontend before it does not pass through.
    pub(super) loopback: Option<String>,
    pub(super) tls: Option<Termination>,
    pub(super) scheme: &'static str,
    /// Where it is not the scheme's own.
    pub(super) port: Option<u16>,
    /// Beginning of the names of the maps of its hosts.
    pub(super) maps: String,
    pub(super) wildcard_labels: Vec<usize>,
    pub(super) status_path: Option<String>,
    pub(super) any_site: Option<String>,
    pub(super) choices: Vec<Choice>,
    pub(super) splits: Vec<Split>,
    /// Section for requests of unknown hosts.
    pub(super) unknown: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Termination {
    pub(super) list: String,
    pub(super) is_strict: bool,
    pub(super) checks_sni: bool,
}

/// A rule that looks at more than host and path.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    pub(super) group: String,
    pub(super) rule: String,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) method: String,
    pub(super) regex: String,
    pub(super) hex: Option<String>,
    pub(super) is_empty: bool,
    pub(super) list: Option<String>,
}

/// Sections by weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Split {
    pub(super) name: String,
    pub(super) total: u64,
    pub(super) parts: Vec<SplitPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SplitPart {
    pub(super) section: String,
    /// Rolls below this one, and not below an earlier part's, are its.
    pub(super) below: u64,
}

/// A frontend that passes TLS on by its SNI.
#[derive(Debug, Serialize)]
pub(super) struct TlsFrontend {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) is_v6_only: bool,
    pub(super) accepts_proxy: bool,
    pub(super) maps: String,
    pub(super) wildcard_labels: Vec<usize>,
    pub(super) default: Option<String>,
    pub(super) splits: Vec<Split>,
}

#[derive(Debug, Serialize)]
pub(super) struct TcpFrontend {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) is_v6_only: bool,
    pub(super) accepts_proxy: bool,
    pub(super) default: Option<String>,
    pub(super) splits: Vec<Split>,
}

/// A `backend` section: servers, or an answer of the proxy's own.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) is_tcp: bool,
    pub(super) balance: &'static str,
    pub(super) connect_ms: Option<u128>,
    pub(super) server_ms: Option<u128>,
    pub(super) cookie: Option<Cookie>,
    pub(super) check: Option<Check>,
    pub(super) options: ServerOptions,
    pub(super) rules: Vec<Processing>,
    pub(super) servers: Vec<ServerLine>,
    pub(super) loopback: Vec<String>,
}

impl Section {
    /// A section without servers.
    pub(super) fn answering(name: &str, processing: Processing) -> Self {
        Self {
            name: name.to_owned(),
            is_tcp: false,
            balance: "roundrobin",
            connect_ms: None,
            server_ms: None,
            cookie: None,
            check: None,
            options: ServerOptions::default(),
            rules: vec![processing],
            servers: Vec::new(),
            loopback: Vec::new(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Cookie {
    pub(super) name: String,
    pub(super) max_age_s: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) interval_ms: u128,
    pub(super) timeout_ms: u128,
    pub(super) rise: u32,
    pub(super) fall: u32,
    pub(super) port: Option<u16>,
    pub(super) is_tls: bool,
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
}

/// What all servers of a section have in common.
#[derive(Debug, Default, Serialize)]
pub(super) struct ServerOptions {
    pub(super) is_h2: bool,
    pub(super) is_tls: bool,
    pub(super) server_name: Option<String>,
    pub(super) authorities: Option<String>,
    pub(super) sends_proxy: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct ServerLine {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) weight: u16,
}

/// What a section does with a rule's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Processing {
    /// The rule; `None` is all of the section's requests.
    pub(super) rule: Option<String>,
    pub(super) denied: Option<String>,
    pub(super) allowed: Option<String>,
    pub(super) key: Option<KeyCheck>,
    pub(super) users: Option<String>,
    pub(super) max_body_bytes: Option<u64>,
    pub(super) server_ms: Option<u128>,
    pub(super) steps: Vec<Step>,
    pub(super) redirect: Option<RedirectTo>,
    pub(super) respond: Option<u16>,
    pub(super) closes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct KeyCheck {
    pub(super) header: String,
    /// File of the key's hash; without it nobody gets in.
    pub(super) list: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// `http-request` or `http-response`.
    pub(super) of: &'static str,
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) pattern: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RedirectTo {
    pub(super) scheme: Option<&'static str>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) keeps_port: bool,
    pub(super) status: u16,
}
