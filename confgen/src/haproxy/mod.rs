//! HAProxy 2.6 and later: the plan as its configuration and its files. Pure.

mod files;
mod lower;
mod options;
pub mod runtime;
pub mod shape;
mod view;

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use ring::digest;

pub use options::{Log, Options};

use crate::edge::EdgePlan;
use crate::edge::value::Id;
use crate::output::{File, Grammar, Rendered};
use crate::render::{self, Files, Rendering, Template};
use lower::Lowered;
use view::View;

const SOURCE: &str = include_str!("../../templates/haproxy.cfg");
/// Name of the template in errors and in `explain`.
pub const TEMPLATE: &str = "haproxy.cfg";
/// The file that HAProxy is started with.
pub const MAIN: &str = "haproxy.cfg";
/// Stands where the generation goes until the rest is known; as long as a generation.
const NO_GENERATION: &str = "fairlead_generation_goes_here";

/// The plan as HAProxy's files.
///
/// # Errors
/// [`render::Error`] where a value does not fit, or the output's shape is not the template's.
pub fn render(plan: &EdgePlan, options: &Options) -> Result<Rendering, render::Error> {
    let Lowered {
        mut view,
        files: Files(mut files),
        problems,
    } = lower::lower(plan, options);
    view.generation = NO_GENERATION.to_owned();
    let template = Template::compile(TEMPLATE, SOURCE, Grammar::Haproxy)?;
    let values = Value::from(Serde(&view));
    let text = template.render(&values)?;
    template.prove(&values, &text)?;
    shape::check(plan, &text).map_err(|error| template.shape_error(error))?;
    let generation = generation(&text, &view, &files);
    let text = text.replacen(NO_GENERATION, generation.as_str(), 1);
    let file = File {
        content: text.into_bytes(),
        grammar: Grammar::Haproxy,
        is_private: true,
    };
    files.insert(MAIN.to_owned(), file);
    Ok(Rendering {
        rendered: Rendered {
            files,
            main: MAIN.to_owned(),
            generation: Some(generation),
        },
        problems,
    })
}

/// Hash of what only a reload changes: servers, maps and certificates change at runtime.
fn generation(text: &str, view: &View<'_>, files: &BTreeMap<String, File>) -> Id {
    let mut hash = digest::Context::new(&digest::SHA256);
    for line in text.lines().filter(|line| !line.starts_with("    server ")) {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    for section in &view.backends {
        hash.update(format!("{:?}{:?}", section.options, section.check).as_bytes());
        // HAProxy 2.6 gives no cookie to a server that is added at runtime.
        if section.cookie.is_some() {
            for server in &section.servers {
                hash.update(server.name.as_bytes());
            }
        }
    }
    // Files of authorities, which lists of certificates name in brackets, are read at a reload alone.
    let lists = files.iter().filter(|(name, _)| name.ends_with(".list"));
    for (_, file) in lists {
        let text = std::str::from_utf8(&file.content).unwrap_or_default();
        for line in text.lines().filter(|line| line.contains('[')) {
            hash.update(line.as_bytes());
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
    let template = Template::compile(TEMPLATE, SOURCE, Grammar::Haproxy)?;
    Ok(template.source_map(&Value::from(Serde(&view)))?)
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::{Options, render};
    use crate::edge::{Balance, EdgePlan, Listener};
    use crate::{golden, proxies, samples};

    #[track_caller]
    fn rendered(plan: &EdgePlan) -> render::Rendering {
        render(plan, &Options::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn samples_are_as_reviewed() {
        for (name, plan) in samples::all() {
            let text = golden::text(&rendered(&plan));
            expect_file![format!("{}/haproxy/{name}.txt", golden::DIRECTORY)].assert_eq(&text);
        }
    }

    #[test]
    fn haproxy_takes_every_sample() {
        for (name, plan) in samples::all() {
            let objections = proxies::haproxy_objections(&rendered(&plan).rendered);
            assert_eq!(objections, None, "{name}");
        }
    }

    #[test]
    fn every_line_is_known_by_the_template_s() {
        for (name, plan) in samples::all() {
            let options = Options::default();
            let map = super::source_map(&plan, &options).expect("a map");
            let rendering = rendered(&plan);
            let lines = rendering.rendered.files[super::MAIN]
                .content
                .split(|byte| *byte == b'\n');
            assert_eq!(map.len() + 1, lines.count(), "{name}");
            assert!(map.iter().all(Option::is_some), "{name}");
        }
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
}
