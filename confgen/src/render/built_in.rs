//! The templates of this build: one proxy's main file each.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::value::{Serde, Value};
use model::Problem;
use ring::digest;
use serde::Serialize;

use super::{Error, Files, Rendering, ShapeError, Template, hex};
use crate::edge::value::Id;
use crate::output::{File, Grammar, Rendered};

/// Stands where the generation goes until the rest is known.
pub(crate) const NO_GENERATION: &str = "fairlead_generation_goes_here";

/// A template of this build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuiltIn {
    /// In errors and in `explain`.
    pub(crate) name: &'static str,
    /// Its text.
    pub(crate) source: &'static str,
    /// What its output must fit.
    pub(crate) grammar: Grammar,
    /// The file that the proxy is started with.
    pub(crate) main: &'static str,
}

impl BuiltIn {
    /// Compiles it.
    pub(crate) fn template(&self) -> Result<Template, Error> {
        Ok(Template::fixed(self.name, self.source, self.grammar)?)
    }

    /// An output that has not the plan's shape.
    pub(crate) fn refused(&self, error: ShapeError) -> Error {
        Error::Shape {
            file: self.name.into(),
            error,
        }
    }

    /// Which line of the template made each line of the output; `None` where that is not known.
    pub(crate) fn source_map(&self, view: &impl Serialize) -> Result<Vec<Option<usize>>, Error> {
        Ok(self.template()?.source_map(&Value::from(Serde(view)))?)
    }

    /// All files: the text as the main one, with its generation in place.
    pub(crate) fn rendering(
        &self,
        text: &str,
        generation: Id,
        Files(mut files): Files,
        problems: Vec<Problem>,
    ) -> Rendering {
        let text = text.replacen(NO_GENERATION, generation.as_str(), 1);
        files.insert(self.main.to_owned(), self.file(text));
        Rendering {
            rendered: Rendered {
                files,
                main: self.main.to_owned(),
                generation: Some(generation),
            },
            problems,
        }
    }

    /// The main file. It may have keys in it.
    pub(crate) fn file(&self, text: String) -> Arc<File> {
        Arc::new(File {
            content: text.into_bytes(),
            grammar: self.grammar,
            is_private: true,
        })
    }
}

impl Template {
    /// The text with these values, shown to have the template's shape.
    pub(crate) fn proven(&self, values: &impl Serialize) -> Result<String, Error> {
        let values = Value::from(Serde(values));
        let text = self.render(&values)?;
        self.prove(&values, &text)?;
        Ok(text)
    }
}

/// The name of a generation, of a hash over all of it.
pub(crate) fn generation_of(hash: digest::Context) -> Id {
    let text = hex(hash.finish().as_ref());
    Id::of(&[text.get(..16).unwrap_or_default()])
}

/// Whether the addresses that an output listens on are the plan's.
pub(crate) fn check_listens(
    listens: &BTreeSet<&str>,
    expected: impl Iterator<Item = String>,
) -> Result<(), ShapeError> {
    let expected: BTreeSet<String> = expected.collect();
    if listens
        .iter()
        .copied()
        .eq(expected.iter().map(String::as_str))
    {
        return Ok(());
    }
    let what = format!(
        "{} addresses are listened on in place of {}",
        listens.len(),
        expected.len()
    );
    Err(ShapeError::new(0, what))
}
