//! One template and the environment it runs in.

mod error;

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, context,
};

pub use self::error::RenderError;
use super::filters;
use super::grammar::{self, Refusal};
use super::shape::{self, STAND_IN, ShapeError};
use super::source_map;
use crate::output::Grammar;

/// Instructions of one rendering: 10,000 hosts need about twenty million.
const FUEL: u64 = 2_000_000_000;
/// Macros within macros.
const MAX_RECURSION: usize = 64;

/// A template, compiled for one grammar.
pub struct Template {
    name: Arc<str>,
    source: Arc<str>,
    grammar: Grammar,
    /// Of a text that lives as long as the process; others are compiled for each rendering.
    kept: Option<Box<Kept>>,
}

struct Kept {
    values: Environment<'static>,
    stand_ins: Environment<'static>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.name)
            .field("grammar", &self.grammar)
            .finish_non_exhaustive()
    }
}

/// What values are printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Printing {
    /// Themselves.
    Values,
    /// [`STAND_IN`]: the output then has the template's shape whatever the values are.
    StandIns,
}

impl Template {
    /// Compiles a template; its syntax is checked here.
    ///
    /// # Errors
    /// [`RenderError`] where it does not compile.
    pub fn compile(name: &str, source: &str, grammar: Grammar) -> Result<Self, RenderError> {
        let template = Self {
            name: name.into(),
            source: source.into(),
            grammar,
            kept: None,
        };
        template.environment(name, source, Printing::Values)?;
        Ok(template)
    }

    /// Compiles a template of this build once, for all its renderings.
    ///
    /// # Errors
    /// [`RenderError`] where it does not compile.
    pub(crate) fn fixed(
        name: &'static str,
        source: &'static str,
        grammar: Grammar,
    ) -> Result<Self, RenderError> {
        let template = Self {
            name: name.into(),
            source: source.into(),
            grammar,
            kept: None,
        };
        let kept = Kept {
            values: template.environment(name, source, Printing::Values)?,
            stand_ins: template.environment(name, source, Printing::StandIns)?,
        };
        let kept = Some(Box::new(kept));
        Ok(Self { kept, ..template })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its output fits.
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text with these values.
    ///
    /// # Errors
    /// [`RenderError`] at the first value that the grammar does not let in.
    pub fn render(&self, values: &Value) -> Result<String, RenderError> {
        self.printed(Printing::Values, values)
    }

    /// Shows that a text which [`Self::render`] gave has the template's shape: that of the text
    /// with a stand-in for each value.
    ///
    /// # Errors
    /// [`Error`](super::Error) where it has not, or where values cannot be rendered.
    pub(crate) fn prove(&self, values: &Value, text: &str) -> Result<(), super::Error> {
        let twin = self.render_stand_in(values)?;
        shape::compare(self.grammar, text, &twin).map_err(|error| self.shape_error(error))
    }

    /// The text with a stand-in for each value.
    pub(super) fn render_stand_in(&self, values: &Value) -> Result<String, RenderError> {
        self.printed(Printing::StandIns, values)
    }

    /// Which line of the template made each line of its output; `None` where that is not known.
    ///
    /// # Errors
    /// [`RenderError`] as for [`Self::render`].
    pub fn source_map(&self, values: &Value) -> Result<Vec<Option<usize>>, RenderError> {
        let text = self.render(values)?;
        let marked = Self {
            source: source_map::marked(&self.source).into(),
            name: Arc::clone(&self.name),
            grammar: self.grammar,
            kept: None,
        };
        // A tag that strips blanks stops at a mark: then the texts differ and nothing is known.
        let known = marked.render(values).ok();
        let known = known.and_then(|marked| source_map::lines(&marked, &text));
        Ok(known.unwrap_or_else(|| vec![None; text.lines().count()]))
    }

    pub(crate) fn shape_error(&self, error: ShapeError) -> super::Error {
        super::Error::Shape {
            file: Arc::clone(&self.name),
            error,
        }
    }

    fn printed(&self, printing: Printing, values: &Value) -> Result<String, RenderError> {
        match (&self.kept, printing) {
            (Some(kept), Printing::Values) => self.run(&kept.values, values),
            (Some(kept), Printing::StandIns) => self.run(&kept.stand_ins, values),
            (None, Printing::Values | Printing::StandIns) => {
                let compiled = self.environment(&self.name, &self.source, printing)?;
                self.run(&compiled, values)
            }
        }
    }

    fn run(&self, environment: &Environment<'_>, values: &Value) -> Result<String, RenderError> {
        environment
            .get_template(&self.name)
            .and_then(|template| template.render(values.clone()))
            .map_err(|error| self.error(&error))
    }

    fn environment<'source>(
        &self,
        name: &'source str,
        source: &'source str,
        printing: Printing,
    ) -> Result<Environment<'source>, RenderError> {
        let grammar = self.grammar;
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| self.error(&error))?;
        environment.set_syntax(syntax);
        environment.set_debug(true);
        // What a block or a macro captures is made of the template's text and of printed values,
        // which the formatter has seen: it is safe. A tenant's text never takes that way.
        environment.set_auto_escape_callback(|_| AutoEscape::Custom("fairlead".into()));
        environment.set_formatter(move |out, _, value| print(out, value, grammar, printing));
        filters::add(&mut environment);
        super::operator::add_methods(&mut environment);
        for (name, quoting) in [
            (
                "quote",
                grammar::quote as fn(Grammar, &str) -> Result<String, Refusal>,
            ),
            ("literal", grammar::literal),
            ("inside", grammar::inside),
            ("inside_literal", grammar::inside_literal),
        ] {
            environment.add_filter(name, move |_: &State<'_, '_>, value: &Value| {
                quoted(value, grammar, printing, quoting)
            });
        }
        environment.add_global("grammar", context! { name => format!("{grammar:?}") });
        environment
            .add_template(name, source)
            .map_err(|error| self.error(&error))?;
        Ok(environment)
    }

    /// The whole of what is printed, of which the engine tells a part.
    fn expression(&self, part: &Range<usize>) -> Option<String> {
        let before = self.source.get(..part.start)?;
        let start = before.rfind("{{").map_or(part.start, |at| at + 2);
        let behind = self.source.get(part.end..)?;
        let end = behind.find("}}").map_or(part.end, |at| part.end + at);
        let text = self.source.get(start..end)?.trim();
        (!text.is_empty()).then(|| text.chars().take(120).collect())
    }

    fn error(&self, error: &Error) -> RenderError {
        let refused = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<Refusal>())
            .cloned();
        let expression = error.range().and_then(|range| self.expression(&range));
        let reason = match &refused {
            Some(refusal) => refusal.to_string(),
            None => match error.detail() {
                Some(detail) => format!("{}: {detail}", error.kind()),
                None => error.kind().to_string(),
            },
        };
        RenderError {
            template: Arc::clone(&self.name),
            line: error.line().unwrap_or_default(),
            expression,
            origin: None,
            refused,
            reason,
        }
    }
}

fn print(
    out: &mut Output<'_>,
    value: &Value,
    grammar: Grammar,
    printing: Printing,
) -> Result<(), Error> {
    if value.is_safe() {
        return out
            .write_str(value.as_str().unwrap_or_default())
            .map_err(Error::from);
    }
    if !matches!(value.kind(), ValueKind::Number | ValueKind::String) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!(
                "{} cannot be printed; only texts and numbers can",
                value.kind()
            ),
        ));
    }
    match value.as_str() {
        Some(_) if printing == Printing::StandIns => out.write_char(STAND_IN).map_err(Error::from),
        Some(text) => {
            let word = grammar::bare(grammar, text).map_err(refusal)?;
            out.write_str(word).map_err(Error::from)
        }
        None => write!(out, "{value}").map_err(Error::from),
    }
}

fn quoted(
    value: &Value,
    grammar: Grammar,
    printing: Printing,
    quoting: fn(Grammar, &str) -> Result<String, Refusal>,
) -> Result<Value, Error> {
    // Text that a block captured is configuration already; quoting it is an author's mistake.
    if value.is_safe() || !matches!(value.kind(), ValueKind::String | ValueKind::Number) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("quote takes a text or a number, not {}", value.kind()),
        ));
    }
    if printing == Printing::StandIns {
        return Ok(Value::from_safe_string(STAND_IN.to_string()));
    }
    let text = value.to_string();
    quoting(grammar, &text)
        .map(Value::from_safe_string)
        .map_err(refusal)
}

fn refusal(refusal: Refusal) -> Error {
    Error::new(ErrorKind::InvalidOperation, refusal.to_string()).with_source(refusal)
}

#[cfg(test)]
mod tests {
    use minijinja::{Value, context};

    use super::{RenderError, Template};
    use crate::output::Grammar;
    use crate::render::Refusal;

    #[track_caller]
    fn render(source: &str, value: &str) -> Result<String, RenderError> {
        let value = value.to_owned();
        let template = Template::compile("t", source, Grammar::Haproxy)?;
        template.render(&context! { value => value.clone(), list => vec![value, "b".to_owned()] })
    }

    #[test]
    fn only_bare_words_are_printed() {
        assert_eq!(
            render("use {{ value }}\n", "a.b").ok().as_deref(),
            Some("use a.b\n")
        );
        let error = render("\n  use {{ value }}", "a b").expect_err("a blank");
        assert_eq!(error.line, 2);
        assert_eq!(error.refused, Some(Refusal::NotBare("a b".to_owned())));
        assert_eq!(
            error.to_string(),
            "t:2: \"a b\" is not a bare word; use `| quote` in `value`"
        );
    }

    #[test]
    fn no_detour_makes_a_text_safe() {
        let hostile = "a\n  b";
        for source in [
            "{{ value ~ '' }}",
            "{{ value | safe }}",
            "{{ value | escape }}",
            "{{ value | e }}",
            "{{ list | join }}",
            "{{ value | replace('q', 'a' | quote) }}",
            "{{ value | lower }}",
            "{{ list }}",
            "{% autoescape false %}{{ value }}{% endautoescape %}",
            "{% autoescape 'html' %}{{ value }}{% endautoescape %}",
            "{% set x %}{{ value }}{% endset %}{{ x }}",
            "{% macro m() %}{{ value }}{% endmacro %}{{ m() }}",
            "{{ value | quote }}",
            "{{ ('a' | quote) ~ value }}",
            "{{ [('a' | quote), value] | join(' ' | quote) }}",
            "{{ list | map('safe') | first }}",
            "{{ (('a' | quote), value) | last }}",
            "{{ value | default('a') }}",
            "{{ missing }}",
            "{{ none }}",
        ] {
            let outcome = render(source, hostile);
            assert!(outcome.is_err(), "{source}: {outcome:?}");
        }
    }

    #[test]
    fn a_macro_and_a_block_keep_what_was_checked() {
        let source = "{% macro word(w) %}[{{ w | quote }}]{% endmacro %}\
                      {% set x %}{{ value }} y{% endset %}{{ word('a b') }} {{ x }}";
        assert_eq!(render(source, "v").ok().as_deref(), Some("['a b'] v y"));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let source = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
        assert!(render(source, "v").is_err());
        let template = Template::compile("t", "{{ int_range(1000000000, 0, 1) }}", Grammar::Plain);
        assert!(template.and_then(|t| t.render(&Value::UNDEFINED)).is_err());
    }
}
