//! Which references into other namespaces are granted.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Cluster, ObjectKey, ReferenceGrant};

use super::GROUP;

/// ReferenceGrants by their namespace, which is that of the objects referred to.
#[derive(Debug)]
pub(super) struct Grants<'a>(BTreeMap<&'a str, Vec<&'a ReferenceGrant>>);

impl<'a> Grants<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let mut grants: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, grant) in cluster.reference_grants() {
            grants.entry(&*key.namespace).or_default().push(&**grant);
        }
        Self(grants)
    }

    /// Whether objects of Gateway API of a kind and namespace may refer to a core object.
    pub(super) fn allow(&self, from: (&str, &Arc<str>), kind: &str, to: &ObjectKey) -> bool {
        let (from_kind, namespace) = from;
        if **namespace == *to.namespace {
            return true;
        }
        let grants = self.0.get(&*to.namespace).into_iter().flatten();
        let mut grants = grants.filter(|grant| {
            let mut entries = grant.from.iter();
            entries.any(|(group, kind, of)| {
                **group == *GROUP && **kind == *from_kind && of == namespace
            })
        });
        grants.any(|grant| {
            let mut entries = grant.to.iter();
            entries.any(|entry| {
                let is_named = |name: &Arc<str>| *name == to.name;
                entry.group.is_empty()
                    && *entry.kind == *kind
                    && entry.name.as_ref().is_none_or(is_named)
            })
        })
    }
}
