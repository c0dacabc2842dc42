//! What the files of a directory say together, and what changes when one of them does.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::k8s::{Detail, Reduced, reduce_to};
use model::{Event, Kind, KindSet, Object, ObjectKey, Problem, Reason, SourceState, in_parallel};

use super::documents::parse;

type Name = (Kind, ObjectKey);

/// A file's path. Paths themselves compare by components, which takes ten times as long.
type File = Arc<OsStr>;

/// The files as last read. Pure: files come in as values. Work is proportional to the files that
/// change, not to the directory.
#[derive(Debug)]
pub(super) struct Store {
    detail: Detail,
    kinds: KindSet,
    files: BTreeMap<File, Contents>,
    /// The files an object stands in, in order; it is the first one's. A list, since most objects
    /// stand in one file.
    places: BTreeMap<Name, Vec<File>>,
}

/// What one file says.
#[derive(Debug, Default)]
struct Contents {
    objects: BTreeMap<Name, Reduced>,
    broken: Vec<(usize, String)>,
}

impl Store {
    pub(super) fn new(detail: Detail, kinds: KindSet) -> Self {
        Self {
            detail,
            kinds,
            files: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Every file that has been read.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.keys().map(PathBuf::from)
    }

    /// The first events: every kind, in one step each. `text` reads a file, `None` where it is gone.
    pub(super) fn start(
        &mut self,
        files: Vec<PathBuf>,
        text: impl Fn(&Path) -> Option<String> + Sync,
    ) -> Vec<Event> {
        // Tens of thousands of objects are a second's work, and a start waits for it.
        let read = |path: &PathBuf| Some(self.read(path, &text(path)?));
        let contents = in_parallel(&files, read);
        for (path, contents) in files.into_iter().zip(contents) {
            self.install(path, contents);
        }
        let nothing = || (Vec::new(), Vec::new());
        let mut listed: BTreeMap<Kind, (Vec<Object>, Vec<Problem>)> =
            self.kinds.iter().map(|kind| (*kind, nothing())).collect();
        for (name, places) in &self.places {
            let (objects, problems) = listed.entry(name.0).or_insert_with(nothing);
            if let Some(reduced) = self.first_of(name, places) {
                objects.extend(reduced.object);
                problems.extend(reduced.problems);
            }
        }
        let state = self.state();
        let events = listed.into_iter().flat_map(|(kind, (objects, problems))| {
            let replaced = Event::Replaced {
                kind,
                objects,
                problems,
            };
            let state = state.clone();
            [replaced, Event::Source { kind, state }]
        });
        events.collect()
    }

    /// What changes with the new contents of some files; `None` for a file that is gone.
    pub(super) fn update(&mut self, files: Vec<(PathBuf, Option<String>)>) -> Vec<Event> {
        let state = self.state();
        let read = |(path, text): (PathBuf, Option<String>)| {
            let contents = text.map(|text| self.read(&path, &text));
            (path, contents)
        };
        let fresh: Vec<(PathBuf, Option<Contents>)> = files.into_iter().map(read).collect();
        let mut before: BTreeMap<Name, Option<Reduced>> = BTreeMap::new();
        for (path, contents) in &fresh {
            for contents in self.files.get(path.as_os_str()).into_iter().chain(contents) {
                before.extend(
                    contents
                        .objects
                        .keys()
                        .map(|name| (name.clone(), self.effective(name))),
                );
            }
        }
        for (path, contents) in fresh {
            self.install(path, contents);
        }
        let mut events = Vec::new();
        for (name, before) in before {
            let after = self.effective(&name);
            if before == after {
                continue;
            }
            let (kind, key) = name;
            events.push(match after {
                Some(Reduced {
                    object, problems, ..
                }) => Event::Applied {
                    kind,
                    key,
                    object,
                    problems,
                },
                None => Event::Deleted { kind, key },
            });
        }
        if self.state() != state {
            events.extend(self.kinds.iter().map(|kind| Event::Source {
                kind: *kind,
                state: self.state(),
            }));
        }
        events
    }

    /// What a file says now.
    fn read(&self, path: &Path, text: &str) -> Contents {
        let mut objects: BTreeMap<Name, Reduced> = BTreeMap::new();
        let broken = parse(text, |kind, value| {
            if self.kinds.contains(&kind) {
                let reduced = reduce_to(self.detail, kind, &value);
                objects.insert((kind, reduced.key.clone()), reduced);
            }
        });
        if !broken.is_empty() {
            // Which objects the broken document held cannot be known: those of the file stay.
            for (name, reduced) in self
                .files
                .get(path.as_os_str())
                .into_iter()
                .flat_map(|known| &known.objects)
            {
                objects
                    .entry(name.clone())
                    .or_insert_with(|| reduced.clone());
            }
        }
        Contents { objects, broken }
    }

    /// Takes in the contents of a file, in place of what it said before.
    fn install(&mut self, path: PathBuf, contents: Option<Contents>) {
        for name in self
            .files
            .remove(path.as_os_str())
            .unwrap_or_default()
            .objects
            .into_keys()
        {
            if let Entry::Occupied(mut places) = self.places.entry(name) {
                places
                    .get_mut()
                    .retain(|place| **place != *path.as_os_str());
                if places.get().is_empty() {
                    places.remove();
                }
            }
        }
        let Some(contents) = contents else { return };
        let place: File = path.into_os_string().into();
        for name in contents.objects.keys() {
            let places = self.places.entry(name.clone()).or_default();
            let at = places.partition_point(|other| *other < place);
            places.reserve_exact(1);
            places.insert(at, Arc::clone(&place));
        }
        self.files.insert(place, contents);
    }

    /// What all files together say of one object. In two of them, it is the first file's.
    fn effective(&self, name: &Name) -> Option<Reduced> {
        self.first_of(name, self.places.get(name)?)
    }

    /// The same for one that stands in `places`.
    fn first_of(&self, name: &Name, places: &[File]) -> Option<Reduced> {
        let mut places = places.iter();
        let owner = places.next()?;
        let mut reduced = self.files.get(owner)?.objects.get(name)?.clone();
        reduced.problems.extend(places.map(|other| {
            let message = format!("stands in {} and in {}", owner.display(), other.display());
            Problem::new(
                name.0,
                name.1.clone(),
                "",
                message,
                "the first file's holds; remove one of the two",
            )
            .because(Reason::Conflict)
        }));
        Some(reduced)
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
        let mut store = Store::new(
            Detail::default(),
            KindSet::from([Kind::Service, Kind::Node]),
        );
        let mut cluster = Cluster::default();
        let text_of = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.clone())
        };
        let paths = files.iter().map(|(path, _)| PathBuf::from(path));
        let events = store.start(paths.collect(), text_of);
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
