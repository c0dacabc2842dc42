//! Objects with their history, under one version that only grows, as etcd keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use model::{Kind, ObjectKey};
use serde_json::{Value, json};

use super::resource::{api_version, is_namespaced};

/// Everything stored.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    /// Versions below this are forgotten.
    compacted: u64,
    /// Revisions of each object, oldest first.
    objects: BTreeMap<(Kind, ObjectKey), Vec<Revision>>,
    /// Changes after `compacted`, oldest first.
    history: Vec<Change>,
}

#[derive(Debug)]
struct Revision {
    version: u64,
    /// `None` where it was deleted.
    object: Option<Arc<Value>>,
}

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: Kind,
    pub(super) event: &'static str,
    pub(super) object: Arc<Value>,
}

impl Default for Store {
    fn default() -> Self {
        // etcd's first version is 1.
        Self {
            version: 1,
            compacted: 1,
            objects: BTreeMap::new(),
            history: Vec::new(),
        }
    }
}

impl Store {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn apply(&mut self, mut object: Value) -> Result<u64> {
        let (kind, key) = identify(&object)?;
        let before = self.current(kind, &key);
        let metadata = object
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .context("metadata is no map")?;
        if is_namespaced(kind) {
            metadata.insert("namespace".to_owned(), json!(&*key.namespace));
        }
        metadata.insert("uid".to_owned(), json!(format!("{kind}-{key}")));
        metadata.insert("managedFields".to_owned(), json!([{"manager": "test"}]));
        metadata.remove("resourceVersion");
        if let Some((version, before)) = &before {
            metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
            if **before == object {
                return Ok(*version);
            }
        }
        let event = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        Ok(self.write(kind, key, event, object))
    }

    pub(super) fn delete(&mut self, kind: Kind, key: &ObjectKey) -> bool {
        let Some((_, object)) = self.current(kind, key) else {
            return false;
        };
        self.write(kind, key.clone(), "DELETED", (*object).clone());
        true
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
        for revisions in self.objects.values_mut() {
            revisions.drain(..revisions.len() - 1);
        }
        self.objects
            .retain(|_, revisions| revisions.last().is_some_and(|last| last.object.is_some()));
    }

    /// The objects of a kind as of `version`, in key order.
    pub(super) fn at(
        &self,
        kind: Kind,
        version: u64,
    ) -> impl Iterator<Item = (&ObjectKey, &Arc<Value>)> {
        self.objects
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .filter_map(move |((_, key), revisions)| {
                let revision = revisions
                    .iter()
                    .rev()
                    .find(|revision| revision.version <= version)?;
                Some((key, revision.object.as_ref()?))
            })
    }

    /// The changes of a kind after `from`, up to `to`.
    pub(super) fn changes(&self, kind: Kind, from: u64, to: u64) -> Vec<Change> {
        let start = self
            .history
            .partition_point(|change| change.version <= from);
        self.history[start..]
            .iter()
            .filter(|change| change.kind == kind && change.version <= to)
            .cloned()
            .collect()
    }

    pub(super) fn get(&self, kind: Kind, key: &ObjectKey) -> Option<Value> {
        self.current(kind, key).map(|(_, object)| (*object).clone())
    }

    fn current(&self, kind: Kind, key: &ObjectKey) -> Option<(u64, Arc<Value>)> {
        let last = self.objects.get(&(kind, key.clone()))?.last()?;
        Some((last.version, Arc::clone(last.object.as_ref()?)))
    }

    fn write(&mut self, kind: Kind, key: ObjectKey, event: &'static str, mut object: Value) -> u64 {
        self.version += 1;
        let version = self.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        let stored = (event != "DELETED").then(|| Arc::clone(&object));
        self.objects.entry((kind, key)).or_default().push(Revision {
            version,
            object: stored,
        });
        self.history.push(Change {
            version,
            kind,
            event,
            object,
        });
        version
    }
}

fn identify(object: &Value) -> Result<(Kind, ObjectKey)> {
    let name = object["kind"].as_str().context("an object without kind")?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .with_context(|| format!("kind {name} is not served"))?;
    let stated = object["apiVersion"].as_str().unwrap_or_default();
    ensure!(
        stated == api_version(kind),
        "{kind} is of {}, not {stated:?}",
        api_version(kind)
    );
    let name = object["metadata"]["name"]
        .as_str()
        .with_context(|| format!("a {kind} without metadata.name"))?;
    if !is_namespaced(kind) {
        return Ok((kind, ObjectKey::cluster_scoped(name)));
    }
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default");
    Ok((kind, ObjectKey::new(namespace, name)))
}
