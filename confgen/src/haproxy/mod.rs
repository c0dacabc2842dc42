//! HAProxy 2.6 and later: the plan as its configuration and its files. Pure.

mod files;
mod lower;
mod options;
pub mod runtime;
pub mod shape;
mod update;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use ring::digest;
use serde::Serialize;

pub use options::{Log, Options};
pub use update::{Moved, Update, update};

use crate::edge::EdgePlan;
use crate::edge::value::Id;
use crate::output::{File, Grammar};
use crate::render::{self, BuiltIn, NO_GENERATION, Rendering, Template};
use lower::Lowered;
use view::Section;

const BUILT_IN: BuiltIn = BuiltIn {
    name: TEMPLATE,
    source: include_str!("../../templates/haproxy.cfg"),
    grammar: Grammar::Haproxy,
    main: MAIN,
};
/// Name of the template in errors and in `explain`.
pub const TEMPLATE: &str = "haproxy.cfg";
/// The file that HAProxy is started with.
pub const MAIN: &str = "haproxy.cfg";
/// Where the template comes to backends, which are the last in it.
const BACKENDS: &str = "{% for b in backends %}\n";
/// Backends that are rendered at once. Values and proofs of ten thousand take 100 MiB for a moment.
const PORTION: usize = 512;

/// The plan as HAProxy's files.
///
/// # Errors
/// [`render::Error`] where a value does not fit, or the output's shape is not the template's.
pub fn render(plan: &EdgePlan, options: &Options) -> Result<Rendering, render::Error> {
    let Lowered {
        mut view,
        files,
        problems,
    } = lower::lower(plan, options);
    view.generation = NO_GENERATION.to_owned();
    let backends = std::mem::take(&mut view.backends);
    let (head, sections) = templates()?;
    let mut text = head.proven(&view)?;
    for portion in backends.chunks(PORTION) {
        text += &sections.proven(&Sections { backends: portion })?;
    }
    shape::check(plan, &text).map_err(|error| BUILT_IN.refused(error))?;
    let generation = generation(&text, &backends, &files.0);
    Ok(BUILT_IN.rendering(&text, generation, files, problems))
}

/// What the end of the template prints.
#[derive(Serialize)]
struct Sections<'a> {
    backends: &'a [Section],
}

/// The template up to its backends, and from there on. An endpoint's change renders a section of it:
/// compiling the whole for that would take longer than the rest.
fn templates() -> Result<&'static (Template, Template), render::Error> {
    static COMPILED: LazyLock<Result<(Template, Template), render::Error>> =
        LazyLock::new(compiled);
    COMPILED.as_ref().map_err(Clone::clone)
}

fn compiled() -> Result<(Template, Template), render::Error> {
    let (head, sections) = BUILT_IN.source.split_once(BACKENDS).unwrap_or_default();
    // A comment of as many lines: errors name the lines of the whole.
    let lines = "\n".repeat(head.lines().count());
    let sections = format!("{{#{lines}#}}{BACKENDS}{sections}");
    let fixed = |source| Template::fixed(BUILT_IN.name, source, BUILT_IN.grammar);
    // Leaked once a process, as the other half is a part of the program.
    Ok((fixed(head)?, fixed(sections.leak())?))
}

/// Hash of what only a reload changes: servers, maps and certificates change at runtime.
fn generation(text: &str, backends: &[Section], files: &BTreeMap<String, Arc<File>>) -> Id {
    let mut hash = digest::Context::new(&digest::SHA256);
    for line in text.lines().filter(|line| !line.starts_with("    server ")) {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    for section in backends {
        hash.update(format!("{:?}{:?}", section.options, section.check).as_bytes());
        // HAProxy 2.6 gives no cookie to a server that is added at runtime.
        if section.cookie.is_some() {
            for server in &section.servers {
                hash.update(server.name.as_bytes());
            }
        }
    }
    // Files of authorities, which lists of certificates name in brackets, are read at a reload alone,
    // and the certificate of unknown hosts is that of the last one.
    let lists = files.iter().filter(|(name, _)| name.ends_with(".list"));
    for (_, file) in lists {
        let text = std::str::from_utf8(&file.content).unwrap_or_default();
        let options: BTreeSet<&str> = text.lines().filter_map(runtime::line_options).collect();
        let first = text.lines().filter(|line| line.ends_with(lower::NOBODY));
        for fixed in first.chain(options) {
            hash.update(fixed.as_bytes());
        }
    }
    render::generation_of(hash)
}

/// Which line of [`TEMPLATE`] made each line of [`MAIN`]; `None` where that is not known.
///
/// # Errors
/// [`render::Error`] as for [`render`](self::render()).
pub fn source_map(plan: &EdgePlan, options: &Options) -> Result<Vec<Option<usize>>, render::Error> {
    let mut view = lower::lower(plan, options).view;
    view.generation = NO_GENERATION.to_owned();
    BUILT_IN.source_map(&view)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::runtime::{Change, Command, Image, Leaving, changes};
    use super::{Options, Rendering, render};
    use crate::edge::{Balance, EdgePlan, Listener};
    use crate::samples;

    #[track_caller]
    fn rendered(plan: &EdgePlan) -> Rendering {
        render(plan, &Options::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Endpoints, hosts and certificates change at runtime; what is looked for in them does not.
    #[test]
    fn only_what_needs_a_reload_changes_the_generation() {
        let generation = |plan: &EdgePlan| rendered(plan).rendered.generation;
        let plan = samples::plain();
        let before = generation(&plan);

        let mut scaled = plan.clone();
        let mut web = samples::web();
        web.servers.push(samples::server("web-3", "10.0.0.3", 80));
        web.servers[0].weight = 7;
        scaled.backends.insert(web.id.clone(), web.clone().into());
        assert_eq!(generation(&scaled), before, "endpoints");

        let rule = samples::rule("more", samples::prefix("/more"));
        let another = samples::plan(
            vec![(
                samples::listen("0.0.0.0", 80),
                Listener::Http(samples::http(vec![
                    (
                        samples::host("a.b.example"),
                        samples::site(vec![rule.clone()]),
                    ),
                    (
                        samples::host("*.c.example"),
                        samples::site(vec![rule.clone()]),
                    ),
                ])),
            )],
            vec![samples::web()],
        );
        assert_eq!(generation(&another), before, "hosts and paths");

        web.balance = Balance::Source;
        scaled.backends.insert(web.id.clone(), web.clone().into());
        assert_ne!(generation(&scaled), before, "how servers are chosen");
        web.balance = Balance::RoundRobin;
        web.sends_proxy_protocol = true;
        web.servers.clear();
        scaled.backends.insert(web.id.clone(), web.into());
        assert_ne!(generation(&scaled), before, "what servers are told");
    }

    /// HAProxy keeps the first certificate of a list as long as it runs.
    #[test]
    fn every_certificate_is_renewed_without_a_reload() {
        let before_plan = samples::tls();
        let before = rendered(&before_plan);
        for renewed in ["cert", "unknown"] {
            let (was, is) = (samples::id(renewed), samples::id("renewed"));
            let mut plan = before_plan.clone();
            let certificates = Arc::make_mut(&mut plan.certificates);
            certificates.remove(&was);
            let names = ["shop.example.com", "bank.example.com"];
            certificates.insert(is.clone(), samples::certificate(&names));
            for listener in Arc::make_mut(&mut plan.listeners).values_mut() {
                let Listener::Tls(tls) = listener else {
                    continue;
                };
                let hosts = tls.http.hosts.values_mut();
                let hosts = hosts.filter_map(|host| host.tls.as_mut());
                let all = hosts.map(|tls| &mut tls.certificate);
                for id in all
                    .chain(tls.unknown_host.as_mut())
                    .filter(|id| **id == was)
                {
                    *id = is.clone();
                }
            }
            let after = rendered(&plan);
            let (old, new) = (
                Image {
                    plan: &before_plan,
                    rendered: &before.rendered,
                },
                Image {
                    plan: &plan,
                    rendered: &after.rendered,
                },
            );
            let change = changes(old, new, &Leaving::default());
            let Change::Runtime(commands) = change else {
                panic!("{renewed}: {change:?}");
            };
            // The hosts of one certificate are on a line of their own for each way to serve it.
            let added = |command: &&Command| matches!(command, Command::AddToList { .. });
            let of = if renewed == "cert" { 4 } else { 0 };
            assert_eq!(commands.iter().filter(added).count(), of, "{commands:?}");
            let first = commands.iter().find_map(|command| {
                let Command::SetCertificate { name, .. } = command else {
                    return None;
                };
                Some(name.contains("/first_"))
            });
            assert_eq!(first, Some(true), "{renewed}: {commands:?}");
        }
    }

    /// A line must fit into one command, and HAProxy takes so many words on one.
    #[test]
    fn a_certificate_of_very_many_hosts_has_several_lines() {
        let mut plan = samples::tls();
        let listener = Arc::make_mut(&mut plan.listeners).values_mut();
        let listeners = listener.filter_map(|listener| match listener {
            Listener::Tls(tls) => Some(tls),
            Listener::Http(_) | Listener::Tcp(_) => None,
        });
        for tls in listeners {
            let shop = tls.http.hosts[&samples::host("shop.example.com")].clone();
            for number in 0..3000 {
                let host = samples::host(&format!("s{number}.example.com"));
                tls.http.hosts.insert(host, shop.clone());
            }
        }
        let rendered = rendered(&plan).rendered;
        let lists = rendered.files.iter();
        let lists = lists.filter(|(name, _)| name.ends_with(".list"));
        for (name, file) in lists {
            let text = String::from_utf8_lossy(&file.content);
            assert!(text.lines().count() > 5, "{name}");
            assert!(text.lines().all(|line| line.len() < 10_000), "{name}");
            let files: BTreeSet<_> = text.lines().map(|line| line.split(' ').next()).collect();
            assert_eq!(files.len(), text.lines().count(), "{name}");
            let hosts = (0..3000).all(|number| text.contains(&format!(" s{number}.example.com")));
            assert!(hosts, "{name}");
        }
        assert_eq!(crate::proxies::haproxy_objections(&rendered), None);
    }
}
