//! Label selectors (`metav1.LabelSelector`).

use std::sync::Arc;

use super::read::{Field, Reader};
use crate::{LabelSelector, Requirement};

/// `None` where any part cannot be read: a selector without that part would select more.
pub(super) fn selector(
    reader: &Reader<'_>,
    field: &Field<'_>,
    effect: &str,
) -> Option<LabelSelector> {
    reader.mapping(field, effect)?;
    reader.only_known(field, &["matchLabels", "matchExpressions"], effect)?;
    let labels = reader.try_strings(field, "matchLabels", effect)?;
    let expressions = reader.try_list(field, "matchExpressions", effect)?;
    let labels = labels
        .into_iter()
        .map(|(key, value)| Some(Requirement::In(key, vec![value])));
    let expressions = expressions
        .iter()
        .map(|entry| requirement(reader, entry, effect));
    Some(LabelSelector {
        requirements: labels.chain(expressions).collect::<Option<_>>()?,
    })
}

fn requirement(reader: &Reader<'_>, entry: &Field<'_>, effect: &str) -> Option<Requirement> {
    reader.mapping(entry, effect)?;
    reader.only_known(entry, &["key", "operator", "values"], effect)?;
    let key: Arc<str> = reader
        .text(&reader.required(entry, "key", effect)?, effect)?
        .into();
    let values = || {
        let values = reader.try_list(entry, "values", effect)?;
        if values.is_empty() {
            let path = format!("{}.values", entry.path);
            reader.problem(&path, "is missing or empty", effect);
            return None;
        }
        let values = values.iter();
        values
            .map(|value| reader.text(value, effect).map(Into::into))
            .collect::<Option<_>>()
    };
    let operator = reader.required(entry, "operator", effect)?;
    Some(match operator.value.as_str() {
        Some("In") => Requirement::In(key, values()?),
        Some("NotIn") => Requirement::NotIn(key, values()?),
        Some("Exists") => Requirement::Exists(key),
        Some("DoesNotExist") => Requirement::DoesNotExist(key),
        _ => {
            let expected = "In, NotIn, Exists or DoesNotExist";
            return reader.parse(&operator, expected, effect, |_| None);
        }
    })
}
