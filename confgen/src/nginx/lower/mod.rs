//! The plan as nginx's blocks.
//!
//! A host is a `server`, a path a `location`; a rule that looks at more is a named location, which
//! its path's location returns into where the rule's variable is 1.

mod body;
mod conditions;
mod http;
mod stream;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use model::Problem;

use super::options::{self, Options};
use super::view::{
    Addition, Choice, Condition, RedirectPath, ServerBlock, Sources, Split, Stream, Upstream, View,
};
use crate::edge::value::Id;
use crate::edge::{EdgePlan, Listener, Origin};
use crate::render::Files;

/// Bytes of shared memory that a server of an upstream takes, and those of the upstream itself.
const ZONE_BYTES_OF_SERVER: usize = 2048;
const ZONE_BYTES_OF_UPSTREAM: usize = 4096;

/// The plan, lowered.
pub(super) struct Lowered<'a> {
    pub(super) view: View<'a>,
    pub(super) files: Files,
    pub(super) problems: Vec<Problem>,
}

/// What is found on the way.
struct Lowering<'a> {
    plan: &'a EdgePlan,
    options: &'a Options,
    files: Files,
    problems: Vec<Problem>,
    /// Findings about backends are told once.
    told: BTreeSet<(String, &'static str)>,
    sources: BTreeMap<String, Sources>,
    conditions: BTreeMap<String, Condition>,
    choices: BTreeMap<String, Choice>,
    additions: BTreeMap<String, Addition>,
    redirects: BTreeMap<String, RedirectPath>,
    splits: BTreeMap<String, Split>,
    upstreams: BTreeMap<String, Upstream>,
    servers: Vec<ServerBlock>,
    stream: Stream,
    stream_upstreams: BTreeMap<String, Upstream>,
    stream_splits: BTreeMap<String, Split>,
    /// Sockets of our own that something listens on.
    sockets: BTreeSet<String>,
}

/// Lowers a plan.
pub(super) fn lower<'a>(plan: &'a EdgePlan, options: &'a Options) -> Lowered<'a> {
    let mut lowering = Lowering {
        plan,
        options,
        files: Files::default(),
        problems: Vec::new(),
        told: BTreeSet::new(),
        sources: BTreeMap::new(),
        conditions: BTreeMap::new(),
        choices: BTreeMap::new(),
        additions: BTreeMap::new(),
        redirects: BTreeMap::new(),
        splits: BTreeMap::new(),
        upstreams: BTreeMap::new(),
        servers: Vec::new(),
        stream: Stream::default(),
        stream_upstreams: BTreeMap::new(),
        stream_splits: BTreeMap::new(),
        sockets: BTreeSet::new(),
    };
    for (listen, listener) in &*plan.listeners {
        match listener {
            Listener::Http(http) => {
                lowering.http(&http::Place::open(*listen, http, None), http);
            }
            Listener::Tls(tls) if tls.passthrough.is_empty() => {
                lowering.http(&http::Place::open(*listen, &tls.http, Some(tls)), &tls.http);
            }
            Listener::Tls(tls) => {
                let place = lowering.sni(*listen, tls);
                lowering.http(&place, &tls.http);
            }
            Listener::Tcp(tcp) => lowering.tcp(*listen, tcp),
        }
    }
    lowering.finish()
}

impl<'a> Lowering<'a> {
    fn finish(self) -> Lowered<'a> {
        let servers = |upstreams: &BTreeMap<String, Upstream>| -> usize {
            let bytes = |upstream: &Upstream| {
                ZONE_BYTES_OF_UPSTREAM + upstream.servers.len() * ZONE_BYTES_OF_SERVER
            };
            upstreams.values().map(bytes).sum()
        };
        let zone = servers(&self.upstreams).max(servers(&self.stream_upstreams));
        let entries = self.servers.len()
            + self.conditions.len()
            + self
                .stream
                .maps
                .iter()
                .map(|map| map.hosts.len())
                .sum::<usize>();
        let mut stream = self.stream;
        stream.upstreams = self.stream_upstreams.into_values().collect();
        stream.splits = self.stream_splits.into_values().collect();
        let stream = (!stream.servers.is_empty()).then_some(stream);
        let view = View {
            options: options::View::of(self.options, stream.is_some()),
            generation: String::new(),
            run: &self.options.run_directory,
            // By powers of two: a new server seldom means another zone or other hashes.
            hash_size: (entries * 4).next_power_of_two().max(4096),
            zone_kib: (zone / 1024).next_power_of_two().max(256),
            sources: self.sources.into_values().collect(),
            conditions: self.conditions.into_values().collect(),
            choices: self.choices.into_values().collect(),
            additions: self.additions.into_values().collect(),
            redirects: self.redirects.into_values().collect(),
            splits: self.splits.into_values().collect(),
            upstreams: self.upstreams.into_values().collect(),
            servers: self.servers,
            stream,
        };
        Lowered {
            view,
            files: self.files,
            problems: self.problems,
        }
    }

    fn problem(&mut self, origin: &Origin, message: impl Into<String>, effect: &str) {
        self.problems.push(origin.problem(message, effect));
    }

    /// The same of a backend, once.
    fn problem_of_backend(
        &mut self,
        id: &Id,
        origin: &Origin,
        message: &'static str,
        effect: &str,
    ) {
        if self.told.insert((id.to_string(), message)) {
            self.problem(origin, message, effect);
        }
    }
}
