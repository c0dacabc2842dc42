//! What nginx's template prints: blocks and their parts, every name generated.

use serde::Serialize;

use super::options;

/// The whole configuration.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    pub(super) options: options::View<'a>,
    pub(super) generation: String,
    pub(super) run: &'a str,
    pub(super) hash_size: usize,
    pub(super) zone_kib: usize,
    pub(super) sources: Vec<Sources>,
    pub(super) conditions: Vec<Condition>,
    pub(super) choices: Vec<Choice>,
    pub(super) additions: Vec<Addition>,
    pub(super) redirects: Vec<RedirectPath>,
    pub(super) splits: Vec<Split>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) servers: Vec<ServerBlock>,
    pub(super) stream: Option<Stream>,
}

/// A variable that is 1 for clients of these networks.
#[derive(Debug, Serialize)]
pub(super) struct Sources {
    pub(super) name: String,
    pub(super) networks: Vec<String>,
}

/// A variable that is 1 where another has a value.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Condition {
    pub(super) name: String,
    pub(super) source: String,
    /// What `map` compares with: `~expression`, or a value.
    pub(super) patterns: Vec<String>,
    pub(super) found: u8,
    pub(super) otherwise: u8,
}

/// A variable that is 1 where all of a rule's conditions hold.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) conditions: Vec<String>,
    /// A 1 for each.
    pub(super) all: String,
}

/// A header's value with one more.
#[derive(Debug, Serialize)]
pub(super) struct Addition {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) value: String,
}

/// A redirect's path, of the request's.
#[derive(Debug, Serialize)]
pub(super) struct RedirectPath {
    pub(super) name: String,
    pub(super) pattern: String,
    pub(super) path: String,
}

/// Upstreams by weight.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Split {
    pub(super) name: String,
    pub(super) parts: Vec<SplitPart>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SplitPart {
    /// `None` is what is left.
    pub(super) percent: Option<String>,
    pub(super) upstream: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) method: &'static str,
    pub(super) max_fails: Option<u32>,
    pub(super) fail_seconds: u64,
    pub(super) servers: Vec<UpstreamServer>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct UpstreamServer {
    pub(super) address: String,
    pub(super) weight: Option<u16>,
    pub(super) is_down: bool,
}

/// A `server` block of `http`.
#[derive(Debug, Default, Serialize)]
pub(super) struct ServerBlock {
    pub(super) listen: String,
    pub(super) is_unix: bool,
    pub(super) is_default: bool,
    pub(super) is_tls: bool,
    pub(super) accepts_proxy: bool,
    pub(super) names: Vec<String>,
    pub(super) patterns: Vec<String>,
    pub(super) rejects_handshake: bool,
    pub(super) certificate: Option<String>,
    pub(super) authorities: Option<String>,
    pub(super) is_required: bool,
    pub(super) status_path: Option<String>,
    pub(super) locations: Vec<Location>,
    pub(super) named: Vec<Named>,
    pub(super) mirrors: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Location {
    pub(super) is_exact: bool,
    pub(super) path: String,
    pub(super) choices: Vec<LocationChoice>,
    pub(super) body: Body,
}

/// A rule that is asked before a location's own.
#[derive(Debug, Serialize)]
pub(super) struct LocationChoice {
    pub(super) code: u16,
    pub(super) named: String,
    pub(super) variable: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub(super) name: String,
    /// Answers alone: who may has been asked before.
    pub(super) is_answer: bool,
    pub(super) body: Body,
}

/// What is done with a rule's requests.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Body {
    /// `proxy` or `grpc`.
    pub(super) module: &'static str,
    pub(super) scheme: &'static str,
    pub(super) pass: Option<String>,
    pub(super) is_split: bool,
    pub(super) denied: Option<String>,
    pub(super) allowed: Option<String>,
    pub(super) key: Option<KeyCheck>,
    pub(super) is_closed: bool,
    pub(super) users: Option<String>,
    pub(super) max_body_bytes: Option<u64>,
    pub(super) mirrors: Vec<String>,
    pub(super) rewrite: Option<Rewrite>,
    /// Headers of our own, repeated where a location has others: nginx inherits none there.
    pub(super) standard: Vec<StandardHeader>,
    pub(super) headers: Vec<RequestHeader>,
    pub(super) hidden: Vec<String>,
    pub(super) added: Vec<ResponseHeader>,
    pub(super) connect_ms: Option<u128>,
    pub(super) read_ms: Option<u128>,
    pub(super) tls: Option<Tls>,
    pub(super) named_answer: Option<String>,
    pub(super) redirect: Option<RedirectTo>,
    pub(super) respond: Option<u16>,
}

/// What a key is known by.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KeyCheck {
    /// The variable of the header.
    pub(super) source: String,
    pub(super) salt: String,
    /// Of the salt and the key, as `secure_link` reads it.
    pub(super) digest: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct StandardHeader {
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rewrite {
    pub(super) pattern: String,
    pub(super) path: String,
    /// `1` where the expression's group follows the path.
    pub(super) keeps_rest: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct RequestHeader {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) variable: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ResponseHeader {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Tls {
    pub(super) name: Option<String>,
    pub(super) authorities: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct RedirectTo {
    pub(super) scheme: Option<&'static str>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) path: Option<String>,
    pub(super) path_variable: Option<String>,
    pub(super) status: u16,
}

/// The `stream` block.
#[derive(Debug, Default, Serialize)]
pub(super) struct Stream {
    pub(super) upstreams: Vec<Upstream>,
    pub(super) splits: Vec<Split>,
    pub(super) maps: Vec<SniMap>,
    pub(super) servers: Vec<StreamServer>,
}

#[derive(Debug, Serialize)]
pub(super) struct SniMap {
    pub(super) name: String,
    pub(super) default: String,
    pub(super) hosts: Vec<SniHost>,
}

#[derive(Debug, Serialize)]
pub(super) struct SniHost {
    pub(super) host: String,
    pub(super) is_pattern: bool,
    pub(super) socket: String,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct StreamServer {
    pub(super) listen: String,
    pub(super) is_unix: bool,
    pub(super) accepts_proxy: bool,
    pub(super) reads_sni: bool,
    pub(super) sends_proxy: bool,
    pub(super) is_variable: bool,
    pub(super) pass: String,
}
