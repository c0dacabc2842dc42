//! Renderings as one reviewable text. For tests.

use crate::output::Grammar;
use crate::render::Rendering;

/// Where they are; `UPDATE_EXPECT=1` writes them anew.
pub(crate) const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

/// Every finding and every file but certificates, whose content is made anew each time.
pub(crate) fn text(rendering: &Rendering) -> String {
    let mut text = String::new();
    for problem in &rendering.problems {
        text.push_str(&format!("! {problem}\n"));
    }
    for (name, file) in &rendering.rendered.files {
        let private = if file.is_private { " (private)" } else { "" };
        text.push_str(&format!("=== {name}{private}\n"));
        if file.grammar != Grammar::Pem {
            text.push_str(&String::from_utf8_lossy(&file.content));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::{DIRECTORY, text};
    use crate::edge::EdgePlan;
    use crate::output::Rendered;
    use crate::render::{Error, Rendering};
    use crate::{haproxy, nginx, proxies, samples};

    /// A proxy as every sample is tried with it.
    struct Tried {
        name: &'static str,
        render: fn(&EdgePlan) -> Result<Rendering, Error>,
        objections: fn(&Rendered) -> Option<String>,
        source_map: fn(&EdgePlan) -> Result<Vec<Option<usize>>, Error>,
    }

    const BOTH: [Tried; 2] = [
        Tried {
            name: "haproxy",
            render: |plan| haproxy::render(plan, &haproxy::Options::default()),
            objections: proxies::haproxy_objections,
            source_map: |plan| haproxy::source_map(plan, &haproxy::Options::default()),
        },
        Tried {
            name: "nginx",
            render: |plan| nginx::render(plan, &proxies::nginx_options()),
            objections: proxies::nginx_objections,
            source_map: |plan| nginx::source_map(plan, &proxies::nginx_options()),
        },
    ];

    #[track_caller]
    fn each(check: impl Fn(&Tried, &str, &EdgePlan, Rendering)) {
        for proxy in &BOTH {
            for (name, plan) in samples::all() {
                let rendering = (proxy.render)(&plan).unwrap_or_else(|error| panic!("{error}"));
                check(proxy, name, &plan, rendering);
            }
        }
    }

    #[test]
    fn samples_are_as_reviewed() {
        each(|proxy, name, _, rendering| {
            let file = format!("{DIRECTORY}/{}/{name}.txt", proxy.name);
            expect_file![file].assert_eq(&text(&rendering));
        });
    }

    #[test]
    fn proxies_take_every_sample() {
        each(|proxy, name, _, rendering| {
            let objections = (proxy.objections)(&rendering.rendered);
            assert_eq!(objections, None, "{} {name}", proxy.name);
        });
    }

    #[test]
    fn every_line_is_known_by_the_template_s() {
        each(|proxy, name, plan, Rendering { rendered, .. }| {
            let map = (proxy.source_map)(plan).expect("a map");
            let lines = rendered.files[&rendered.main]
                .content
                .split(|byte| *byte == b'\n');
            assert_eq!(map.len() + 1, lines.count(), "{} {name}", proxy.name);
            assert!(map.iter().all(Option::is_some), "{} {name}", proxy.name);
        });
    }
}
