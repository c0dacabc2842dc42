use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Manifest, Ownership, Place, Restored, Store, Stored, write};
use crate::output::{File, Grammar, Rendered};

fn set(files: &[(&str, &str)]) -> Rendered {
    let file = |content: &str| {
        Arc::new(File {
            content: content.as_bytes().to_vec(),
            grammar: Grammar::Plain,
            is_private: content.contains("KEY"),
        })
    };
    Rendered {
        files: files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), file(content)))
            .collect(),
        main: files[0].0.to_owned(),
        generation: None,
    }
}

fn open(root: &Path) -> Store {
    Store::open(root, Place::Directory, Ownership::default()).unwrap()
}

#[track_caller]
fn install(store: &Store, rendered: &Rendered) -> Manifest {
    let candidate = store.write(rendered, None).unwrap();
    store.switch(&candidate).unwrap();
    candidate.manifest
}

fn read(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join("current").join(name)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_candidate_is_not_live_before_the_switch() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    let old = install(&store, &set(&[("main.cfg", "old"), ("maps/hosts", "a")]));
    let candidate = store
        .write(&set(&[("main.cfg", "new"), ("maps/hosts", "b")]), None)
        .unwrap();
    assert_eq!(fs::read_to_string(&candidate.main).unwrap(), "new");
    assert_eq!(read(root.path(), "main.cfg"), "old");
    assert_eq!(store.current(), Stored::Good(old));
    store.switch(&candidate).unwrap();
    assert_eq!(read(root.path(), "main.cfg"), "new");
    assert_eq!(read(root.path(), "maps/hosts"), "b");
    assert_eq!(store.current(), Stored::Good(candidate.manifest));
}

#[test]
fn private_files_are_their_owners_alone() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    install(&store, &set(&[("main.cfg", "x"), ("certs/a.pem", "KEY")]));
    let current = root.path().join("current");
    assert_eq!(mode(&current.join("main.cfg")), 0o640);
    assert_eq!(mode(&current.join("certs/a.pem")), 0o600);
    assert_eq!(mode(&current.join("certs")), 0o700);
}

#[test]
fn a_corrupt_current_is_told_and_the_last_good_version_is_used() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    let good = install(&store, &set(&[("main.cfg", "good")]));
    store.confirm(&good).unwrap();
    install(&store, &set(&[("main.cfg", "newer")]));
    fs::write(root.path().join("current/main.cfg"), "torn").unwrap();
    match open(root.path()).restore().unwrap() {
        Restored::LastGood { manifest, corrupt } => {
            assert_eq!(manifest, good);
            assert!(corrupt.contains("checksum of main.cfg"), "{corrupt}");
        }
        other @ (Restored::Nothing | Restored::Current(_) | Restored::Corrupt(_)) => {
            panic!("{other:?}")
        }
    }
    assert_eq!(read(root.path(), "main.cfg"), "good");
}

#[test]
fn a_corrupt_last_good_version_is_told_and_not_used() {
    for damage in ["main.cfg", ".manifest.json"] {
        let root = TempDir::new().unwrap();
        let store = open(root.path());
        let good = install(&store, &set(&[("main.cfg", "good")]));
        store.confirm(&good).unwrap();
        fs::write(root.path().join("last-good").join(damage), "{}").unwrap();
        assert!(matches!(store.last_good(), Stored::Corrupt(_)));
        assert!(matches!(store.restore().unwrap(), Restored::Corrupt(_)));
        assert!(store.roll_back().is_err());
        // Writing it anew mends it.
        install(&store, &set(&[("main.cfg", "good")]));
        assert_eq!(store.current(), Stored::Good(good));
    }
}

#[test]
fn what_a_killed_run_left_is_removed_and_harms_nothing() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    let live = install(&store, &set(&[("main.cfg", "live")]));
    let torn = write::temporary(&root.path().join("versions/abc"));
    fs::create_dir(&torn).unwrap();
    fs::write(torn.join("main.cfg"), "ha").unwrap();
    std::os::unix::fs::symlink(
        "versions/abc",
        write::temporary(&root.path().join("current")),
    )
    .unwrap();
    let store = open(root.path());
    assert_eq!(store.restore().unwrap(), Restored::Current(live));
    assert!(!torn.exists());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
}

#[test]
fn old_versions_are_forgotten_but_for_some() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    let first = install(&store, &set(&[("main.cfg", "first")]));
    store.confirm(&first).unwrap();
    for number in 0..10 {
        let manifest = install(&store, &set(&[("main.cfg", &number.to_string())]));
        store.confirm(&manifest).unwrap();
    }
    let kept = fs::read_dir(root.path().join("versions")).unwrap().count();
    assert_eq!(kept, 1 + super::HISTORY);
}

#[test]
fn one_file_at_a_path_of_its_own_is_renamed_into_place() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("haproxy.cfg");
    let state = root.path().join("state");
    let place = || Place::File(path.clone());
    let store = Store::open(&state, place(), Ownership::default()).unwrap();
    let good = install(&store, &set(&[("haproxy.cfg", "good")]));
    store.confirm(&good).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "good");
    fs::write(&path, "by hand").unwrap();
    assert!(matches!(store.current(), Stored::Corrupt(why) if why.contains("someone else")));
    assert!(matches!(
        store.restore().unwrap(),
        Restored::LastGood { .. }
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "good");
    assert!(
        store
            .write(&set(&[("haproxy.cfg", "a"), ("map", "b")]), None)
            .is_err()
    );
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    let root = TempDir::new().unwrap();
    let store = open(&root.path().join("store"));
    for name in ["../evil", "/tmp/evil", "a/../../evil", ".manifest.json"] {
        let refused = store.write(&set(&[("main.cfg", "x"), (name, "y")]), None);
        assert!(refused.is_err(), "{name}");
    }
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    let live = install(&store, &set(&[("main.cfg", "live")]));
    // A file where a directory is needed, whoever runs the test.
    let refused = store.write(&set(&[("main.cfg", "x"), ("main.cfg/inside", "y")]), None);
    assert!(refused.is_err());
    assert_eq!(store.current(), Stored::Good(live));
    assert_eq!(
        fs::read_dir(root.path().join("versions")).unwrap().count(),
        1
    );
}
