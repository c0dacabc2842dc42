//! Versions are written here, and become current.

use std::path::{Component, Path, PathBuf};

use super::{
    CURRENT, Candidate, Extent, FilesError, LAST_GOOD, Manifest, Ownership, Place, Store, manifest,
    write,
};
use crate::output::{Grammar, Rendered};

impl Store {
    /// Opens the versions below `root`, which is made where it is not there, and removes what a
    /// killed run left half-written.
    ///
    /// # Errors
    /// [`FilesError`] where the directory cannot be made or read.
    pub fn open(root: &Path, place: Place, ownership: Ownership) -> Result<Self, FilesError> {
        let store = Self {
            root: root.to_owned(),
            place,
            ownership,
        };
        write::directory(&store.versions(), false, &store.ownership)?;
        store.clean()?;
        Ok(store)
    }

    /// The directory that the versions are in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that the proxy is to be started with, once a version is installed.
    pub fn main(&self, manifest: &Manifest) -> PathBuf {
        match &self.place {
            Place::Directory => self.root.join(CURRENT).join(&manifest.main),
            Place::File(path) => path.clone(),
        }
    }

    /// Writes a version beside what is live, through to the disk. The live files are not touched.
    ///
    /// # Errors
    /// [`FilesError`]; nothing is left half-written.
    pub fn write(
        &self,
        rendered: &Rendered,
        extent: Option<Extent>,
    ) -> Result<Candidate, FilesError> {
        let manifest = Manifest::of(rendered, extent);
        self.permit(rendered)?;
        let directory = self.version(&manifest);
        if Manifest::verified(&directory).is_err() {
            let beside = write::temporary(&directory);
            let written = self.write_version(rendered, &manifest, &beside, &directory);
            if written.is_err() {
                // What is left is removed at the next start as well.
                let _removed = write::remove(&beside);
            }
            written?;
        }
        let main = match &self.place {
            Place::Directory => directory.join(&manifest.main),
            Place::File(path) => self.write_beside(path, rendered)?,
        };
        Ok(Candidate { manifest, main })
    }

    /// Makes a version what the proxy reads.
    ///
    /// # Errors
    /// [`FilesError`]; what was live still is.
    pub fn switch(&self, candidate: &Candidate) -> Result<(), FilesError> {
        if let Place::File(path) = &self.place {
            write::rename(&write::temporary(path), path)?;
        }
        self.point(CURRENT, &candidate.manifest)
    }

    /// Removes a version that is not to be switched to.
    pub fn discard(&self, candidate: &Candidate) {
        let is_used = [CURRENT, LAST_GOOD].iter().any(|link| {
            self.linked(link)
                .is_some_and(|it| it == candidate.manifest.digest)
        });
        if !is_used {
            // What cannot be removed is no version that anything points at; `clean` tries again.
            let _removed = write::remove(&self.version(&candidate.manifest));
        }
        if let Place::File(path) = &self.place {
            let _removed = write::remove(&write::temporary(path));
        }
    }

    fn permit(&self, rendered: &Rendered) -> Result<(), FilesError> {
        let refused = |message: &str| Err(FilesError::refused("write", &self.root, message));
        if !rendered.files.contains_key(&rendered.main) {
            return refused("the set has no main file");
        }
        let is_plain = |name: &String| {
            name != manifest::NAME
                && Path::new(name)
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)))
        };
        if !rendered.files.keys().all(is_plain) {
            return refused("a file's name leads out of the directory");
        }
        if matches!(self.place, Place::File(_)) && rendered.files.len() > 1 {
            return refused("several files cannot be switched at once there; give a directory");
        }
        Ok(())
    }

    fn write_version(
        &self,
        rendered: &Rendered,
        manifest: &Manifest,
        beside: &Path,
        directory: &Path,
    ) -> Result<(), FilesError> {
        write::remove(beside).map_err(|error| FilesError::of("remove", beside, error))?;
        write::directory(beside, false, &self.ownership)?;
        let mut directories = vec![beside.to_owned()];
        for (name, file) in &rendered.files {
            let path = beside.join(name);
            let parent = path.parent().unwrap_or(beside).to_owned();
            if !directories.contains(&parent) {
                let inside = Path::new(name).parent().unwrap_or(Path::new(""));
                let is_private = rendered
                    .files
                    .iter()
                    .filter(|(other, _)| Path::new(other).starts_with(inside))
                    .all(|(_, file)| file.is_private);
                write::directory(&parent, is_private, &self.ownership)?;
                directories.push(parent);
            }
            let is_linked = file.grammar == Grammar::Pem && self.reuse(name, &file.content, &path);
            if !is_linked {
                write::new_file(&path, &file.content, file.is_private, &self.ownership)?;
            }
        }
        let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        write::new_file(&beside.join(manifest::NAME), &text, false, &self.ownership)?;
        for directory in &directories {
            write::sync_directory(directory)?;
        }
        // A version of this checksum that is there was found corrupt.
        write::remove(directory).map_err(|error| FilesError::of("remove", directory, error))?;
        write::rename(beside, directory)
    }

    /// Links a certificate that the current version has already: there may be ten thousand, each
    /// of which would be written and synced at every change of one.
    fn reuse(&self, name: &str, content: &[u8], path: &Path) -> bool {
        let there = self.root.join(CURRENT).join(name);
        std::fs::read(&there).is_ok_and(|found| found == content)
            && std::fs::hard_link(&there, path).is_ok()
    }

    pub(super) fn write_beside(
        &self,
        path: &Path,
        rendered: &Rendered,
    ) -> Result<PathBuf, FilesError> {
        let file = rendered
            .files
            .get(&rendered.main)
            .ok_or_else(|| FilesError::refused("write", path, "the set has no main file"))?;
        self.write_one(path, &file.content, file.is_private)?;
        Ok(write::temporary(path))
    }

    pub(super) fn write_one(
        &self,
        path: &Path,
        content: &[u8],
        is_private: bool,
    ) -> Result<(), FilesError> {
        let beside = write::temporary(path);
        write::remove(&beside).map_err(|error| FilesError::of("remove", &beside, error))?;
        let written = write::new_file(&beside, content, is_private, &self.ownership);
        if written.is_err() {
            let _removed = write::remove(&beside);
        }
        written
    }
}
