//! nginx 1.22 and later: the plan as its configuration and its files. Pure.

mod lower;
mod options;
pub mod shape;
mod view;

use std::sync::LazyLock;

use ring::digest;

pub use options::Options;

use crate::edge::EdgePlan;
use crate::output::Grammar;
use crate::render::{self, BuiltIn, NO_GENERATION, Rendering, Template};
use lower::Lowered;

const BUILT_IN: BuiltIn = BuiltIn {
    name: TEMPLATE,
    source: include_str!("../../templates/nginx.conf"),
    grammar: Grammar::Nginx,
    main: MAIN,
};
/// Name of the template in errors and in `explain`.
pub const TEMPLATE: &str = "nginx.conf";
/// The file that nginx is started with.
pub const MAIN: &str = "nginx.conf";

static TEMPLATE_OF_BUILD: LazyLock<Result<Template, render::Error>> =
    LazyLock::new(|| BUILT_IN.template());

/// The plan as nginx's files. Everything in them changes with a reload alone.
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
    let template = TEMPLATE_OF_BUILD.as_ref().map_err(Clone::clone)?;
    let text = template.proven(&view)?;
    shape::check(plan, &text).map_err(|error| BUILT_IN.refused(error))?;
    // Other files are named by their content, so the text tells of them.
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(text.as_bytes());
    let generation = render::generation_of(hash);
    Ok(BUILT_IN.rendering(&text, generation, files, problems))
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
