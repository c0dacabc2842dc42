//! The certificates that a Secret held before it broke.

mod material;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Event, Kind, Object, ObjectKey, Problem, Secret};

pub use material::{Material, Materials};

/// The last certificates of each Secret that could be used: of `tls.crt` and `tls.key`, and of any
/// fields where a convention has one Secret for all hosts of a namespace. It stands between the
/// source and the cluster, so that no convention has to know of it.
#[derive(Debug, Default)]
pub struct LastValid {
    /// Names of Secrets whose fields have any names.
    routing: BTreeSet<Arc<str>>,
    by_secret: BTreeMap<ObjectKey, Materials>,
    kept: BTreeMap<ObjectKey, Vec<Problem>>,
    /// Secrets of which other certificates are held than were last taken.
    changed: BTreeSet<ObjectKey>,
}

impl LastValid {
    /// Begins with what an earlier run held. `routing` are names of Secrets whose fields have any
    /// names.
    pub fn new(
        routing: impl IntoIterator<Item = Arc<str>>,
        held: BTreeMap<ObjectKey, Materials>,
    ) -> Self {
        Self {
            routing: routing.into_iter().collect(),
            by_secret: held,
            ..Self::default()
        }
    }

    /// The event as the cluster is to take it: a Secret whose certificate or key became useless
    /// goes on with those that it had.
    pub fn take(&mut self, event: Event, now_unix_seconds: i64) -> Event {
        match event {
            Event::Applied {
                kind,
                key,
                object: Some(object),
                problems,
            } => Event::Applied {
                kind,
                key,
                object: Some(self.object(object, now_unix_seconds)),
                problems,
            },
            Event::Replaced {
                kind: Kind::Secret,
                objects,
                problems,
            } => {
                let objects: Vec<Object> = objects
                    .into_iter()
                    .map(|object| self.object(object, now_unix_seconds))
                    .collect();
                let there: BTreeSet<&ObjectKey> = objects
                    .iter()
                    .filter_map(secret)
                    .map(|it| &it.key)
                    .collect();
                // Who deletes a Secret means it.
                let gone = self.by_secret.keys().filter(|key| !there.contains(key));
                let gone: Vec<ObjectKey> = gone.cloned().collect();
                for key in gone {
                    self.forget(&key);
                }
                Event::Replaced {
                    kind: Kind::Secret,
                    objects,
                    problems,
                }
            }
            Event::Deleted {
                kind: Kind::Secret,
                key,
            } => {
                self.forget(&key);
                let kind = Kind::Secret;
                Event::Deleted { kind, key }
            }
            Event::Applied { .. }
            | Event::Replaced { .. }
            | Event::Deleted { .. }
            | Event::Source { .. } => event,
        }
    }

    /// Secrets that go on with what they held, and why.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.kept.values().flatten()
    }

    /// What is held of each Secret of which that changed; nothing of one that is to be forgotten.
    pub fn take_changed(&mut self) -> BTreeMap<ObjectKey, Materials> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed
            .map(|key| {
                let held = self.by_secret.get(&key).cloned().unwrap_or_default();
                (key, held)
            })
            .collect()
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.kept.remove(key);
        if self.by_secret.remove(key).is_some() {
            self.changed.insert(key.clone());
        }
    }

    fn object(&mut self, object: Object, now: i64) -> Object {
        if let Object::Secret(secret) = object {
            Object::Secret(self.secret(secret, now))
        } else {
            object
        }
    }

    fn secret(&mut self, secret: Arc<Secret>, now: i64) -> Arc<Secret> {
        let is_routing = self.routing.contains(&secret.key.name);
        let mut next = if is_routing {
            material::of_any(&secret)
        } else {
            material::of_tls(&secret)
        };
        let held = self.by_secret.remove(&secret.key).unwrap_or_default();
        let mut served = Arc::clone(&secret);
        let mut problems = Vec::new();
        for (field, before) in &held {
            let Some(why) = before.why_not(field, &next, &secret, is_routing, now) else {
                continue;
            };
            problems.push(Problem::new(
                Kind::Secret,
                secret.key.clone(),
                "data",
                format!("{} {why}", before.shown(field)),
                before.effect(),
            ));
            before.put_into(field, Arc::make_mut(&mut served));
            next.insert(Arc::clone(field), before.clone());
        }
        let key = &secret.key;
        if next != held {
            self.changed.insert(key.clone());
        }
        if !next.is_empty() {
            self.by_secret.insert(key.clone(), next);
        }
        if problems.is_empty() {
            self.kept.remove(key);
        } else {
            self.kept.insert(key.clone(), problems);
        }
        served
    }
}

fn secret(object: &Object) -> Option<&Arc<Secret>> {
    if let Object::Secret(secret) = object {
        Some(secret)
    } else {
        None
    }
}

/// A time for people.
pub(super) fn time(unix_seconds: i64) -> String {
    let known = jiff::Timestamp::from_second(unix_seconds);
    known.map_or_else(|_| unix_seconds.to_string(), |time| time.to_string())
}
