//! Which versions are on disk, which of them is current, and what there is to start from.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{
    CURRENT, FilesError, HISTORY, LAST_GOOD, Manifest, Place, Restored, Store, Stored, VERSIONS,
    write,
};
use crate::output::Rendered;

impl Store {
    /// Remembers that the proxy was seen running `manifest`, and forgets old versions.
    ///
    /// # Errors
    /// [`FilesError`] where the link cannot be made.
    pub fn confirm(&self, manifest: &Manifest) -> Result<(), FilesError> {
        if self.linked(LAST_GOOD).as_deref() != Some(&manifest.digest) {
            self.point(LAST_GOOD, manifest)?;
        }
        self.clean()
    }

    /// Makes the last good version what the proxy reads.
    ///
    /// # Errors
    /// [`FilesError`] where there is none that can be used.
    pub fn roll_back(&self) -> Result<Manifest, FilesError> {
        let link = self.root.join(LAST_GOOD);
        let manifest = match self.last_good() {
            Stored::Good(manifest) => manifest,
            Stored::Nothing => {
                return Err(FilesError::refused("roll back to", &link, "there is none"));
            }
            Stored::Corrupt(why) => return Err(FilesError::refused("roll back to", &link, why)),
        };
        self.reinstall(&manifest)?;
        Ok(manifest)
    }

    /// Finds what to start from: `current` where it is good, else the last good version.
    ///
    /// # Errors
    /// [`FilesError`] where the last good version cannot be put in place.
    pub fn restore(&self) -> Result<Restored, FilesError> {
        let corrupt = match self.current() {
            Stored::Good(manifest) => return Ok(Restored::Current(manifest)),
            Stored::Corrupt(why) => Some(why),
            Stored::Nothing => None,
        };
        Ok(match (self.last_good(), corrupt) {
            (Stored::Good(manifest), corrupt) => {
                self.reinstall(&manifest)?;
                let corrupt = corrupt.unwrap_or_else(|| "it is not there".to_owned());
                Restored::LastGood { manifest, corrupt }
            }
            (Stored::Nothing, None) => Restored::Nothing,
            (Stored::Nothing, Some(why)) => Restored::Corrupt(why),
            (Stored::Corrupt(last), None) => Restored::Corrupt(format!("last good: {last}")),
            (Stored::Corrupt(last), Some(why)) => {
                Restored::Corrupt(format!("{why}; last good: {last}"))
            }
        })
    }

    /// The version that the proxy reads, as it stands on disk now.
    pub fn current(&self) -> Stored {
        match (self.stored(CURRENT), &self.place) {
            (Stored::Good(manifest), Place::File(path)) => match self.same_file(&manifest, path) {
                Ok(()) => Stored::Good(manifest),
                Err(why) => Stored::Corrupt(why),
            },
            (other, _) => other,
        }
    }

    /// The files of a version, as they were rendered.
    pub fn read(&self, manifest: &Manifest) -> Option<Rendered> {
        manifest.rendered(&self.version(manifest))
    }

    /// The version that the proxy was last seen running.
    pub fn last_good(&self) -> Stored {
        self.stored(LAST_GOOD)
    }

    fn same_file(&self, manifest: &Manifest, path: &Path) -> Result<(), String> {
        let kept = std::fs::read(self.version(manifest).join(&manifest.main));
        match (kept, std::fs::read(path)) {
            (Ok(kept), Ok(found)) if kept == found => Ok(()),
            (_, Err(error)) => Err(format!("{} cannot be read: {error}", path.display())),
            _ => Err(format!("{} was changed by someone else", path.display())),
        }
    }

    fn reinstall(&self, manifest: &Manifest) -> Result<(), FilesError> {
        if let Place::File(path) = &self.place {
            let kept = self.version(manifest).join(&manifest.main);
            let content =
                std::fs::read(&kept).map_err(|error| FilesError::of("read", &kept, error))?;
            let is_private = manifest.files.values().any(|entry| entry.is_private);
            self.write_one(path, &content, is_private)?;
            write::rename(&write::temporary(path), path)?;
        }
        self.point(CURRENT, manifest)
    }

    pub(super) fn stored(&self, link: &str) -> Stored {
        let path = self.root.join(link);
        if path.symlink_metadata().is_err() {
            return Stored::Nothing;
        }
        match Manifest::verified(&path) {
            Ok(manifest) if self.linked(link).as_deref() == Some(&manifest.digest) => {
                Stored::Good(manifest)
            }
            Ok(_) => Stored::Corrupt(format!("{}: not the version it is named", path.display())),
            Err(why) => Stored::Corrupt(format!("{}: {why}", path.display())),
        }
    }

    pub(super) fn point(&self, link: &str, manifest: &Manifest) -> Result<(), FilesError> {
        let target = Path::new(VERSIONS).join(&manifest.digest);
        write::link(&self.root.join(link), &target)
    }

    pub(super) fn linked(&self, link: &str) -> Option<String> {
        let target = std::fs::read_link(self.root.join(link)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    pub(super) fn versions(&self) -> PathBuf {
        self.root.join(VERSIONS)
    }

    pub(super) fn version(&self, manifest: &Manifest) -> PathBuf {
        self.versions().join(&manifest.digest)
    }

    /// Removes what was left half-written, and versions that are neither used nor recent.
    pub(super) fn clean(&self) -> Result<(), FilesError> {
        let used = [self.linked(CURRENT), self.linked(LAST_GOOD)];
        let mut old = Vec::new();
        for directory in [&self.root, &self.versions()] {
            let entries = std::fs::read_dir(directory)
                .map_err(|error| FilesError::of("list", directory, error))?;
            for entry in entries.flatten() {
                let name = entry.file_name();
                let is_version = directory.file_name() == Some(OsStr::new(VERSIONS));
                if name.to_str().is_some_and(write::is_temporary) {
                    // It is in nobody's way; the next start tries again.
                    let _removed = write::remove(&entry.path());
                } else if is_version && !used.iter().flatten().any(|used| name == used.as_str()) {
                    let written = entry.metadata().and_then(|found| found.modified()).ok();
                    old.push((written, entry.path()));
                }
            }
        }
        if let Place::File(path) = &self.place {
            let _removed = write::remove(&write::temporary(path));
        }
        old.sort();
        for (_, path) in old.iter().rev().skip(HISTORY) {
            let _removed = write::remove(path);
        }
        Ok(())
    }
}
