//! A directory of ordinary Kubernetes YAML as a source.
//!
//! [`store`] is pure: contents of files in, events out. This file reads and watches (inotify).
//! Files are read again only when something happened to them.

mod documents;
mod store;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::k8s::Detail;
use model::{Event, KindSet};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use documents::parse;
use store::Store;

/// What is done to several files at once comes this close.
const QUIET: Duration = Duration::from_millis(2);
/// Names of files that changed, of which a full channel means "look at all of them".
const CHANGED_FILES: usize = 1024;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("--manifests {}: cannot be read; give a directory of Kubernetes YAML files", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It cannot be watched.
    #[error("--manifests {}: cannot be watched for changes; raise fs.inotify.max_user_watches or max_user_instances", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: notify::Error,
    },
}

/// What happened in the directory.
enum Change {
    File(PathBuf),
    Anything,
}

pub(crate) async fn run(
    directory: PathBuf,
    detail: Detail,
    kinds: KindSet,
    events: mpsc::Sender<Event>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let unreadable = |source| Error::Directory {
        path: directory.clone(),
        source,
    };
    // News are of absolute paths, and a file must not have two.
    let directory = std::path::absolute(&directory).map_err(unreadable)?;
    let (sender, mut changes) = mpsc::channel(CHANGED_FILES);
    // Watched before it is read, so that no change falls between the two.
    let _watcher = watch(&directory, sender)?;
    let mut store = Store::new(detail, kinds);
    let files = list(&directory).map_err(unreadable)?;
    let first = store.start(files.into_iter().collect(), read);
    if hand_on(&events, first).await.is_err() {
        return Ok(());
    }
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = events.closed() => return Ok(()),
            next = changes.recv() => next,
        };
        let Some(first) = next else { return Ok(()) };
        let mut batch = vec![first];
        while let Ok(Some(more)) = tokio::time::timeout(QUIET, changes.recv()).await {
            batch.push(more);
        }
        let touched = match touched(&directory, batch) {
            Some(files) => files,
            None => store
                .files()
                .chain(list(&directory).map_err(unreadable)?)
                .collect(),
        };
        let fresh = touched.into_iter().map(|path| (path.clone(), read(&path)));
        let news = store.update(fresh.collect::<Vec<_>>());
        if hand_on(&events, news).await.is_err() {
            return Ok(());
        }
    }
}

async fn hand_on(
    events: &mpsc::Sender<Event>,
    news: Vec<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    for event in news {
        events.send(event).await?;
    }
    Ok(())
}

fn watch(directory: &Path, changes: mpsc::Sender<Change>) -> Result<RecommendedWatcher, Error> {
    let refused = |source| Error::Watch {
        path: directory.into(),
        source,
    };
    if let Err(source) = std::fs::read_dir(directory) {
        return Err(Error::Directory {
            path: directory.into(),
            source,
        });
    }
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let seen = match event {
            Ok(event) if !tells(event.kind) => Vec::new(),
            Ok(event) if !event.need_rescan() => {
                event.paths.into_iter().map(Change::File).collect()
            }
            // The kernel's queue ran over, or worse.
            Ok(_) | Err(_) => vec![Change::Anything],
        };
        for change in seen {
            // When the channel is closed, nobody is interested any more.
            if changes.blocking_send(change).is_err() {
                return;
            }
        }
    })
    .map_err(refused)?;
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(refused)?;
    Ok(watcher)
}

/// Whether a file is to be read again. While it is written it is not whole, nor before: `cat > file`
/// empties it first. Who writes closes it in the end.
fn tells(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(what) => !matches!(what, ModifyKind::Data(_)),
        EventKind::Any | EventKind::Create(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// The manifests among what changed; `None` where that could be any of them.
fn touched(directory: &Path, batch: Vec<Change>) -> Option<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for change in batch {
        match change {
            // A mounted ConfigMap changes by replacing the link `..data`, to which all names lead.
            Change::File(path)
                if path == directory || path.file_name() == Some(OsStr::new("..data")) =>
            {
                return None;
            }
            Change::File(path) if is_manifest(&path) => drop(files.insert(path)),
            Change::File(_) => {}
            Change::Anything => return None,
        }
    }
    Some(files)
}

fn list(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| is_manifest(path))
        .collect())
}

/// Hidden files are an editor's, or a mounted ConfigMap's workings.
fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension == *known)
    });
    known && !hidden
}

/// The text of a file; `None` for what is no file any more.
fn read(path: &Path) -> Option<String> {
    match std::fs::read(path) {
        Ok(bytes) => Some(
            String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "cannot be read; it counts as removed");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;

    use model::Kind;

    use super::*;

    const SERVICES: &str = "{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: a}, spec: {clusterIP: 10.96.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: b}, spec: {clusterIP: 10.96.0.2}}
";

    #[tokio::test]
    async fn a_directory_may_be_named_from_where_one_is() {
        let here = std::env::current_dir().unwrap();
        let directory = tempfile::tempdir_in(&here).unwrap();
        let relative = Path::new(".").join(directory.path().strip_prefix(&here).unwrap());
        let file = directory.path().join("services.yaml");
        fs::write(&file, SERVICES).unwrap();
        let (sender, mut events) = mpsc::channel(100);
        let kinds: KindSet = [Kind::Service].into();
        let cancel = CancellationToken::new();
        let _task = tokio::spawn(run(relative, Detail::default(), kinds, sender, cancel));
        let is_of_an_object = |event: &Event| !matches!(event, Event::Source { .. });
        let mut next = async || loop {
            let event = events.recv().await.unwrap();
            if is_of_an_object(&event) {
                break event;
            }
        };
        assert!(matches!(next().await, Event::Replaced { .. }));
        fs::write(&file, SERVICES.replace("10.96.0.2", "10.96.0.3")).unwrap();
        let event = next().await;
        assert!(
            matches!(&event, Event::Applied { key, .. } if *key.name == *"b"),
            "{event:?}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_written_in_place_counts_when_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("services.yaml");
        fs::write(&file, SERVICES).unwrap();
        let (sender, mut events) = mpsc::channel(100);
        let cancel = CancellationToken::new();
        let kinds: KindSet = [Kind::Service].into();
        let path = directory.path().to_owned();
        let task = tokio::spawn(run(path, Detail::default(), kinds, sender, cancel.clone()));
        let started = events.recv().await.unwrap();
        assert!(
            matches!(&started, Event::Replaced { objects, .. } if objects.len() == 2),
            "{started:?}"
        );
        // The state of the source comes with it.
        tokio::time::sleep(100 * QUIET).await;
        while events.try_recv().is_ok() {}

        let changed = SERVICES.replace("10.96.0.2", "10.96.0.3");
        let (half, rest) = changed.split_at(changed.len() / 2);
        let mut writer = File::create(&file).unwrap();
        for part in [half, rest] {
            tokio::time::sleep(100 * QUIET).await;
            assert!(events.try_recv().is_err(), "the file is not whole yet");
            writer.write_all(part.as_bytes()).unwrap();
        }
        drop(writer);
        let event = events.recv().await.unwrap();
        assert!(
            matches!(&event, Event::Applied { key, .. } if *key.name == *"b"),
            "{event:?}"
        );
        tokio::time::sleep(100 * QUIET).await;
        assert!(events.try_recv().is_err(), "nothing else has changed");
        fs::remove_file(&file).unwrap();
        for _ in 0..2 {
            let event = events.recv().await.unwrap();
            assert!(matches!(event, Event::Deleted { .. }), "{event:?}");
        }
        cancel.cancel();
        task.await.unwrap().unwrap();
    }
}
