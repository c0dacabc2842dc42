//! What the files of a directory say together, and what changes when one of them does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::k8s::{Reduced, reduce};
use model::{Event, Kind, KindSet, ObjectKey, Problem, SourceState};
use serde_json::Value;

use super::documents::parse;

type Name = (Kind, ObjectKey);

/// The files as last read. Pure: time and files come in as values.
#[derive(Debug)]
pub(super) struct Store {
    kinds: KindSet,
    files: BTreeMap<PathBuf, Contents>,
    handed_on: BTreeMap<Name, Reduced>,
}

/// What one file says.
#[derive(Debug, Default)]
struct Contents {
    objects: BTreeMap<Name, Value>,
    broken: Vec<(usize, String)>,
}

impl Store {
    pub(super) fn new(kinds: KindSet) -> Self {
        Self {
            kinds,
            files: BTreeMap::new(),
            handed_on: BTreeMap::new(),
        }
    }

    /// Every file that has been read.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.keys().cloned()
    }

    /// The first events: every kind, in one step each.
    pub(super) fn start(&mut self, files: impl Iterator<Item = (PathBuf, String)>) -> Vec<Event> {
        for (path, text) in files {
            self.read(path, &text);
        }
        self.handed_on = self.effective();
        let mut events = Vec::new();
        for kind in self.kinds.clone() {
            let of_kind = || {
                self.handed_on
                    .iter()
                    .filter(|((of, _), _)| *of == kind)
                    .map(|(_, reduced)| reduced)
            };
            let problems = of_kind()
                .flat_map(|reduced| reduced.problems.clone())
                .collect();
            let objects = of_kind()
                .filter_map(|reduced| reduced.object.clone())
                .collect();
            events.push(Event::Replaced {
                kind,
                objects,
                problems,
            });
            events.push(Event::Source {
                kind,
                state: self.state(),
            });
        }
        events
    }

    /// What changes with the new contents of some files; `None` for a file that is gone.
    pub(super) fn update(&mut self, files: Vec<(PathBuf, Option<String>)>) -> Vec<Event> {
        let state = self.state();
        for (path, text) in files {
            match text {
                Some(text) => self.read(path, &text),
                None => drop(self.files.remove(&path)),
            }
        }
        let fresh = self.effective();
        let mut events: Vec<Event> = fresh
            .iter()
            .filter(|(name, reduced)| self.handed_on.get(name) != Some(reduced))
            .map(|((kind, key), reduced)| Event::Applied {
                kind: *kind,
                key: key.clone(),
                object: reduced.object.clone(),
                problems: reduced.problems.clone(),
            })
            .collect();
        let gone = self
            .handed_on
            .keys()
            .filter(|name| !fresh.contains_key(name));
        events.extend(gone.map(|(kind, key)| Event::Deleted {
            kind: *kind,
            key: key.clone(),
        }));
        self.handed_on = fresh;
        if self.state() != state {
            events.extend(self.kinds.iter().map(|kind| Event::Source {
                kind: *kind,
                state: self.state(),
            }));
        }
        events
    }

    fn read(&mut self, path: PathBuf, text: &str) {
        let documents = parse(text);
        let named = documents
            .objects
            .into_iter()
            .filter(|(kind, _)| self.kinds.contains(kind));
        let mut objects: BTreeMap<Name, Value> = named
            .map(|(kind, value)| ((kind, reduce(kind, &value).key), value))
            .collect();
        if !documents.broken.is_empty() {
            // Which objects the broken document held cannot be known: those of the file stay.
            let known = self.files.remove(&path).unwrap_or_default();
            for (name, value) in known.objects {
                objects.entry(name).or_insert(value);
            }
        }
        self.files.insert(
            path,
            Contents {
                objects,
                broken: documents.broken,
            },
        );
    }

    /// What all files say together. The same object in two of them is the first file's.
    fn effective(&self) -> BTreeMap<Name, Reduced> {
        let mut objects: BTreeMap<Name, Reduced> = BTreeMap::new();
        let mut owners: BTreeMap<Name, &Path> = BTreeMap::new();
        for (path, contents) in &self.files {
            for ((kind, key), value) in &contents.objects {
                let name = (*kind, key.clone());
                if let (Some(reduced), Some(owner)) = (objects.get_mut(&name), owners.get(&name)) {
                    reduced.problems.push(Problem::new(
                        *kind,
                        key.clone(),
                        "",
                        format!("stands in {} and in {}", owner.display(), path.display()),
                        "the first file's holds; remove one of the two",
                    ));
                } else {
                    objects.insert(name.clone(), reduce(*kind, value));
                    owners.insert(name, path);
                }
            }
        }
        objects
    }

    /// Broken documents concern every kind: nobody knows what they were to hold.
    fn state(&self) -> SourceState {
        let broken: BTreeSet<String> = self
            .files
            .iter()
            .flat_map(|(path, contents)| {
                contents
                    .broken
                    .iter()
                    .map(move |(number, why)| (path, number, why))
            })
            .map(|(path, number, why)| format!("{} document {number}: {why}", path.display()))
            .collect();
        if broken.is_empty() {
            return SourceState::Watching;
        }
        let broken: Vec<String> = broken.into_iter().collect();
        let reason = format!(
            "{}; the file's last readable objects stay in force until it is mended",
            broken.join("; ")
        );
        SourceState::Degraded { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Cluster;

    fn service(name: &str, port: u16) -> String {
        format!(
            "kind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{clusterIP: 10.96.0.1, ports: [{{port: {port}}}]}}\n"
        )
    }

    fn store(files: &[(&str, String)]) -> (Store, Cluster) {
        let mut store = Store::new(KindSet::from([Kind::Service, Kind::Node]));
        let mut cluster = Cluster::default();
        let events = store.start(
            files
                .iter()
                .map(|(path, text)| (PathBuf::from(path), text.clone())),
        );
        events.into_iter().for_each(|event| cluster.apply(event));
        cluster.take_changes();
        (store, cluster)
    }

    /// Applies new contents; answers what changed, `-` before what is gone.
    fn change(
        store: &mut Store,
        cluster: &mut Cluster,
        files: &[(&str, Option<String>)],
    ) -> Vec<String> {
        let files = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), text.clone()))
            .collect();
        store
            .update(files)
            .into_iter()
            .for_each(|event| cluster.apply(event));
        let changes = cluster.take_changes();
        let keys = changes.get(&Kind::Service).into_iter().flatten();
        keys.map(|key| {
            if cluster.service(key).is_some() {
                key.to_string()
            } else {
                format!("-{key}")
            }
        })
        .collect()
    }

    #[test]
    fn only_what_differs_is_handed_on() {
        let text = service("a", 80) + "---\n" + &service("b", 80);
        let (mut store, mut cluster) = store(&[("x.yaml", text.clone())]);
        assert!(cluster.is_synced(&KindSet::from([Kind::Service, Kind::Node])));
        assert_eq!(
            change(&mut store, &mut cluster, &[("x.yaml", Some(text.clone()))]),
            Vec::<String>::new()
        );
        let edited = service("a", 81) + "---\n" + &service("b", 80);
        assert_eq!(
            change(&mut store, &mut cluster, &[("x.yaml", Some(edited))]),
            ["shop/a"]
        );
        assert_eq!(
            change(&mut store, &mut cluster, &[("x.yaml", None)]),
            ["-shop/a", "-shop/b"]
        );
    }

    #[test]
    fn an_object_that_moves_to_another_file_does_not_change() {
        let (mut store, mut cluster) = store(&[("x.yaml", service("a", 80))]);
        let moved = [("x.yaml", None), ("y.yaml", Some(service("a", 80)))];
        assert_eq!(
            change(&mut store, &mut cluster, &moved),
            Vec::<String>::new()
        );
        assert!(cluster.service(&ObjectKey::new("shop", "a")).is_some());
    }

    #[test]
    fn a_broken_document_keeps_the_files_objects_and_is_reported() {
        let (mut store, mut cluster) =
            store(&[("x.yaml", service("a", 80) + "---\n" + &service("b", 80))]);
        let broken = service("a", 81) + "---\nkind: [\n";
        assert_eq!(
            change(&mut store, &mut cluster, &[("x.yaml", Some(broken))]),
            ["shop/a"]
        );
        assert!(cluster.service(&ObjectKey::new("shop", "b")).is_some());
        let state = format!("{:?}", cluster.source_states()[&Kind::Service]);
        assert!(state.contains("x.yaml document 2"), "{state}");
        assert_eq!(
            change(
                &mut store,
                &mut cluster,
                &[("x.yaml", Some(service("a", 81)))]
            ),
            ["-shop/b"]
        );
        assert_eq!(
            cluster.source_states()[&Kind::Service],
            SourceState::Watching
        );
    }

    #[test]
    fn the_same_object_in_two_files_is_the_firsts_and_reported() {
        let (mut store, mut cluster) =
            store(&[("x.yaml", service("a", 80)), ("y.yaml", service("a", 81))]);
        let port = |cluster: &Cluster| {
            cluster.service(&ObjectKey::new("shop", "a")).unwrap().ports[0]
                .port
                .get()
        };
        assert_eq!(port(&cluster), 80);
        assert!(cluster.problems().any(
            |problem| problem.message.contains("x.yaml") && problem.message.contains("y.yaml")
        ));
        assert_eq!(
            change(&mut store, &mut cluster, &[("x.yaml", None)]),
            ["shop/a"]
        );
        assert_eq!((port(&cluster), cluster.problems().count()), (81, 0));
    }
}
