//! The text of a file to objects, document by document.

use model::Kind;
use serde::Deserialize as _;
use serde_json::Value;

use crate::kube_source::resource::Resource;

/// Hands on every object of the kinds the model knows, with its namespace filled in, one at a time:
/// as JSON they are large. Answers the documents that cannot be read, by number from 1, and why; each
/// costs itself alone.
pub fn parse(text: &str, mut sink: impl FnMut(Kind, Value)) -> Vec<(usize, String)> {
    let mut broken = Vec::new();
    for (number, (line, document)) in (1..).zip(split(text)) {
        // JSON is YAML, and an order of magnitude faster to read as what it is.
        let json = document.trim_start().starts_with('{');
        if let Some(value) = json.then(|| serde_json::from_str(document).ok()).flatten() {
            collect(value, &mut sink);
            continue;
        }
        match Value::deserialize(serde_norway::Deserializer::from_str(document)) {
            Ok(value) => collect(value, &mut sink),
            Err(error) => broken.push((number, at_line(&error, line))),
        }
    }
    broken
}

/// Documents and the number of lines before each. They are split before they are parsed, since
/// the parser gives up at the first that is broken.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut first_line, mut begins, mut at) = (0, 0, 0);
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        if content.trim_end() == "---" || content.starts_with("--- ") {
            documents.push((first_line, &text[begins..at]));
            // What stands behind the marker belongs to the document.
            (first_line, begins) = (line - 1, at + 3);
        }
        at += content.len();
    }
    documents.push((first_line, &text[begins..]));
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    documents.retain(|(_, document)| document.lines().any(is_content));
    documents
}

fn at_line(error: &serde_norway::Error, before: usize) -> String {
    match error.location() {
        Some(at) => format!(
            "line {} column {}: {error}",
            at.line() + before,
            at.column()
        ),
        None => error.to_string(),
    }
}

fn collect(value: Value, sink: &mut impl FnMut(Kind, Value)) {
    let Some(name) = value
        .get("kind")
        .and_then(Value::as_str)
        .map(ToOwned::to_owned)
    else {
        return;
    };
    if let Some(element) = name.strip_suffix("List") {
        let mut value = value;
        let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) else {
            return;
        };
        for mut item in items {
            // The elements of a ServiceList need not repeat their kind.
            if let (false, Some(item)) = (element.is_empty(), item.as_object_mut()) {
                item.entry("kind").or_insert_with(|| element.into());
            }
            collect(item, sink);
        }
        return;
    }
    let version = value.get("apiVersion").and_then(Value::as_str);
    let group = version.map(|version| version.split_once('/').map_or("", |(group, _)| group));
    let is_of_group = |kind| group.is_none_or(|group| group == Resource::of(kind).group);
    let mut kinds = Kind::ALL.into_iter();
    // Others have a Gateway, or a Service, too.
    let found = kinds.find(|kind| kind.as_str() == name && is_of_group(*kind));
    let Some(kind) = found else {
        tracing::debug!(kind = name, group, "not a kind of the model");
        return;
    };
    sink(kind, with_namespace(kind, value));
}

fn with_namespace(kind: Kind, mut value: Value) -> Value {
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        if !kind.is_namespaced() {
            metadata.remove("namespace");
        } else {
            metadata
                .entry("namespace")
                .or_insert_with(|| "default".into());
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Vec<(Kind, Value)>, Vec<(usize, String)>);

    fn read(text: &str) -> Read {
        let mut objects = Vec::new();
        let broken = parse(text, |kind, value| objects.push((kind, value)));
        (objects, broken)
    }

    #[test]
    fn a_broken_document_costs_itself_alone_and_is_named_by_line() {
        let text = "kind: Service\nmetadata: {name: a}\n---\nkind: [\n---\n# only a comment\n---\nkind: Node\nmetadata: {name: n}\n";
        let (objects, broken) = read(text);
        let kinds: Vec<_> = objects.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Service, Kind::Node]);
        assert_eq!(broken.len(), 1);
        let (number, why) = &broken[0];
        assert_eq!(*number, 2);
        assert!(
            why.starts_with("line 5") || why.starts_with("line 4"),
            "{why}"
        );
    }

    #[test]
    fn lists_are_taken_apart_and_namespaces_filled_in() {
        let text = "kind: List\nitems:\n- {kind: Service, metadata: {name: a}}\n- {kind: Deployment, metadata: {name: b}}\n- {apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g}}\n---\nkind: NodeList\nitems: [{metadata: {name: n, namespace: x}}]\n---\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\n";
        let (objects, _) = read(text);
        let found: Vec<_> = objects
            .iter()
            .map(|(kind, value)| (*kind, value.pointer("/metadata/namespace").cloned()))
            .collect();
        assert_eq!(
            found,
            [
                (Kind::Service, Some("default".into())),
                (Kind::Node, None),
                (Kind::ClusterNetworkPolicy, None)
            ]
        );
    }
}
