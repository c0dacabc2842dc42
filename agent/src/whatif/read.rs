//! Files of policies to a change.

use std::path::Path;

use model::Kind;
use model::k8s::reduce;
use model_watch::manifests::parse;

use super::{Change, KINDS};

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{file}: cannot be read: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        why: String,
    },
    /// It is no YAML.
    #[error("{file}: document {number}: {why}")]
    Syntax {
        /// The file.
        file: String,
        /// The document, from 1.
        number: usize,
        /// What the parser said.
        why: String,
    },
    /// An object of it makes no sense.
    #[error("{file}: {problem}")]
    Object {
        /// The file.
        file: String,
        /// Kind, name, field, and what was found.
        problem: String,
    },
    /// There is no policy in it.
    #[error("{file}: holds neither a NetworkPolicy nor a ClusterNetworkPolicy{others}")]
    NoPolicy {
        /// The file.
        file: String,
        /// What it holds.
        others: String,
    },
}

/// What a file says, whose text is `text`. Objects of other kinds are passed over: a rendered chart
/// has those too.
///
/// # Errors
/// For the first thing that is wrong. A policy that could not be enforced in full is refused: it
/// would not mean what its author thinks.
pub fn file(path: &Path, text: &str, change: &mut Change) -> Result<(), FileError> {
    let file = || path.display().to_string();
    let mut others: Vec<(Kind, String)> = Vec::new();
    let mut wrong = None;
    let mut found = 0;
    let broken = parse(text, |kind, value| {
        if !KINDS.contains(&kind) {
            others.push((kind, reduce(kind, &value).key.to_string()));
            return;
        }
        found += 1;
        let reduced = reduce(kind, &value);
        let problem = match reduced.problems.first() {
            Some(problem) => Some(problem.to_string()),
            None if reduced.object.is_none() => Some(format!("{kind}: metadata.name is missing")),
            None => None,
        };
        match problem {
            Some(problem) if wrong.is_none() => wrong = Some(problem),
            Some(_) => {}
            None => change.objects.push(value),
        }
    });
    if let Some((number, why)) = broken.into_iter().next() {
        return Err(FileError::Syntax {
            file: file(),
            number,
            why,
        });
    }
    match wrong {
        Some(problem) => Err(FileError::Object {
            file: file(),
            problem,
        }),
        None if found == 0 => Err(FileError::NoPolicy {
            file: file(),
            others: others
                .first()
                .map(|(kind, name)| format!(", but {kind} {name}"))
                .unwrap_or_default(),
        }),
        None => Ok(()),
    }
}
