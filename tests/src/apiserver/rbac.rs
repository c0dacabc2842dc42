//! Which access a request asks for, and what a manifest grants, as kube-apiserver reads both.
//!
//! The server lets everything pass; it notes what was asked for, and a test compares.

use anyhow::{Context, Result};
use axum::http::{Method, Uri};
use serde::Deserialize;
use serde_json::Value;

/// What one request asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// `list`, `patch` and so on.
    pub verb: &'static str,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name, and `/status` where that alone is meant.
    pub resource: String,
    /// Empty for all namespaces, and for what is in none.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
}

impl Access {
    /// `None` for what is no resource, as `/version`.
    pub(super) fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let segments: Vec<_> = uri.path().trim_matches('/').split('/').collect();
        let (group, rest) = match segments.as_slice() {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, part) = match rest {
            [plural] => (*plural, "", None),
            [plural, name] => (*plural, *name, None),
            [plural, name, part] => (*plural, *name, Some(*part)),
            _ => return None,
        };
        let watches = uri
            .query()
            .is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let verb = match *method {
            Method::GET if watches => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PATCH => "patch",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => return None,
        };
        Some(Self {
            verb,
            group: group.to_owned(),
            resource: part.map_or(plural.to_owned(), |part| format!("{plural}/{part}")),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// One verb on one resource, in all namespaces or one, for all names or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    verb: String,
    group: String,
    resource: String,
    namespace: Option<String>,
    names: Vec<String>,
}

impl Grant {
    /// Whether it allows something.
    pub fn allows(&self, access: &Access) -> bool {
        let Self {
            verb,
            group,
            resource,
            namespace,
            names,
        } = self;
        access.verb == verb
            && access.group == *group
            && access.resource == *resource
            && namespace
                .as_ref()
                .is_none_or(|only| access.namespace == *only)
            && (names.is_empty() || names.contains(&access.name))
    }
}

/// What the bindings of a manifest grant to a ServiceAccount of it.
pub fn grants(yaml: &str, service_account: &str) -> Result<Vec<Grant>> {
    let documents = serde_norway::Deserializer::from_str(yaml)
        .map(Value::deserialize)
        .collect::<Result<Vec<_>, _>>()?;
    let find = |kind: &str, name: &str| {
        let found = documents
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.with_context(|| format!("the manifest has no {kind} {name}"))
    };
    find("ServiceAccount", service_account)?;
    let mut grants = Vec::new();
    for binding in &documents {
        let namespace = match binding["kind"].as_str() {
            Some("ClusterRoleBinding") => None,
            Some("RoleBinding") => Some(texts(&binding["metadata"]["namespace"]).concat()),
            _ => continue,
        };
        let subjects = binding["subjects"].as_array();
        let is_ours = |subject: &Value| {
            subject["kind"] == "ServiceAccount" && subject["name"] == service_account
        };
        if !subjects.is_some_and(|subjects| subjects.iter().any(is_ours)) {
            continue;
        }
        let reference = &binding["roleRef"];
        let role = find(
            &texts(&reference["kind"]).concat(),
            &texts(&reference["name"]).concat(),
        )?;
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        grants.push(Grant {
                            verb,
                            group: group.clone(),
                            resource: resource.clone(),
                            namespace: namespace.clone(),
                            names: texts(&rule["resourceNames"]),
                        });
                    }
                }
            }
        }
    }
    Ok(grants)
}

/// A text, or those of a list.
fn texts(value: &Value) -> Vec<String> {
    let several = value.as_array().into_iter().flatten();
    std::iter::once(value)
        .chain(several)
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}
