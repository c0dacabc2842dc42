//! nginx 1.22 and later: the plan as its configuration and its files. Pure.

mod lower;
mod options;
pub mod shape;
mod view;

use minijinja::value::{Serde, Value};
use ring::digest;

pub use options::Options;

use crate::edge::EdgePlan;
use crate::output::{File, Grammar, Rendered};
use crate::render::{self, Rendering, Template};
use lower::Lowered;

const SOURCE: &str = include_str!("../../templates/nginx.conf");
/// Name of the template in errors and in `explain`.
pub const TEMPLATE: &str = "nginx.conf";
/// The file that nginx is started with.
pub const MAIN: &str = "nginx.conf";
/// Stands where the generation goes until the rest is known.
const NO_GENERATION: &str = "fairlead_generation_goes_here";

/// The plan as nginx's files. Everything in them changes with a reload alone.
///
/// # Errors
/// [`render::Error`] where a value does not fit, or the output's shape is not the template's.
pub fn render(plan: &EdgePlan, options: &Options) -> Result<Rendering, render::Error> {
    let Lowered {
        mut view,
        files: render::Files(mut files),
        problems,
    } = lower::lower(plan, options);
    view.generation = NO_GENERATION.to_owned();
    let template = Template::compile(TEMPLATE, SOURCE, Grammar::Nginx)?;
    let values = Value::from(Serde(&view));
    let text = template.render(&values)?;
    template.prove(&values, &text)?;
    shape::check(plan, &text).map_err(|error| template.shape_error(error))?;
    // Other files are named by their content, so the text tells of them.
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(text.as_bytes());
    let generation = render::generation_of(hash);
    let text = text.replacen(NO_GENERATION, generation.as_str(), 1);
    let file = File {
        content: text.into_bytes(),
        grammar: Grammar::Nginx,
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

/// Which line of [`TEMPLATE`] made each line of [`MAIN`]; `None` where that is not known.
///
/// # Errors
/// [`render::Error`] as for [`render`](self::render()).
pub fn source_map(plan: &EdgePlan, options: &Options) -> Result<Vec<Option<usize>>, render::Error> {
    let mut view = lower::lower(plan, options).view;
    view.generation = NO_GENERATION.to_owned();
    let template = Template::compile(TEMPLATE, SOURCE, Grammar::Nginx)?;
    Ok(template.source_map(&Value::from(Serde(&view)))?)
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::render;
    use crate::edge::EdgePlan;
    use crate::render::Rendering;
    use crate::{golden, proxies, samples};

    #[track_caller]
    fn rendered(plan: &EdgePlan) -> Rendering {
        render(plan, &proxies::nginx_options()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn samples_are_as_reviewed() {
        for (name, plan) in samples::all() {
            let text = golden::text(&rendered(&plan));
            expect_file![format!("{}/nginx/{name}.txt", golden::DIRECTORY)].assert_eq(&text);
        }
    }

    #[test]
    fn nginx_takes_every_sample() {
        for (name, plan) in samples::all() {
            let objections = proxies::nginx_objections(&rendered(&plan).rendered);
            assert_eq!(objections, None, "{name}");
        }
    }

    #[test]
    fn every_line_is_known_by_the_template_s() {
        for (name, plan) in samples::all() {
            let options = proxies::nginx_options();
            let map = super::source_map(&plan, &options).expect("a map");
            let rendering = rendered(&plan);
            let lines = rendering.rendered.files[super::MAIN]
                .content
                .split(|byte| *byte == b'\n');
            assert_eq!(map.len() + 1, lines.count(), "{name}");
            assert!(map.iter().all(Option::is_some), "{name}");
        }
    }
}
