//! The plan as sections of HAProxy.
//!
//! ```text
//! frontend: host ─map─► site ─+path, map─► entry ─conditions─► rule ─map─► backend
//! backend:  what its rules ask for (access, headers, redirects), then a server
//! ```
//!
//! Hosts and paths are looked up in maps, so ten thousand of them cost a request no more than ten,
//! and the runtime socket can change them. Only rules with conditions of their own cost a line.
//! What a rule does is in the section that it leads to, so others' rules cost nothing there.

mod backend;
mod http;
mod processing;
mod target;
mod tls;

use std::collections::BTreeMap;

use model::Problem;

use super::options::{self, Options};
use super::view::{Processing, Section, Split, Userlist, View};
use crate::edge::value::{HostMatch, Id};
use crate::edge::{Backend, EdgePlan, Listener, Origin};
use crate::render::Files;

pub(super) use self::tls::NOBODY;

/// Labels of wildcards that are always looked for, so that most new ones need no reload.
const USUAL_WILDCARD_LABELS: usize = 4;

/// The plan, lowered.
pub(super) struct Lowered<'a> {
    pub(super) view: View<'a>,
    pub(super) files: Files,
    pub(super) problems: Vec<Problem>,
}

/// Whether a section gets requests or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Http,
    Tcp,
}

/// What is found on the way.
struct Lowering<'a> {
    plan: &'a EdgePlan,
    options: &'a Options,
    files: Files,
    problems: Vec<Problem>,
    userlists: Vec<Userlist>,
    /// Backends that are led to, and what is done there.
    used: BTreeMap<(&'a Id, Mode), Vec<Processing>>,
    /// Sections that answer themselves, or lead to a frontend of ours.
    answers: BTreeMap<String, Section>,
    splits: BTreeMap<String, Split>,
    paths: BTreeMap<String, String>,
    prefixes: BTreeMap<String, String>,
    rules: BTreeMap<String, String>,
    rest: BTreeMap<String, String>,
}

/// The sections that a backend may have, with its servers and without what its rules do there.
pub(super) fn sections_of(plan: &EdgePlan, options: &Options, backend: &Backend) -> [Section; 2] {
    let mut lowering = Lowering::new(plan, options);
    [Mode::Http, Mode::Tcp].map(|mode| lowering.section(backend, mode, Vec::new()))
}

/// Lowers a plan.
pub(super) fn lower<'a>(plan: &'a EdgePlan, options: &'a Options) -> Lowered<'a> {
    let mut lowering = Lowering::new(plan, options);
    let mut view = View {
        options: options::View::of(options),
        generation: String::new(),
        userlists: Vec::new(),
        http: Vec::new(),
        tls: Vec::new(),
        tcp: Vec::new(),
        backends: Vec::new(),
    };
    for (listen, listener) in &*plan.listeners {
        match listener {
            Listener::Http(http) => {
                let frontend = lowering.http(*listen, http, None);
                view.http.push(frontend);
            }
            Listener::Tls(tls) => lowering.tls(*listen, tls, &mut view),
            Listener::Tcp(tcp) => {
                let frontend = lowering.tcp(*listen, tcp);
                view.tcp.push(frontend);
            }
        }
    }
    view.backends = lowering.sections();
    let Lowering {
        mut files,
        problems,
        userlists,
        paths,
        prefixes,
        rules,
        rest,
        ..
    } = lowering;
    view.userlists = userlists;
    files.add_map("maps/paths.map", &paths);
    files.add_map("maps/prefixes.map", &prefixes);
    files.add_map("maps/rules.map", &rules);
    files.add_map("maps/rest.map", &rest);
    Lowered {
        view,
        files,
        problems,
    }
}

impl<'a> Lowering<'a> {
    fn new(plan: &'a EdgePlan, options: &'a Options) -> Self {
        Self {
            plan,
            options,
            files: Files::default(),
            problems: Vec::new(),
            userlists: Vec::new(),
            used: BTreeMap::new(),
            answers: BTreeMap::new(),
            splits: BTreeMap::new(),
            paths: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            rules: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }

    fn problem(&mut self, origin: &Origin, message: impl Into<String>, effect: &str) {
        self.problems.push(origin.problem(message, effect));
    }

    /// Maps of what hosts lead to, in order of precedence; also the numbers of labels that
    /// wildcards have, longest first.
    fn add_host_maps(&mut self, maps: &str, hosts: &[(&HostMatch, String)]) -> Vec<usize> {
        let mut exact = BTreeMap::new();
        let mut wildcard = BTreeMap::new();
        let mut regex = String::new();
        let mut most = USUAL_WILDCARD_LABELS;
        for (host, value) in hosts {
            match host {
                HostMatch::Exact(name) => {
                    exact.insert(crate::render::host_text(name), value.clone());
                }
                HostMatch::Wildcard(suffix) => {
                    most = most.max(suffix.as_str().split('.').count());
                    wildcard.insert(suffix.to_string(), value.clone());
                }
                // The first line that matches counts, so the plan's order is kept.
                HostMatch::Regex(host) => {
                    regex.push_str(&format!("{} {value}\n", host.anchored()));
                }
                HostMatch::Any => {}
            }
        }
        self.files.add_map(&format!("{maps}.exact.map"), &exact);
        self.files
            .add_map(&format!("{maps}.wildcard.map"), &wildcard);
        self.files.insert(
            format!("{maps}.regex.map"),
            regex.into_bytes(),
            crate::output::Grammar::Map,
            false,
        );
        (1..=most).rev().collect()
    }
}

fn socket(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}
